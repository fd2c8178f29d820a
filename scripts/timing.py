"""Timing that can be compared: contenders in turn, in random order, medians of many."""

import os
import random
import shlex
import statistics
import sys
import time
from collections.abc import Callable

from bnzoo.environment import machine, versions


def interleave(
    contenders: dict[str, Callable[[], float | None]],
    seconds: float,
    least: int = 9,
    warm_up: int = 3,
) -> dict[str, float]:
    """Run contenders one after the other, again and again, in a new order each round.

    Args:
        contenders: what to call, by name; each returns only when its work is done, and may return
            milliseconds of its own that stand for the call.
        seconds: how long to go on.
        least: rounds at least.
        warm_up: calls of each before, which are not counted.

    Returns:
        The median milliseconds of a call, by name.
    """
    for run in contenders.values():
        for _ in range(warm_up):
            run()
    times, names = {name: [] for name in contenders}, list(contenders)
    end = time.perf_counter() + seconds
    shuffle = random.Random(0).shuffle
    while time.perf_counter() < end or len(times[names[0]]) < least:
        # The same neighbors every time would hand each other warm or cold caches.
        shuffle(names)
        for name in names:
            started = time.perf_counter()
            own = contenders[name]()
            whole = 1e3 * (time.perf_counter() - started)
            times[name].append(own if isinstance(own, float) else whole)
    return {name: statistics.median(values) for name, values in times.items()}


def origin() -> dict:
    """Return what a result file has to say of itself: command, machine, versions."""
    script = f"scripts/{os.path.basename(sys.argv[0])}"
    command = shlex.join(["python", script, *sys.argv[1:]])
    return {
        "command": command,
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(),
    }
