"""Write scikit-learn's digits as PNG files in the layout of `folder:<path>`.

    python scripts/make_example_images.py FOLDER

makes FOLDER/train/<class>/*.png and FOLDER/test/<class>/*.png: an example of your own images.
"""

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
from sklearn.datasets import load_digits

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def main() -> None:
    folder = Path(sys.argv[1])
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype("uint8")
    for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        split = "test" if number % 5 == 4 else "train"
        path = folder / split / WORDS[label] / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        matplotlib.image.imsave(path, image, cmap="gray", vmin=0, vmax=255)
    print(f"{len(labels)} images in {folder}")


if __name__ == "__main__":
    main()
