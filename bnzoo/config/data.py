"""The `data:` section: which examples a run sees, and in what form. Loads no TensorFlow."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from bnzoo.config.own import checked_reference
from bnzoo.config.section import PositiveInt, Section, whole
from bnzoo.errors import nearest
from bnzoo.own_code import is_reference

DATASETS: dict[str, str] = {
    "digits": "1,797 gray digits, 8 x 8, bundled with scikit-learn: works offline, at once",
    "devanagari_digits": "17,000 + 3,000 gray Devanagari digits, 32 x 32 (UCI 389, CC BY 4.0)",
    "mnist": "60,000 + 10,000 gray digits, 28 x 28",
    "cifar10": "50,000 + 10,000 color photographs in ten classes, 32 x 32",
    "tfds:<name>": "any supervised image set of TensorFlow Datasets with train and test splits",
    "folder:<path>": "your own images: train/<class>/* and test/<class>/*, PNG, JPEG, BMP or GIF",
    "npz:<path>": "your own arrays: x_train y_train x_test y_test, and class_names if you like",
    "<file.py>:<function>": "your own function, which returns arrays or data sets of batches",
}

_ANY_IMAGE = (None, None, None)
_SHAPES = {
    "digits": ((8, 8, 1), 10),
    "devanagari_digits": ((32, 32, 1), 10),
    "mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "tfds": (_ANY_IMAGE, None),
    "folder": (_ANY_IMAGE, None),
}
CHANNELS = {"grayscale": 1, "rgb": 3}
"""Of the values of `color_mode` but `auto`."""

PADDING_VALUE = -1.0
"""What fills the steps after the end of a shortened sequence, as a model input (no unit).

Pixels are scaled to [0, 1] and a row of a real image may be all zero, so zero cannot mark padding.
"""

_OF_NAMED = (
    "train_size",
    "test_size",
    "augment",
    "image_size",
    "color_mode",
    "skip_unreadable",
    "view",
    "min_length",
)
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
    if kind == "tfds" and not _TFDS_NAME.fullmatch(rest):
        raise ValueError(
            f"expected tfds:<name>, tfds:<name>/<config> or tfds:<name>:<version>, got {name!r}. "
            "Names are listed at https://www.tensorflow.org/datasets/catalog."
        )
    if kind in ("folder", "npz") and not rest.strip():
        raise ValueError(f"expected a path after the colon, got {name!r}. Write {kind}:<path>.")
    if kind not in _PREFIXES and (is_reference(name) or ".py" in name):
        return checked_reference(name)
    if kind not in _PREFIXES and name not in DATASETS:
        hint = nearest(name, [*(known for known in DATASETS if "<" not in known), *_PREFIXES])
        if name.endswith(".npz") or "/" in name:
            hint = f"Write {'npz' if name.endswith('.npz') else 'folder'}:{name}."
        known = ", ".join(DATASETS)
        raise ValueError(f"expected one of {known}, got {name!r}. {hint or 'Choose one of these.'}")
    return name


class Data(Section):
    """Which data set, how it is split, and how an example becomes the input of the model.

    Attributes:
        name: a data set; `bnzoo datasets` lists them. Or a function of your own, such as
            `my_data.py:load`: it is called with those of `batch_size`, `seed` and `params` that it
            takes, and returns its examples ready for the model.
        batch_size: examples per step; 32 is what the published recipes use.
        validation: share of the training data held back, drawn class by class; or `test`, the test
            data itself (the protocol of many published tables); or `none`.
        test: share of the arrays of a function of your own that is held back for the test, the same
            for every seed, where it returns no `test`; or `none`. Null is 0.2 of one (x, y).
        train_size: number of training examples used, of those that are not held back for
            validation; null is all. They are drawn class by class, and the same for every seed,
            but for those that the seed holds back.
        test_size: number of test examples used; null is all. They are drawn class by class, and the
            same for every seed.
        params: more arguments of a function of your own.
        augment: `flip_crop` mirrors a training image in half of the cases and shifts it by up to 4
            pixels each way, with zeros from outside the image.
        image_size: height and width in pixels to resize to; null keeps the size.
        color_mode: channels to convert to; `auto` keeps what the images have.
        skip_unreadable: leave out the files of a folder that cannot be decoded, and count them.
        view: `image` (height, width, channels); `rows`, one step per pixel row (height, width *
            channels); or `flat`, one vector. Arrays of shape (n, a, b) are gray images, with
            `rows` sequences of a steps; others keep their shape with `image`.
        min_length: with `view: rows`, each example is cut to a random number of steps, from this
            one to all, and padded with -1; null keeps every step.
    """

    name: Annotated[str, AfterValidator(_check_name)]
    batch_size: PositiveInt = 32
    validation: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | Literal["test", "none"],
        whole(
            "a fraction between 0 and 1, test or none",
            "For example 0.1 holds back a tenth of the training data.",
        ),
    ] = 0.1
    test: (
        Annotated[
            Annotated[float, Field(gt=0, lt=1)] | Literal["none"],
            whole("a fraction between 0 and 1, or none", "For example 0.2."),
        ]
        | None
    ) = None
    train_size: PositiveInt | None = None
    test_size: PositiveInt | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    augment: Literal["none", "flip_crop"] = "none"
    image_size: (
        Annotated[
            tuple[PositiveInt, PositiveInt],
            whole("[height, width] in pixels, both above 0, or null", "For example [32, 32]."),
        ]
        | None
    ) = None
    color_mode: Literal["auto", "grayscale", "rgb"] = "auto"
    skip_unreadable: bool = False
    view: Literal["image", "rows", "flat"] = "image"
    min_length: PositiveInt | None = None

    @field_validator("validation", "augment", mode="before")
    @classmethod
    def _null_is_none(cls, value: Any) -> Any:
        return "none" if value is None else value  # YAML spells null in several ways

    @model_validator(mode="after")
    def _combination_is_supported(self) -> "Data":
        if self.min_length is not None and self.view != "rows":
            raise ValueError(
                f"min_length: expected view: rows beside it, got view: {self.view} and "
                f"min_length: {self.min_length}. Set view: rows or leave min_length out."
            )
        unused = _OF_NAMED if self.is_own else ("test", "params")
        for key in unused:
            if getattr(self, key) != type(self).model_fields[key].get_default(
                call_default_factory=True
            ):
                kind = "a data set by its name" if self.is_own else "a function of your own"
                raise ValueError(
                    f"{key}: expected only with {kind}, got {getattr(self, key)!r} with "
                    f"{self.name}. Leave it out."
                )
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is a function of the user's own."""
        return split_name(self.name)[0] not in _PREFIXES and is_reference(self.name)

    def known_shape(self) -> tuple[tuple[int | None, ...], int | None] | None:
        """Return what the name alone says of the raw examples.

        Returns:
            (height, width, channels) and the number of classes, `None` where they differ from set
            to set; `None` for arrays, which need not be images.
        """
        return _SHAPES.get(split_name(self.name)[0])

    def input_shape(self, raw: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape of one model input, from (height, width, channels) of raw images.

        Args:
            raw: `None` where a size is not known; then what follows from it is `None` too.
        """
        height, width = self.image_size or raw[:2]
        channels = CHANNELS.get(self.color_mode, raw[2])
        if self.view == "image":
            return height, width, channels
        if self.view == "rows":
            return height, _product(width, channels)
        return (_product(height, width, channels),)


def _product(*sizes: int | None) -> int | None:
    return None if None in sizes else math.prod(sizes)
