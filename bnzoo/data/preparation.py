"""Finding TFDS data sets that are prepared, and preparing the others, once and by one process.

Nothing here starts TensorFlow: what is missing or unfit is reported before the seconds of that.
"""

import contextlib
import re
import shutil
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import tensorflow_datasets as tfds

from bnzoo.data.devanagari_digits import ARCHIVES, URL
from bnzoo.data.locations import find_download, only_one_process, reachable_hosts, tfds_dirs
from bnzoo.errors import InputError, nearest


def prepared_builder(name: str) -> tfds.core.DatasetBuilder:
    """Return the builder of a data set whose files are in place.

    Args:
        name: a TFDS name, such as `"mnist"` or `"emnist/letters"`, or `"devanagari_digits"`.

    Raises:
        InputError: if fetching or preparing it fails. `check_available` has been asked before.
    """
    if found := find_prepared(name):
        return found
    with only_one_process(name.replace("/", "-").replace(":", "-")) as folder:
        # Another process may have prepared it while we waited.
        return find_prepared(name) or _prepare(name, folder)


def check_available(name: str) -> None:
    """Make sure that a data set is in place or can be fetched, and change nothing.

    It refuses within seconds what TFDS would try for minutes.

    Raises:
        InputError: as `prepared_builder`.
    """
    if find_prepared(name):
        return
    builder = _known_builder(name)
    check_classification(builder, name)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise InputError(_missing(name, f"its files must be fetched by hand ({instructions})"))
    is_devanagari = name == "devanagari_digits"
    urls = (URL,) if is_devanagari and not find_download(ARCHIVES) else builder.url_infos
    if urls and not reachable_hosts(urls):
        hosts = ", ".join(sorted({urlsplit(url).hostname or "" for url in urls}))
        raise InputError(
            _missing(name, f"it cannot be downloaded now: no answer from {hosts}")
            + " With a network here, just try again."
        )


def describe_images(name: str) -> tuple[tuple[int | None, ...], int]:
    """Do what `bnzoo.data.describe_images` says."""
    builder = find_prepared(name) or _known_builder(name)
    image, label = check_classification(builder, name)
    features = builder.info.features
    return decoded_shape(features[image].shape), features[label].num_classes


def decoded_shape(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """Return the shape of an image once it is decoded, which drops transparency."""
    return (*shape[:2], {2: 1, 4: 3}.get(shape[2], shape[2]))


def find_prepared(name: str) -> tfds.core.DatasetBuilder | None:
    """Return the builder of a data set whose files are in place, or `None`."""
    for folder in tfds_dirs():
        # TFDS raises where it does not know a name and the folder does not hold it.
        with contextlib.suppress(ValueError, AssertionError):
            builder = tfds.builder(name, data_dir=folder)
            if builder.data_path.exists():
                return builder
    return None


def check_classification(builder: tfds.core.DatasetBuilder, name: str) -> tuple[str, str]:
    """Return the names of the image and the label among the features of a data set.

    Nothing has to be downloaded for this question.

    Raises:
        InputError: unless the set pairs an image of 8 bits a channel with a class label.
    """
    keys = builder.info.supervised_keys
    if isinstance(keys, tuple) and len(keys) == 2 and all(isinstance(key, str) for key in keys):
        image, label = (builder.info.features[key] for key in keys)
        is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
        if is_image and isinstance(label, tfds.features.ClassLabel):
            return keys
    raise InputError(
        f"{name} is not a supervised image classification set (its supervised keys are {keys}); "
        "expected an image of 8 bits a channel and a class label. Choose another set."
    )


def _known_builder(name: str) -> tfds.core.DatasetBuilder:
    try:
        return tfds.builder(name, data_dir=tfds_dirs()[-1])
    except tfds.core.registered.DatasetNotFoundError as error:
        hint = nearest(name.split("/")[0], tfds.list_builders(with_community_datasets=False))
        raise InputError(
            f"TensorFlow Datasets has no data set {name!r}. "
            f"{hint or 'Names are listed at https://www.tensorflow.org/datasets/catalog.'}"
        ) from error
    except (ValueError, AssertionError) as error:
        known = tfds.builder_cls(re.split("[/:]", name)[0])
        versions = ", ".join(map(str, (known.VERSION, *known.SUPPORTED_VERSIONS)))
        raise InputError(
            f"TensorFlow Datasets has no {name!r}: {known.name} has the configurations "
            f"{', '.join(known.builder_configs) or 'none'} and the versions {versions}. Name one "
            f"as {known.name}/<configuration> or {known.name}:<version>."
        ) from error


def _missing(name: str, why: str) -> str:
    searched = " and ".join(str(folder) for folder in tfds_dirs())
    if name == "devanagari_digits":
        how = f"fetch {URL} as {ARCHIVES[1]} into the folder downloads of BNZOO_DATA_DIR"
    else:
        how = (
            'run `python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('{name}', data_dir='tfds').download_and_prepare()\"` where there is a "
            "network, and set BNZOO_DATA_DIR to the folder that then holds tfds/"
        )
    return f"{name} is not prepared in {searched}, and {why}. To provide it, {how}."


def _prepare(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    """Prepare a data set in a folder that no other process prepares it in now."""
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = tfds.builder(name, data_dir=folder)
    # Whatever is unfinished was left by a process that was killed.
    for leftover in Path(builder.data_path).parent.glob(f"incomplete.*_{builder.version}"):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the command
            builder.download_and_prepare(
                download_dir=folder / "downloads",
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    except (OSError, zipfile.BadZipFile, tfds.download.DownloadError) as error:
        raise InputError(_missing(name, f"preparing it failed: {error}")) from error
    return builder
