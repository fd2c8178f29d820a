"""Is a TFDS data set one that a classifier of images can learn from?"""

import numpy as np
import tensorflow_datasets as tfds

from bnzoo.errors import InputError


def check_classification(builder: tfds.core.DatasetBuilder, name: str) -> tuple[str, str]:
    """Return the names of the image and the label among the features of a data set.

    Nothing has to be downloaded for this question.

    Raises:
        InputError: unless the set pairs an image of 8 bits a channel with a class label.
    """
    info = builder.info
    keys = info.supervised_keys
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = info.features[keys[0]], info.features[keys[1]]
        is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
        if is_image and isinstance(label, tfds.features.ClassLabel):
            return keys
    raise InputError(
        f"{name} is not a supervised image classification set (its supervised keys are {keys}); "
        "expected an image of 8 bits a channel and a class label. Choose another set."
    )


def check_splits(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Refuse a prepared data set without train or test split.

    Raises:
        InputError: naming the splits that there are.
    """
    splits = builder.info.splits
    if "train" not in splits or "test" not in splits:
        raise InputError(
            f"{name} has the splits {', '.join(splits) or 'none'}; expected train and test. "
            "Choose another set, or export it as a folder or an npz file with both."
        )
