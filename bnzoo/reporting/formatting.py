"""Numbers of a summary as the words of a page; a dash where nothing was measured."""

import math
from collections.abc import Sequence
from typing import Any

from bnzoo.errors import plural  # noqa: F401 - told here beside the others

MINUS = "\N{MINUS SIGN}"  # a hyphen is lost beside a digit
NOTHING = "\N{EN DASH}"


def run_name(variant: str, seed: int) -> str:
    """Name a run, the same in the terminal, tables and figures."""
    return f"{variant} seed {seed}"


def percent(value: float | None, decimals: int = 2) -> str:
    """Write a share in percent: 0.9913 is `99.13 %`."""
    return NOTHING if value is None else f"{100 * value:.{decimals}f} %"


def percent_spread(statistics: dict[str, Any] | None, decimals: int = 2) -> str:
    """Write mean and standard deviation in percent."""
    return spread(statistics, decimals, 100, " %")


def spread(
    statistics: dict[str, Any] | None, decimals: int = 3, scale: float = 1, unit: str = ""
) -> str:
    """Write mean and standard deviation; one seed has no deviation."""
    if not statistics or statistics["mean"] is None:
        return NOTHING
    std = statistics.get("std")
    deviation = "" if std is None else f" ± {scale * std:.{decimals}f}"
    return f"{scale * statistics['mean']:.{decimals}f}{deviation}{unit}"


def significant(statistics: dict[str, Any]) -> str:
    """Write mean and standard deviation of any size with three digits: `4.1e+08 ± 2e+07`."""
    if statistics["mean"] is None:
        return NOTHING
    std = statistics["std"]
    deviation = "" if std is None else f" ± {_rounded(std, 2)}"
    return f"{_rounded(statistics['mean'], 3)}{deviation}".replace("-", MINUS)


def _rounded(value: float, digits: int) -> str:
    """Write a value with so many digits, as `1000` and not `1e+03` up to a million."""
    return f"{float(f'{value:.{digits}g}'):g}"


def value_range(ends: Sequence[float]) -> str:
    """Say within which bounds the values of inputs are: `values 0 to 1`."""
    return "values {:.3g} to {:.3g}".format(*ends).replace("-", MINUS)


def change(value: float, metric: str, decimals: int = 1) -> str:
    """Write a difference with its sign: accuracies in percentage points, `+4.5 points`."""
    if not is_share(metric):
        return f"{value:+.3g}".replace("-", MINUS)
    return f"{100 * value:+z.{decimals}f} points".replace("-", MINUS)


def interval(low: float, high: float, metric: str, decimals: int = 1) -> str:
    """Write the interval of a difference, `[2.3, 6.7]`, accuracies in percentage points.

    Args:
        low: its lower bound.
        high: its upper bound.
        metric: what was measured.
        decimals: the fewest; as many more, up to 4, as show on which side of 0 each bound lies.
    """
    if not is_share(metric):
        return f"[{low:.3g}, {high:.3g}]".replace("-", MINUS)
    bounds = [100 * low, 100 * high]
    while decimals < 4 and any(bound and abs(bound) < 0.5 * 10**-decimals for bound in bounds):
        decimals += 1
    texts = [f"{bound:z.{decimals}f}".replace("-", MINUS) for bound in bounds]
    return f"[{', '.join(texts)}]"


def is_share(metric: str) -> bool:
    """Tell whether a metric is a share, told in percent."""
    return metric.endswith("accuracy")


PARTS = {"val": "validation", "test": "test"}


def metric(name: str) -> str:
    """Name a column of the history, or a key such as `test_loss`, in words."""
    if name == "seconds":
        return "seconds of an epoch"
    part, _, rest = name.partition("_")
    words = f"{PARTS[part]} {rest}" if part in PARTS else f"training {name}"
    return words.replace("_", " ")


def score(statistics: dict[str, Any] | None, name: str, decimals: int = 2) -> str:
    """Write mean and standard deviation of a metric: accuracies in percent.

    Args:
        statistics: of the values.
        name: of the metric.
        decimals: of percentages; other values have those that show four digits.
    """
    if is_share(name):
        return percent_spread(statistics, decimals)
    return spread(statistics, _decimals(statistics and statistics["mean"]))


def _decimals(value: float | None) -> int:
    """Return how many decimals show four digits of a value, at most 6: 0.01234, 12.34."""
    size = math.floor(math.log10(abs(value))) if value else 0
    return min(max(3 - size, 0), 6)


def stable_rate(placement: dict[str, Any]) -> str:
    """Write the largest stable learning rate of a placement in a sweep: `0.1 (not 0.3)`.

    Beside it stands the next rate that was tried, as the truth lies between the two.

    Args:
        placement: its entry of the sweep's summary.
    """
    rate, tried = placement["largest_stable_rate"], placement["rates_tried"]
    if tried < 2:
        return "too few tried" if tried else NOTHING
    following = placement["next_rate_tried"]
    beyond = "the largest tried" if following is None else f"not {following:g}"
    return f"{'no rate' if rate is None else f'{rate:g}'} ({beyond})"


def reached(times: dict[str, Any] | None, total: int) -> str:
    """Write how many epochs or steps it took, and how many seeds got there at all.

    Args:
        times: `n` seeds got there, after `mean` epochs or steps.
        total: the seeds that ran.
    """
    if not times or not total:
        return NOTHING
    if not times.get("n"):
        return "not reached"
    mean = f"{times['mean']:,.1f}".removesuffix(".0")
    return mean if times["n"] == total else f"{mean} ({times['n']} of {total} seeds)"


def divergence(where: dict[str, Any]) -> str:
    """Say when a run was given up, and what its loss was.

    Args:
        where: `diverged` of its summary.
    """
    when = f"at step {where['step']:,} (epoch {where['epoch']})"
    if where.get("loss") is None:
        return f"the loss was no longer finite {when}"
    return (
        f"the loss was {where['loss']:.4g}, over 1,000 times the {where['first_loss']:.4g} of the "
        f"first batch, {when}"
    )


def duration(seconds: float) -> str:
    """Write a time in the units of everyday: `0.2 s`, `42 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def listed(names: Sequence[Any]) -> str:
    """Join words as a sentence does: `a, b and c`."""
    names = [str(name) for name in names]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
