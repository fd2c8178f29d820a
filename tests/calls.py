"""Short calls of `bnzoo.ops` for tests, and what stands in for a full disk."""

import contextlib
import resource

from bnzoo.ops import Settings, batch_norm


def normalize_batch(inputs, gamma=None, beta=None, mask=None, **settings):
    """Call `bnzoo.ops.batch_norm` with single settings."""
    return batch_norm(inputs, gamma, beta, mask, Settings(**settings))


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond so many bytes, which is an error of the same kind as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
