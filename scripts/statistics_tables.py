"""Test accuracy by the size of the batch and the statistics, from what was recorded."""

import statistics

from recorded import load, origin

COLUMNS = {
    "moving_average": "moving average",
    "recalibrated": "recalibrated",
    "layer_by_layer": "layer by layer",
    "ghosts": "ghosts, in batches of 128",
    "group_norm": "group norm",
}


def statistics_lines() -> list[str]:
    """Return the table of `scripts/statistics_by_batch.py`."""
    result = load("statistics_by_batch")
    if not result:
        return []
    found: dict[int, dict[str, list[float]]] = {}
    for name, accuracies in result["runs"].items():
        row = found.setdefault(int(name.split()[1]), {})
        for column, value in accuracies.items():
            row.setdefault(column, []).append(100 * value)
    lines = [
        "## Which statistics serve inference best",
        "",
        "VGG6 on 8,192 images of CIFAR-10, 3 epochs whatever the batch, at a rate in proportion to",
        "it: rows differ in steps as well as in batch. The moving averages have momentum 0.9. With",
        "ghosts the batch is 128 and only the samples that are normalized together differ. Group",
        "normalization (up to 8 groups) is far from trained after so few epochs. Test accuracy",
        f"in %, mean and standard deviation over seeds. On {origin(result)}.",
        "",
        f"    {result['command']}",
        "",
        f"| batch, or ghost | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---|' * len(COLUMNS)}",
    ]
    for size in sorted(found):
        cells = [_cell(found[size].get(column, [])) for column in COLUMNS]
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.1f} (1 seed)" if values else ""
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
