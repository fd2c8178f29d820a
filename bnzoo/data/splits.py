"""What `bnzoo.data.load` returns, and how it is put together from a source."""

import dataclasses

import numpy as np
import tensorflow as tf

from bnzoo.config.data import Data
from bnzoo.data import pipeline
from bnzoo.data.fingerprint import fingerprint
from bnzoo.data.pipeline import EpochCounter
from bnzoo.data.preprocessing import Preprocessing
from bnzoo.data.randomness import Purpose
from bnzoo.data.source import Source
from bnzoo.data.splitting import stratified_split
from bnzoo.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """A data set, ready for `model.fit`.

    Each data set yields batches (x, y): x float32 of shape (batch, *input_shape), y int32 of shape
    (batch,). The last batch of a split may be smaller.

    Attributes:
        name: of the data set, as it was asked for.
        train: reshuffled each time it is iterated; see `begin_epoch`.
        validation: always in the same order; `None` for `validation: none`, and the test data for
            `validation: test`.
        test: always in the same order.
        num_classes: number of classes.
        input_shape: shape of one x, without the batch.
        class_names: one name for each class, in the order of the labels.
        num_train: training examples.
        num_validation: validation examples, 0 without validation.
        num_test: test examples.
        skipped: paths of files that could not be decoded, under `skip_unreadable`.
        preprocessing: how a raw image becomes an x.
        fingerprint: differs when classes, labels, pixels or files differ; see `fingerprint.py`.
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset | None
    test: tf.data.Dataset
    num_classes: int
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    num_train: int
    num_validation: int
    num_test: int
    skipped: tuple[str, ...]
    preprocessing: Preprocessing
    fingerprint: str
    _counter: EpochCounter = dataclasses.field(repr=False)

    def begin_epoch(self, epoch: int) -> None:
        """Let the next iteration over `train` present this epoch, counted from 0.

        The order and the augmentation of an epoch depend on the seed and this number alone, so a
        training that is resumed at epoch k sees the batches that it would have seen. Without this
        call each iteration presents the epoch after the one before.
        """
        self._counter.set(epoch)


def build_splits(source: Source, settings: Data, seed: int) -> Splits:
    """Split, shuffle and batch the examples of a source.

    Raises:
        InputError: if the settings do not suit the examples.
    """
    preprocessing, input_shape = _describe(source, settings)
    kept, held = _divide(source, settings, seed)
    counter = EpochCounter()
    build = _Builder(source, settings, seed, preprocessing.layout)
    all_test = np.arange(len(source.test.labels))
    test = build.ordered(source.test, all_test, Purpose.TEST_LENGTH)
    validation, num_validation = None, 0
    if settings.validation == "test":
        validation, num_validation = test, len(all_test)
    elif settings.validation != "none":
        validation = build.ordered(source.train, held, Purpose.VALIDATION_LENGTH)
        num_validation = len(held)
    return Splits(
        name=settings.name,
        train=build.shuffled(source.train, kept, counter),
        validation=validation,
        test=test,
        num_classes=len(source.class_names),
        input_shape=input_shape,
        class_names=source.class_names,
        num_train=len(kept),
        num_validation=num_validation,
        num_test=len(all_test),
        skipped=source.skipped,
        preprocessing=preprocessing,
        fingerprint=fingerprint(source),
        _counter=counter,
    )


@dataclasses.dataclass(frozen=True)
class _Builder:
    """The batches of the splits of one source."""

    source: Source
    settings: Data
    seed: int
    layout: str

    def shuffled(
        self, examples: pipeline.Examples, subset: np.ndarray, counter: EpochCounter
    ) -> tf.data.Dataset:
        num_examples = len(examples.labels)

        def make_finish(epoch: tf.Tensor | int) -> pipeline.Finish:
            draws = None
            if self.settings.augment == "flip_crop":
                draws = pipeline.draw_augmentation(self.seed, epoch, num_examples)
            lengths = self._lengths(epoch, Purpose.LENGTH, num_examples)
            return pipeline.finisher(self.source.example_shape, self.layout, draws, lengths)

        batch_size = self.settings.batch_size
        return pipeline.shuffled_batches(
            examples, subset, batch_size, self.seed, counter, make_finish
        )

    def ordered(
        self, examples: pipeline.Examples, subset: np.ndarray, purpose: Purpose
    ) -> tf.data.Dataset:
        lengths = self._lengths(0, purpose, len(examples.labels))
        finish = pipeline.finisher(self.source.example_shape, self.layout, lengths=lengths)
        return pipeline.ordered_batches(examples, subset, self.settings.batch_size, finish)

    def _lengths(
        self, epoch: tf.Tensor | int, purpose: Purpose, num_examples: int
    ) -> tf.Tensor | None:
        if self.settings.min_length is None:
            return None
        bounds = self.settings.min_length, self.source.example_shape[0]
        return pipeline.draw_lengths(self.seed, epoch, purpose, num_examples, bounds)


def _describe(source: Source, settings: Data) -> tuple[Preprocessing, tuple[int, ...]]:
    """Return how raw examples become inputs, and the shape of one input."""
    shape = source.example_shape
    if settings.augment != "none" and not source.is_image:
        raise InputError(
            f"data.augment: {settings.augment} was given, but the examples of {settings.name} are "
            f"features of shape {shape}; expected images (height, width, channels). "
            "Set data.augment: none."
        )
    if settings.view == "rows" and len(shape) < 2:
        raise InputError(
            f"data.view: rows was given, but the examples of {settings.name} are vectors of shape "
            f"{shape}; expected images or sequences. Set data.view: image to keep them."
        )
    if settings.min_length is not None and settings.min_length > shape[0]:
        raise InputError(
            f"data.min_length: {settings.min_length} was given, but the sequences of "
            f"{settings.name} have {shape[0]} steps; expected at most that many. Lower it."
        )
    layout = settings.view if source.is_image or settings.view != "image" else "features"
    input_shape = {
        "rows": (shape[0], int(np.prod(shape[1:]))),
        "flat": (int(np.prod(shape)),),
    }.get(layout, tuple(shape))
    size, channels = (tuple(shape[:2]), shape[2]) if source.is_image else (None, None)
    return Preprocessing(layout, size, channels, source.scale), input_shape


def _divide(source: Source, settings: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training examples that are kept, and those held back for validation."""
    labels = source.train.labels
    kept, held = np.arange(len(labels)), np.empty(0, np.int64)
    if settings.validation not in ("test", "none"):
        kept, held = stratified_split(labels, settings.validation, seed)
        if not len(kept) or not len(held):
            raise InputError(
                f"data.validation: {settings.validation} of the {len(labels)} training examples of "
                f"{settings.name} leaves {len(kept)} for training and {len(held)} for validation; "
                "expected at least one of both. Set another fraction, or test or none."
            )
    if settings.batch_size > len(kept):
        raise InputError(
            f"data.batch_size: {settings.batch_size} was given, but {settings.name} has "
            f"{len(kept)} training examples (of {len(labels)}, {len(held)} held back for "
            "validation); expected a batch no larger than that. Lower it."
        )
    return kept, held
