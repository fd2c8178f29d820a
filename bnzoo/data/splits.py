"""What `bnzoo.data.load` returns: a source, split, and batched for one epoch after the other."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import tensorflow as tf

from bnzoo.config.data import Data
from bnzoo.data import randomness
from bnzoo.data.preprocessing import Preprocessing, pad_steps, scale, to_layout
from bnzoo.data.randomness import Purpose, stream_key
from bnzoo.data.source import Examples, Finish, Source
from bnzoo.errors import InputError


class EpochCounter:
    """The number of the epoch that the next iteration will present.

    It lives in Python and not in a `tf.Variable`, which a distribution strategy would replicate
    if the data were loaded inside its scope.
    """

    def __init__(self):
        self.set(0)

    def set(self, epoch: int) -> None:
        """Let the next iteration present this epoch."""
        self._epochs = itertools.count(epoch)

    def take(self) -> np.int64:
        """Return the epoch to present, and move on to the one after it."""
        return np.int64(next(self._epochs))


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
    """A data set, ready for `model.fit`.

    Each data set yields batches (x, y): x float32 of shape (batch, *input_shape), y int32 of shape
    (batch,); of a function of the user's own, what it returned. The last batch of a split may be
    smaller.

    Attributes:
        name: of the data set, as it was asked for.
        train: reshuffled each time it is iterated; see `begin_epoch`.
        validation: always in the same order; `None` for `validation: none`, and the test data for
            `validation: test`.
        test: always in the same order.
        num_classes: number of classes; `None` where a function of the user's own returns no labels.
        input_shape: shape of one x, without the batch; of nested ones each.
        class_names: one name for each class, in the order of the labels; empty without classes, or
            where a label belongs to a part of an example.
        num_train: training examples.
        num_validation: validation examples, 0 without validation.
        num_test: test examples.
        skipped: paths of files that could not be decoded, under `skip_unreadable`.
        preprocessing: how a raw image becomes an x.
        reading: how float values were understood, in words; `None` where there is no doubt.
        fingerprint: differs when classes, labels, pixels or files differ (`Source.fingerprint`).
    """

    name: str
    train: tf.data.Dataset
    validation: tf.data.Dataset | None
    test: tf.data.Dataset
    num_classes: int | None
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    num_train: int
    num_validation: int
    num_test: int
    skipped: tuple[str, ...]
    preprocessing: Preprocessing
    reading: str | None
    fingerprint: str
    _counter: EpochCounter = dataclasses.field(repr=False)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of `train`, whose number a Keras data set tells in its own way."""
        return getattr(self.train, "num_batches", None) or len(self.train)

    @property
    def first_epoch(self) -> Iterable[tuple]:
        """The batches of the first epoch of `train`, the same each time where the order is ours."""
        # A Keras data set is read by the numbers of its batches, in no order of ours.
        return FirstEpoch(self) if isinstance(self.train, tf.data.Dataset) else self.train

    def begin_epoch(self, epoch: int) -> None:
        """Let the next iteration over `train` present this epoch, counted from 0.

        The order and the augmentation of an epoch depend on the seed and this number alone, so a
        training that is resumed at epoch k sees the batches that it would have seen. Without this
        call each iteration presents the epoch after the one before.
        """
        self._counter.set(epoch)


class FirstEpoch:
    """The training batches of the first epoch, each time that they are read."""

    def __init__(self, splits: Splits):
        self._splits = splits

    def __iter__(self) -> Iterator[tuple]:
        self._splits.begin_epoch(0)
        return iter(self._splits.train)


def build_splits(source: Source, settings: Data, seed: int) -> Splits:
    """Split, shuffle and batch the examples of a source.

    Raises:
        InputError: if the settings do not suit the examples.
    """
    preprocessing, input_shape = _describe(source, settings)
    kept, held = _divide(source, settings, seed)
    counter = EpochCounter()
    pipeline = Pipeline(source.example_shape, settings, preprocessing, seed)
    test, num_test = build_test(source, settings, seed), len(_tested(source, settings))
    validation, num_validation = None, len(held)
    if settings.validation == "test":
        validation, num_validation = test, num_test
    elif settings.validation != "none":
        validation = pipeline.ordered(source.train, held, Purpose.VALIDATION_LENGTH)
    return Splits(
        name=settings.name,
        train=pipeline.shuffled(source.train, kept, counter),
        validation=validation,
        test=test,
        num_classes=len(source.class_names),
        input_shape=input_shape,
        class_names=source.class_names,
        num_train=len(kept),
        num_validation=num_validation,
        num_test=num_test,
        skipped=source.skipped,
        preprocessing=preprocessing,
        reading=source.reading,
        fingerprint=source.fingerprint(),
        _counter=counter,
    )


def build_test(source: Source, settings: Data, seed: int) -> tf.data.Dataset:
    """Batch the test examples of a source, as `build_splits` does.

    Raises:
        InputError: if the settings do not suit the examples.
    """
    preprocessing, _ = _describe(source, settings)
    pipeline = Pipeline(source.example_shape, settings, preprocessing, seed)
    return pipeline.ordered(source.test, _tested(source, settings), Purpose.TEST_LENGTH)


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
    input_shape = tuple(to_layout(tf.zeros((1, *shape)), layout).shape[1:])
    size, channels = (tuple(shape[:2]), shape[2]) if source.is_image else (None, None)
    return Preprocessing(layout, size, channels, source.scale), input_shape


def _divide(source: Source, settings: Data, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the training examples that are kept, and those held back for validation."""
    labels = source.train.labels
    kept, held = np.arange(len(labels)), np.empty(0, np.int64)
    if settings.validation not in ("test", "none"):
        kept, held = randomness.stratified_split(labels, settings.validation, seed)
        if not len(kept) or not len(held):
            raise InputError(
                f"data.validation: {settings.validation} of the {len(labels)} training examples of "
                f"{settings.name} leaves {len(kept)} for training and {len(held)} for validation; "
                "expected at least one of both. Set another fraction, or test or none."
            )
    kept = _sampled("train_size", "training", settings, labels, kept)
    if settings.batch_size > len(kept):
        size = f", train_size: {settings.train_size}" if settings.train_size else ""
        raise InputError(
            f"data.batch_size: {settings.batch_size} was given, but {settings.name} has "
            f"{len(kept)} training examples (of {len(labels)}, {len(held)} held back for "
            f"validation{size}); expected a batch no larger than that. Lower it."
        )
    return kept, held


def _tested(source: Source, settings: Data) -> np.ndarray:
    """Return the test examples that are used."""
    labels = source.test.labels
    return _sampled("test_size", "test", settings, labels, np.arange(len(labels)))


def _sampled(
    key: str, part: str, settings: Data, labels: np.ndarray, subset: np.ndarray
) -> np.ndarray:
    """Return as many examples of a subset as a key of the settings says."""
    count = getattr(settings, key)
    if count is None:
        return subset
    if count > len(subset):
        raise InputError(
            f"data.{key}: expected at most the {len(subset)} {part} examples that {settings.name} "
            f"has (beside those held back), got {count}. Lower it, or set null for all."
        )
    return randomness.stratified_sample(labels, subset, count)


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """How the examples of one data set become batches.

    Attributes:
        shape: of one raw example.
        settings: give `batch_size`, `augment` and `min_length`.
        preprocessing: how a raw example becomes the input of a model.
        seed: of all that is drawn.
    """

    shape: tuple[int, ...]
    settings: Data
    preprocessing: Preprocessing
    seed: int

    def shuffled(
        self, examples: Examples, subset: np.ndarray, counter: EpochCounter
    ) -> tf.data.Dataset:
        """Present training examples in a new order each time the data set is iterated.

        The counter is read when the first batch is asked for and not when the iterator is made:
        Keras makes an iterator at the end of each epoch and throws it away.

        Args:
            examples: of the split.
            subset: int64 array of those to present.
            counter: says which epoch it is.
        """

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            key = stream_key(self.seed, epoch, Purpose.ORDER)
            finish = self._finish(len(examples.labels), Purpose.TRAIN_LENGTH, epoch)
            return examples.batches(subset, key, self.settings.batch_size, finish)

        return self._prefetched(epoch_by_epoch(one_epoch, counter), subset)

    def ordered(self, examples: Examples, subset: np.ndarray, purpose: Purpose) -> tf.data.Dataset:
        """Present examples in their own order and alike, every time.

        Args:
            examples: of the split.
            subset: int64 array of those to present.
            purpose: of their lengths.
        """
        finish = self._finish(len(examples.labels), purpose, epoch=0)
        batches = examples.batches(subset, None, self.settings.batch_size, finish)
        return self._prefetched(batches, subset)

    def _finish(self, num_examples: int, purpose: Purpose, epoch: tf.Tensor | int) -> Finish:
        """Return the function that turns a batch of raw examples into (x, y).

        What is drawn for an epoch is drawn for all examples of the split, so that it belongs to
        the example and not to its place in the order.
        """
        draws = lengths = None
        if self.settings.augment == "flip_crop" and purpose == Purpose.TRAIN_LENGTH:
            key = stream_key(self.seed, epoch, Purpose.AUGMENT)
            draws = randomness.draw_flip_crop(key, num_examples)
        if (shortest := self.settings.min_length) is not None:
            key = stream_key(self.seed, epoch, purpose)
            lengths = randomness.draw_lengths(key, num_examples, shortest, longest=self.shape[0])

        def finish(raw, labels, indices):
            raw = tf.ensure_shape(raw, (None, *self.shape))
            if draws is not None:
                raw = randomness.flip_crop(raw, tf.gather(draws, indices))
            inputs = to_layout(scale(raw, self.preprocessing.scale), self.preprocessing.layout)
            if lengths is not None:
                inputs = pad_steps(inputs, tf.gather(lengths, indices))
            return inputs, labels

        return finish

    def _prefetched(self, batches: tf.data.Dataset, subset: np.ndarray) -> tf.data.Dataset:
        return prefetched(batches, len(subset), self.settings.batch_size)


def epoch_by_epoch(
    one_epoch: Callable[[tf.Tensor], tf.data.Dataset], counter: EpochCounter
) -> tf.data.Dataset:
    """Return a data set that is another epoch's each time it is iterated.

    Args:
        one_epoch: makes the batches of an epoch, from its number.
        counter: says which epoch it is.
    """
    epochs = tf.data.Dataset.range(1).map(
        lambda _: tf.ensure_shape(tf.numpy_function(counter.take, [], tf.int64), ())
    )
    # Nothing in it needs converting; TFDS cannot be.
    return epochs.flat_map(tf.autograph.experimental.do_not_convert(one_epoch))


def prefetched(batches: tf.data.Dataset, num_examples: int, batch_size: int) -> tf.data.Dataset:
    """Return batches that are prepared ahead, and whose number is known."""
    num_batches = -(-num_examples // batch_size)
    batches = batches.apply(tf.data.experimental.assert_cardinality(num_batches))
    return batches.prefetch(tf.data.AUTOTUNE)
