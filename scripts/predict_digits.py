"""Show a few test digits and what an exported model makes of them: `predict_digits.py DIR`.

The model is loaded as any server would: TensorFlow alone, no bnzoo, no Keras model class.
"""

import sys
from pathlib import Path

from bnzoo.quiet import start_tensorflow_quietly

start_tensorflow_quietly()
import tensorflow as tf

from bnzoo import data

SHADES = " .:-=+*#%@"
COUNT = 4


def main() -> None:
    folder = Path(sys.argv[1])
    newest = max(int(entry.name) for entry in folder.iterdir() if entry.name.isdigit())
    serve = tf.saved_model.load(str(folder / str(newest))).signatures["serving_default"]
    images, labels = next(iter(data.load("digits").test))
    images, labels = images[:COUNT], labels[:COUNT]
    answers = serve(inputs=images)
    for row in range(images.shape[1]):
        print("   ".join(_drawn(image[row, :, 0]) for image in images.numpy()))
    for label, guess, shares in zip(
        labels.numpy(), answers["class_id"].numpy(), answers["probabilities"].numpy(), strict=True
    ):
        print(f"is {label}, read as {guess} with probability {shares[guess]:.3f}")


def _drawn(pixels) -> str:
    return "".join(2 * SHADES[int(value * (len(SHADES) - 1))] for value in pixels)


if __name__ == "__main__":
    main()
