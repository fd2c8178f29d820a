"""What was killed and resumed, and what checkpoints cost, from what was recorded."""

from collections import Counter

from recorded import load, origin


def kill_lines() -> list[str]:
    """Return the tables of `scripts/kill_runs.py` and `scripts/bench_checkpoints.py`."""
    result, cost = load("kills"), load("bench_checkpoints")
    if not result:
        return []
    kinds = result["kinds"]
    kills, exact = (sum(one[key] for one in kinds.values()) for key in ("kills", "exact"))
    lines = [
        "## Killed and resumed",
        "",
        f"{exact} of {kills} processes that were killed (SIGKILL) ended after `--resume` at the",
        "same files as undisturbed ones: histories, weights and optimizers bit for bit, summaries",
        "and reports but for times. Digits, dropout, augmentation, Adam, on a CPU with",
        "`train.deterministic: true`.",
        f"On {origin(result)}.",
        "",
        f"    {result['command']}",
        "",
        "| what was killed | kills | exact resumes | lost |",
        "|---|---|---|---|",
    ]
    for name, one in kinds.items():
        lost = "; ".join(", ".join(found["differed"]) for found in one["differed"]) or "nothing"
        lines.append(f"| {name} | {one['kills']} | {one['exact']} | {lost} |")
    moments: Counter[str] = sum((Counter(one["at"]) for one in kinds.values()), Counter())
    told = ", ".join(f"{name} {count}" for name, count in moments.most_common())
    return [*lines, "", f"Moments: {told}.", "", *_cost_lines(cost)]


def _cost_lines(cost: dict | None) -> list[str]:
    if not cost:
        return []
    return [
        f"A checkpoint of `{cost['config']}` takes {1000 * cost['seconds']:.0f} ms (median of "
        f"{cost['repeats']}), an epoch",
        f"{cost['epoch_seconds']:.0f} s: {100 * cost['share']:.2f} % "
        "(`scripts/bench_checkpoints.py`).",
        "",
    ]
