"""The sentences at the top of a report. They follow from the intervals and from nothing else.

An interval of one variant is not widened because there are more variants.
"""

from typing import Any

from bnzoo.config import BASELINE
from bnzoo.studies.statistics import describe

Variant = dict[str, Any]


def judge(variant: Variant, baseline: Variant) -> str:
    """Say in a word or two how a variant stands against the baseline.

    Args:
        variant: its entry of a study's summary, with `difference` filled in.
        baseline: the baseline's entry.

    Returns:
        `"better"`, `"worse"`, `"no difference shown"`, `"identical"`, `"one seed"`, or `"no pair"`
        where no seed has a result of both.
    """
    difference = variant["difference"]
    if difference["n"] == 0:
        return "no pair"
    if difference["n"] == 1:
        return "one seed"
    low, high = difference["interval"]
    if low == high == 0:
        return "identical"
    if low <= 0 <= high:
        return "no difference shown"
    return "better" if low > 0 else "worse"


def variant_verdict(name: str, variant: Variant, baseline: Variant) -> str:
    """Return the sentence of one variant.

    Args:
        name: the variant's name.
        variant: its entry of a study's summary, with `difference` filled in.
        baseline: the baseline's entry.
    """
    kind = judge(variant, baseline)
    if kind == "no pair":
        return f"{name}: {_why_no_pair(variant, baseline)}."
    left, right = _on_shared_seeds(variant, baseline)
    scores = f"{_score(left)} against {_score(right)}"
    if kind == "one seed":
        text = (
            f"{scores} with one seed ({_points(variant['difference']['mean'])} points); "
            "one seed shows nothing about the difference"
        )
    elif kind == "identical":
        text = f"identical to the {BASELINE} on every seed, {scores} ({left['n']} seeds)"
    else:
        text = f"{kind}, {scores}; difference {_with_interval(variant['difference'])}"
    return f"{name}: {text}{_left_out(variant, baseline)}."


def baseline_verdict(baseline: Variant) -> str:
    """Return the sentence of the baseline."""
    found, runs = baseline["test_accuracy"], len(baseline["runs"])
    if not found["n"]:
        return f"{BASELINE}: {_without_result(baseline)}."
    seeds = f"{found['n']} of {runs} seeds" if found["n"] < runs else _seeds(runs)
    return f"{BASELINE}: {_score(found)} ({seeds})."


def study_verdict(variants: dict[str, Variant], status: str) -> str:
    """Return the one sentence for the top of the report.

    Args:
        variants: the entries of a study's summary, the baseline among them.
        status: of the study; one that is not completed says so.
    """
    baseline = variants[BASELINE]
    others = {name: variant for name, variant in variants.items() if name != BASELINE}
    if len(others) == 1:
        ((name, variant),) = others.items()
        sentence = variant_verdict(name, variant, baseline)
    else:
        short = "; ".join(_short(name, one, baseline) for name, one in others.items())
        sentence = f"Against the {BASELINE} ({_reached(baseline)}): {short}."
    return sentence if status == "completed" else f"Not finished. So far: {sentence}"


def _short(name: str, variant: Variant, baseline: Variant) -> str:
    kind = judge(variant, baseline)
    if not variant["test_accuracy"]["n"]:
        return f"{name} {_without_result(variant)}"
    reached = f"{name} {_score(variant['test_accuracy'])}"
    if kind == "no pair":
        return f"{reached}, no seed with both"
    if kind == "identical":
        return f"{reached}, identical on every seed{_left_out(variant, baseline)}"
    if kind == "one seed":
        points = _points(variant["difference"]["mean"])
        return (
            f"{reached}, {points} points with one seed, which shows nothing"
            f"{_left_out(variant, baseline)}"
        )
    return (
        f"{reached}, {kind}, difference {_with_interval(variant['difference'])}"
        f"{_left_out(variant, baseline)}"
    )


def _reached(variant: Variant) -> str:
    found = variant["test_accuracy"]
    return _score(found) if found["n"] else _without_result(variant)


def _why_no_pair(variant: Variant, baseline: Variant) -> str:
    ours, theirs = variant["test_accuracy"]["n"], baseline["test_accuracy"]["n"]
    if ours and theirs:
        return f"no seed has a result both of it and of the {BASELINE}"
    if ours:
        reached = _score(variant["test_accuracy"])
        return f"{reached}; the {BASELINE} {_without_result(baseline)}, so there is no difference"
    if theirs:
        reached = _score(baseline["test_accuracy"])
        return f"{_without_result(variant)}; the {BASELINE} reached {reached}"
    mine, its = _without_result(variant), _without_result(baseline)
    return f"{mine}, like the {BASELINE}" if mine == its else f"{mine}; the {BASELINE} {its}"


def _without_result(variant: Variant) -> str:
    """Say why a variant has no result at all."""
    total, diverged = len(variant["runs"]), variant["diverged"]
    if diverged == total:
        return (
            "has diverged with the one seed" if total == 1 else f"has diverged on all {total} seeds"
        )
    if diverged:
        return f"has diverged on {diverged} of {total} seeds and not finished the others"
    return "has not finished any run yet"


def _left_out(variant: Variant, baseline: Variant) -> str:
    """Name the seeds that the numbers leave out."""
    total = len(variant["runs"])
    texts = []
    for who, found in (("it", variant), (f"the {BASELINE}", baseline)):
        if found["diverged"]:
            texts.append(f"{who} diverged on {found['diverged']} of {total}")
        missing = sum(run["status"] == "missing" for run in found["runs"])
        if missing:
            texts.append(f"{who} has not finished {missing} of {total}")
    return f"; left out: {', '.join(texts)}" if texts else ""


def _on_shared_seeds(variant: Variant, baseline: Variant) -> tuple[dict, dict]:
    """Return both descriptions over the seeds that have a difference."""
    shared = [value is not None for value in variant["difference"]["values"]]

    def over_shared(found):
        pairs = zip(found["test_accuracy"]["values"], shared, strict=True)
        return describe([value for value, is_shared in pairs if is_shared])

    return over_shared(variant), over_shared(baseline)


def _score(found: dict) -> str:
    spread = "" if found["std"] is None else f" ± {100 * found['std']:.1f}"
    return f"{100 * found['mean']:.1f}{spread} %"


def _with_interval(difference: dict) -> str:
    low, high = difference["interval"]
    decimals = _decimals(low, high)
    return (
        f"{_points(difference['mean'], decimals)} points "
        f"[{_rounded(low, decimals)}, {_rounded(high, decimals)}] "
        f"({100 * difference['level']:g} % interval, {_seeds(difference['n'])})"
    )


def _decimals(low: float, high: float) -> int:
    """Return one decimal, or as many as show on which side of 0 each bound lies, at most four."""
    for decimals in (1, 2, 3):
        smallest = 0.5 * 10**-decimals
        if all(bound == 0 or abs(100 * bound) >= smallest for bound in (low, high)):
            return decimals
    return 4


def _points(share: float, decimals: int = 1) -> str:
    sign = "+" if share >= 0 else ""
    return sign + _rounded(share, decimals)


def _rounded(share: float, decimals: int) -> str:
    return f"{100 * share:z.{decimals}f}"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"
