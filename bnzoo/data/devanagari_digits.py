"""Handwritten Devanagari digits, 32 x 32 gray pixels with a border of 2, as a TFDS data set.

The ten digit classes of the Devanagari Handwritten Character Dataset (UCI 389), 1,700 training and
300 test images of each. The published split is not by writer. The 36 letter classes are left out.
"""

import re
import zipfile
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from bnzoo.data.locations import find_download
from bnzoo.errors import InputError

ARCHIVES = ("DevanagariHandwrittenDigits.zip", "DevanagariHandwrittenCharacterDataset.zip")
"""Archives that are read in place: only the digits, or all 46 classes as UCI publishes them."""

URL = "https://archive.ics.uci.edu/static/public/389/devanagari+handwritten+character+dataset.zip"

_LICENSE = """\
CC BY 4.0. Devanagari Handwritten Character Dataset by Shailesh Acharya and Prashnna Gyawali (2015),
UCI Machine Learning Repository, https://doi.org/10.24432/C5XS53.
"""

_CITATION = """\
Acharya, S., Pant, A. K. and Gyawali, P. K. (2015): Deep learning based large scale handwritten
Devanagari character recognition. SKIMA, https://doi.org/10.1109/SKIMA.2015.7400041
"""

_DIGIT_FILE = re.compile(r"(?:.*/)?(Train|Test)/digit_(\d)/([^/]+)\.png")


class DevanagariDigits(tfds.core.GeneratorBasedBuilder):
    """Devanagari digits, from an archive fetched by hand or from UCI.

    An archive of `ARCHIVES` in `BNZOO_DATA_DIR/downloads` is read in place. Without one the
    archive is fetched from `URL`; that path could not be tried when this was written, for want of
    a network, and UCI publishes no checksum to hold the file against.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version: the published split, digits only."}  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(32, 32, 1), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=features,
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/389",
            citation=_CITATION,
            license=_LICENSE,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        archive = find_download(ARCHIVES) or dl_manager.download(URL)
        return {
            folder.lower(): self._generate_examples(archive, folder) for folder in ("Train", "Test")
        }

    def _generate_examples(
        self, archive: epath.PathLike, folder: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        with zipfile.ZipFile(epath.Path(archive)) as files:
            names = map(_DIGIT_FILE.fullmatch, files.namelist())
            matches = [match for match in names if match and match[1] == folder]
            if not matches:
                raise InputError(
                    f"{archive} holds no files {folder}/digit_<0 to 9>/*.png; expected the "
                    f"Devanagari Handwritten Character Dataset. Fetch it again from {URL}."
                )
            for match in matches:
                with files.open(match[0]) as image:
                    # The bytes are written as they are: nothing is decoded and encoded again.
                    key = f"{folder}/{match[2]}/{match[3]}"
                    yield key, {"image": image, "label": int(match[2])}
