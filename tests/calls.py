"""Short calls of `bnzoo.ops` for tests."""

from bnzoo.ops import Settings, batch_norm


def normalize_batch(inputs, gamma=None, beta=None, mask=None, **settings):
    """Call `bnzoo.ops.batch_norm` with single settings."""
    return batch_norm(inputs, gamma, beta, mask, Settings(**settings))
