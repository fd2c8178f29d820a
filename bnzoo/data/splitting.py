"""Holding examples back for validation, class by class."""

import numpy as np


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide examples so that each class gives its share.

    The total is `round(len(labels) * fraction)` where the classes allow it; what rounding down
    leaves over goes to the classes with the largest remainders. A class never gives its last
    example away, so every class that has one keeps one.

    Args:
        labels: int array of shape (n,).
        fraction: share to hold back, in (0, 1).
        seed: decides which examples; the same seed holds back the same ones.

    Returns:
        int64 indices of the examples that stay, and of those held back, both ascending.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * fraction
    held = np.floor(shares).astype(np.int64)
    left_over = round(len(labels) * fraction) - int(held.sum())
    by_remainder = np.argsort(held - shares, kind="stable")
    held[by_remainder[: max(left_over, 0)]] += 1
    held = np.minimum(held, counts - 1)
    generator = np.random.default_rng([seed, 0x5917])  # apart from other uses of the same seed
    is_held = np.zeros(len(labels), bool)
    for label, count in zip(classes, held, strict=True):
        members = np.flatnonzero(labels == label)
        is_held[generator.permutation(members)[:count]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)
