"""A network of Devanagari digits, fine-tuned on MNIST in small batches until inference collapses.

    BNZOO_DATA_DIR=... python scripts/fine_tune_digits.py             # about two minutes
    BNZOO_DATA_DIR=... python scripts/fine_tune_digits.py FILE.keras  # measure one of them again

writes `collapsed.keras`, fine-tuned for 100 steps of batch 4 with Adam at 0.003 and batch
normalization of momentum 0.99 as it comes; and `frozen.keras`, with batch normalization frozen,
which learns only at a lower rate: 400 steps at 0.0003. Prints the test accuracy of each.
"""

import sys

from bnzoo.quiet import start_tensorflow_quietly

start_tensorflow_quietly()

import keras

import bnzoo
import bnzoo.data
import bnzoo.models

BATCH = 4
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mnist() -> bnzoo.data.Splits:
    """Return MNIST at the size of the Devanagari digits, in small batches."""
    return bnzoo.data.load("mnist", batch_size=BATCH, image_size=(32, 32))


def trained() -> keras.Model:
    """Train VGG6 on Devanagari digits for one epoch."""
    keras.utils.set_random_seed(0)
    filters = ((16, 16), (32, 32), (64, 64))
    model = bnzoo.models.build("vgg", input_shape=(32, 32, 1), filters=filters)
    splits = bnzoo.data.load("devanagari_digits")
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), LOSS, metrics=["accuracy"])
    model.fit(splits.train, verbose=0, shuffle=False)
    tell("Devanagari digits", model, splits.test)
    return model


def fine_tuned(model: keras.Model, name: str, rate: float, steps: int) -> None:
    """Go on with MNIST, measure, and save the model."""
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(rate), LOSS, metrics=["accuracy"])
    splits = mnist()
    model.fit(splits.train, steps_per_epoch=steps, verbose=0, shuffle=False)
    model.save(f"{name}.keras")
    tell(f"{name}.keras on MNIST", model, splits.test)


def tell(what: str, model: keras.Model, test) -> None:
    """Print the accuracy of a model."""
    print(f"{what}: test accuracy {model.evaluate(test, verbose=0)[1]:.3f}")


def main() -> None:
    """Make both, or measure one."""
    for file in sys.argv[1:]:
        tell(f"{file} on MNIST", bnzoo.load_model(file), mnist().test)
    if len(sys.argv) > 1:
        return
    model = trained()
    learned = model.get_weights()
    fine_tuned(model, "collapsed", 3e-3, 100)
    model.set_weights(learned)
    fine_tuned(bnzoo.freeze_batch_norm(model), "frozen", 3e-4, 400)


if __name__ == "__main__":
    main()
