"""Finding TFDS data sets that are prepared, and preparing the others, once and by one process."""

import contextlib
import re
import shutil
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

import tensorflow_datasets as tfds

from bnzoo.data.classification import check_classification
from bnzoo.data.locations import find_download, make_cache, only_one_process, tfds_dirs
from bnzoo.data.network import host_of, reachable_hosts
from bnzoo.errors import InputError, nearest


def prepared_builder(name: str) -> tfds.core.DatasetBuilder:
    """Return the builder of a data set whose files are in place.

    Args:
        name: a TFDS name, such as `"mnist"` or `"emnist/letters"`, or `"devanagari_digits"`.

    Raises:
        InputError: if there is no such data set, or if it can neither be found nor fetched.
    """
    found = _find(name)
    if found is not None:
        return found
    _check_can_be_prepared(name)
    with only_one_process(name.replace("/", "-").replace(":", "-")) as alone:
        found = _find(name)  # another process may have prepared it while we waited
        return _prepare(name, alone) if found is None else found


def check_available(name: str) -> None:
    """Make sure that a data set is in place or can be fetched, and change nothing.

    Raises:
        InputError: as `prepared_builder`.
    """
    if _find(name) is None:
        _check_can_be_prepared(name)


def describe_images(name: str) -> tuple[tuple[int | None, ...], int]:
    """Do what `bnzoo.data.describe_images` says."""
    builder = _find(name) or _builder_to_prepare(name)
    image, label = check_classification(builder, name)
    features = builder.info.features
    return features[image].shape, features[label].num_classes


def is_prepared(name: str) -> bool:
    """Tell whether the files of a data set are in place."""
    return _find(name) is not None


def _find(name: str) -> tfds.core.DatasetBuilder | None:
    for folder in tfds_dirs():
        try:
            builder = _builder(name, folder)
        except (ValueError, AssertionError):  # TFDS does not know it and it is not in this folder
            continue
        if builder.data_path.exists():
            return builder
    return None


def _builder(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    if name == "devanagari_digits":
        from bnzoo.data import devanagari_digits  # noqa: F401 (importing it registers the builder)
    return tfds.builder(name, data_dir=folder)


def _builder_to_prepare(name: str) -> tfds.core.DatasetBuilder:
    try:
        return _builder(name, tfds_dirs()[-1])
    except tfds.core.registered.DatasetNotFoundError as error:
        hint = nearest(name.split("/")[0], tfds.list_builders(with_community_datasets=False))
        raise InputError(
            f"TensorFlow Datasets has no data set {name!r}. "
            f"{hint or 'Names are listed at https://www.tensorflow.org/datasets/catalog.'}"
        ) from error
    except (ValueError, AssertionError) as error:
        raise InputError(_unknown_variant(name)) from error


def _unknown_variant(name: str) -> str:
    known = tfds.builder_cls(re.split("[/:]", name)[0])
    configurations = ", ".join(known.builder_configs) or "none"
    versions = ", ".join(str(version) for version in (known.VERSION, *known.SUPPORTED_VERSIONS))
    return (
        f"TensorFlow Datasets has no {name!r}: {known.name} has the configurations {configurations}"
        f" and the versions {versions}. Name one as {known.name}/<configuration> or "
        f"{known.name}:<version>."
    )


def _check_can_be_prepared(name: str) -> None:
    """Refuse within seconds what TFDS would try for minutes."""
    builder = _builder_to_prepare(name)
    check_classification(builder, name)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        raise InputError(_missing(name, f"its files must be fetched by hand ({instructions})"))
    urls = _urls(builder)
    if urls and not reachable_hosts(urls):
        hosts = ", ".join(sorted({host_of(url) for url in urls}))
        raise InputError(
            _missing(name, f"it cannot be downloaded now: no answer from {hosts}")
            + " With a network here, just try again."
        )


def _urls(builder: tfds.core.DatasetBuilder) -> Iterable[str]:
    if builder.name == "devanagari_digits":
        from bnzoo.data.devanagari_digits import ARCHIVES, URL

        return () if find_download(ARCHIVES) else (URL,)
    return tuple(builder.url_infos or ())


def _missing(name: str, why: str) -> str:
    searched = " and ".join(str(folder) for folder in tfds_dirs())
    if name == "devanagari_digits":
        from bnzoo.data.devanagari_digits import ARCHIVES, URL

        how = f"fetch {URL} as {ARCHIVES[1]} into the folder downloads of BNZOO_DATA_DIR"
    else:
        how = (
            'run `python -c "import tensorflow_datasets as tfds; '
            f"tfds.builder('{name}', data_dir='tfds').download_and_prepare()\"` where there is a "
            "network, and set BNZOO_DATA_DIR to the folder that then holds tfds/"
        )
    return f"{name} is not prepared in {searched}, and {why}. To provide it, {how}."


def _prepare(name: str, alone: bool) -> tfds.core.DatasetBuilder:
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = _builder(name, make_cache("tfds"))
    if alone:  # whatever is unfinished was left by a process that was killed
        for leftover in Path(builder.data_path).parent.glob(f"incomplete.*_{builder.version}"):
            shutil.rmtree(leftover, ignore_errors=True)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # standard output belongs to the command
            builder.download_and_prepare(
                download_dir=make_cache("tfds", "downloads"),
                download_config=tfds.download.DownloadConfig(try_download_gcs=False),
            )
    except zipfile.BadZipFile as error:
        raise InputError(
            f"{name}: the archive is no zip file or was cut short ({error}). "
            "Fetch it again, and compare its size with the published one."
        ) from error
    except (OSError, tfds.download.DownloadError) as error:
        raise InputError(_missing(name, f"preparing it failed: {error}")) from error
    return builder
