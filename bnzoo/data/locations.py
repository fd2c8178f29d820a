"""Where data lies: folders that the environment names, the lock of our own, and far-away hosts."""

import contextlib
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from bnzoo.errors import InputError

ANSWER_SECONDS = 2.0
"""How long hosts may take to answer; far above a usual round trip, far below 5 seconds."""

MAX_HOSTS = 8
"""Hosts asked at once; a few catalog entries name hundreds, and one answer is enough."""


def tfds_dirs() -> list[Path]:
    """Return the folders that may hold prepared TFDS data sets, in order of search.

    They lie in `BNZOO_DATA_DIR`, if it is set, which is only ever read; and, the last one, in the
    folder we may write to: `BNZOO_CACHE_DIR`, or `bnzoo` in the user's cache.
    """
    local = os.environ.get("BNZOO_DATA_DIR")
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "bnzoo"
    cache = os.environ.get("BNZOO_CACHE_DIR") or default
    return [Path(folder).expanduser() / "tfds" for folder in (local, cache) if folder]


def find_download(names: tuple[str, ...]) -> Path | None:
    """Return the first of these archives that was fetched by hand, or `None`.

    Args:
        names: file names, looked for in `BNZOO_DATA_DIR/downloads` and then in our own cache.
    """
    folders = [folder.parent / "downloads" for folder in tfds_dirs()]
    candidates = (folder / name for folder in folders for name in names)
    return next((path for path in candidates if path.is_file()), None)


@contextlib.contextmanager
def only_one_process(name: str) -> Iterator[Path]:
    """Hold the lock of this name in the cache; the system releases it if the process dies.

    Yields:
        the folder of our own that holds prepared data sets; made if missing.

    Raises:
        InputError: if the folder cannot be made, or not be written.
    """
    folder = tfds_dirs()[-1]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / f".{name}.lock").acquire()
    except OSError as error:
        raise InputError(
            f"The cache folder {folder} cannot be created or written ({error.strerror}). Data is "
            "prepared there. Set BNZOO_CACHE_DIR to a folder that you may write to."
        ) from error
    with held:
        yield folder


def reachable_hosts(urls: Iterable[str], seconds: float = ANSWER_SECONDS) -> set[str]:
    """Return the hosts of these addresses that answer, proxies of the environment included.

    TFDS retries a failing download for minutes, so it is asked briefly before. All are asked at
    once, in threads that are left behind when they hang: a name server that does not answer can
    block a look-up for much longer than any timeout of the socket.

    Args:
        urls: addresses; only scheme and host matter.
        seconds: how long to wait for all of them together.
    """
    parts = map(urlsplit, urls)
    roots = sorted({f"{part.scheme}://{part.netloc}/" for part in parts if part.hostname})
    answered: set[str] = set()
    deadline = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_ask, args=(root, seconds, answered), daemon=True)
        for root in roots[:MAX_HOSTS]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(answered)


def _ask(root: str, seconds: float, answered: set[str]) -> None:
    request = urllib.request.Request(root, method="HEAD")
    try:
        with contextlib.suppress(urllib.error.HTTPError):  # a refusal is an answer too
            urllib.request.urlopen(request, timeout=seconds).close()
    except Exception:
        return  # no such name, no route, a proxy that says no, a broken certificate
    answered.add(urlsplit(root).hostname)
