"""The digits that come with scikit-learn: real data that needs no download."""

import numpy as np

from bnzoo.config.data import Data
from bnzoo.data.source import Source, array_examples, image_shape
from bnzoo.data.splitting import stratified_split

TEST_SHARE = 0.2
"""The set is published without a test split; this one is ours, drawn once, whatever the seed."""

_MAX_INTENSITY = 16  # each value counts the dark pixels of a 4 x 4 block of the scan


def open_digits(settings: Data, memory_limit: int) -> Source:
    """Load the 1,797 images as uint8 of shape (8, 8, 1)."""
    from sklearn.datasets import load_digits

    bundled = load_digits()
    images = np.round(bundled.images * 255 / _MAX_INTENSITY).astype(np.uint8)[..., np.newaxis]
    train, test = stratified_split(bundled.target, TEST_SHARE, seed=0)
    shape = image_shape(images.shape[1:], settings)
    return Source(
        train=array_examples(images[train], bundled.target[train], shape, memory_limit),
        test=array_examples(images[test], bundled.target[test], shape, memory_limit),
        class_names=tuple(str(name) for name in bundled.target_names),
        example_shape=shape,
    )
