"""The `data:` section: which examples a run sees, and in what form. Loads no TensorFlow."""

import re
from typing import Any, Literal

from pydantic import field_validator, model_validator

from bnzoo.config.base import Section
from bnzoo.errors import nearest

DATASETS: dict[str, str] = {
    "digits": "1,797 gray digits, 8 x 8, bundled with scikit-learn: works offline, at once",
    "devanagari_digits": "17,000 + 3,000 gray Devanagari digits, 32 x 32 (UCI 389, CC BY 4.0)",
    "mnist": "60,000 + 10,000 gray digits, 28 x 28",
    "cifar10": "50,000 + 10,000 colour photographs in ten classes, 32 x 32",
    "tfds:<name>": "any supervised image set of TensorFlow Datasets with train and test splits",
    "folder:<path>": "your own images: train/<class>/* and test/<class>/*, PNG, JPEG, BMP or GIF",
    "npz:<path>": "your own arrays: x_train y_train x_test y_test, and class_names if you like",
}
DATASET_NAMES = tuple(DATASETS)

PADDING_VALUE = -1.0
"""What fills the steps after the end of a shortened sequence, as a model input (no unit).

Pixels are scaled to [0, 1] and a row of a real image may be all zero, so zero cannot mark padding.
"""

_PREFIXES = ("tfds", "folder", "npz")
_TFDS_NAME = re.compile(r"[A-Za-z]\w*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?")


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a data set into its kind and what follows the colon.

    Args:
        name: such as `"mnist"` or `"folder:photos"`.

    Returns:
        `("folder", "photos")` for a name with one of the known prefixes, else `(name, "")`.
    """
    prefix, colon, rest = name.partition(":")
    return (prefix, rest) if colon and prefix in _PREFIXES else (name, "")


def _check_name(name: str) -> str:
    kind, rest = split_name(name)
    if kind in _PREFIXES:
        if not rest.strip():
            what = "the name of a TFDS data set" if kind == "tfds" else "a path"
            raise ValueError(f"expected {what} after the colon, got {name!r}. Write {kind}:<...>.")
        if kind == "tfds" and not _TFDS_NAME.fullmatch(rest):
            raise ValueError(
                f"expected tfds:<name>, tfds:<name>/<config> or tfds:<name>:<version>, "
                f"got {name!r}. Names are listed at https://www.tensorflow.org/datasets/catalog."
            )
    elif name not in DATASETS:
        hint = nearest(name, [*(known for known in DATASETS if "<" not in known), *_PREFIXES])
        known = ", ".join(DATASETS)
        raise ValueError(f"expected one of {known}, got {name!r}. {hint or 'Choose one of these.'}")
    return name


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class Data(Section):
    """Which data set, how it is split, and how an example becomes the input of the model.

    Attributes:
        name: one of `DATASETS`.
        batch_size: examples per step, above 0; 32 is what the published recipes use.
        validation: share of the training data held back, in (0, 1), drawn class by class; or
            `"test"`, the test data itself (the protocol of many published tables); or `"none"`.
        augment: `"flip_crop"` mirrors a training image in half of the cases and shifts it by up
            to 4 pixels each way, with zeros from outside the image.
        image_size: height and width in pixels to resize to, or `None` to keep the size.
        color_mode: `"grayscale"`, `"rgb"`, or `"auto"` to keep what the images have.
        skip_unreadable: leave out the files of a folder that cannot be decoded, and count them.
        view: `"image"` (height, width, channels), `"rows"`, one step per pixel row (height,
            width * channels), or `"flat"`, one vector. Feature arrays keep their shape as images.
        min_length: with `"rows"`: each example is cut to a random number of steps, from this one
            to all, and padded with `PADDING_VALUE`. `None` keeps every step.
    """

    name: str
    batch_size: int = 32
    validation: float | Literal["test", "none"] = 0.1
    augment: Literal["none", "flip_crop"] = "none"
    image_size: tuple[int, int] | None = None
    color_mode: Literal["auto", "grayscale", "rgb"] = "auto"
    skip_unreadable: bool = False
    view: Literal["image", "rows", "flat"] = "image"
    min_length: int | None = None

    @field_validator("name")
    @classmethod
    def _name_is_known(cls, name: str) -> str:
        return _check_name(name)

    @field_validator("batch_size", mode="before")
    @classmethod
    def _batch_size_is_positive(cls, value: Any) -> int:
        if not _is_whole(value) or value < 1:
            raise ValueError(
                f"expected a whole number above 0, got {value!r}. It counts the examples of a step."
            )
        return value

    @field_validator("validation", mode="before")
    @classmethod
    def _validation_is_a_share(cls, value: Any) -> float | str:
        if value is None:  # YAML spells null in several ways; all of them mean none
            return "none"
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value in ("test", "none") or (is_number and 0 < value < 1):
            return value
        raise ValueError(
            f"expected a fraction between 0 and 1, test or none, got {value!r}. "
            "For example 0.1 holds back a tenth of the training data."
        )

    @field_validator("augment", mode="before")
    @classmethod
    def _augment_may_be_null(cls, value: Any) -> Any:
        return "none" if value is None else value

    @field_validator("image_size", mode="before")
    @classmethod
    def _image_size_is_a_pair(cls, value: Any) -> Any:
        if value is None:
            return None
        value = list(value) if isinstance(value, tuple) else value  # as it was written in YAML
        is_pair = isinstance(value, list) and len(value) == 2
        if not is_pair or not all(_is_whole(side) and side > 0 for side in value):
            raise ValueError(
                f"expected [height, width] in pixels, both above 0, or null, got {value!r}. "
                "For example [32, 32]."
            )
        return tuple(value)

    @field_validator("min_length", mode="before")
    @classmethod
    def _min_length_is_positive(cls, value: Any) -> Any:
        if value is not None and (not _is_whole(value) or value < 1):
            raise ValueError(
                f"expected a whole number above 0 or null, got {value!r}. "
                "It is the smallest number of steps that an example keeps."
            )
        return value

    @model_validator(mode="after")
    def _combination_is_supported(self) -> "Data":
        if self.min_length is not None and self.view != "rows":
            raise ValueError(
                f"min_length: expected view: rows beside it, got view: {self.view} and "
                f"min_length: {self.min_length}. Set view: rows or leave min_length out."
            )
        return self
