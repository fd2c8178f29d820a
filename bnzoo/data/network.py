"""Is a host there? Asked briefly, because TFDS retries a failing download for minutes."""

import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from urllib.parse import urlsplit

ANSWER_SECONDS = 2.0
"""How long the hosts may take to answer; far above a usual round trip, far below 5 seconds."""

MAX_HOSTS = 8
"""Hosts asked at once; a few catalogue entries name hundreds, and one answer is enough."""


def host_of(url: str) -> str:
    """Return the host name of an address, `""` when it has none."""
    return urlsplit(url).hostname or ""


def reachable_hosts(urls: Iterable[str], seconds: float = ANSWER_SECONDS) -> set[str]:
    """Return the hosts of these addresses that answer, proxies of the environment included.

    All are asked at once, in threads that are left behind when they hang: a name server that does
    not answer can block a look-up for much longer than any timeout of the socket.

    Args:
        urls: addresses; only scheme and host matter.
        seconds: how long to wait for all of them together.
    """
    parts = [urlsplit(url) for url in urls]
    roots = sorted({f"{part.scheme}://{part.netloc}/" for part in parts if part.hostname})
    answered: set[str] = set()
    threads = [
        threading.Thread(target=_ask, args=(root, seconds, answered), daemon=True)
        for root in roots[:MAX_HOSTS]
    ]
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return set(answered)


def _ask(root: str, seconds: float, answered: set[str]) -> None:
    try:
        request = urllib.request.Request(root, method="HEAD")
        urllib.request.urlopen(request, timeout=seconds).close()
    except urllib.error.HTTPError:
        pass  # a refusal is an answer: the host is there
    except Exception:
        return  # no such name, no route, a proxy that says no, a broken certificate
    answered.add(host_of(root))
