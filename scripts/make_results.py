"""Write the README's results and the page of figures from the files in configs/results/.

    python scripts/make_results.py           # after scripts/run_results.py or a benchmark

makes the section of README.md between its markers, configs/results/README.md and the pictures in
configs/results/figures/. A test fails when the texts are not up to date.
"""

import csv
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from bnzoo.reporting.report import write_study_report
from bnzoo.runs import RunFolder

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "configs" / "results"
FIGURES = RESULTS / "figures"
README, PAGE = REPOSITORY / "README.md", RESULTS / "README.md"
BEGIN = "<!-- results: written by scripts/make_results.py, do not edit -->\n"
END = "<!-- end of results -->\n"

ORDER = (
    "three_conv_devanagari",
    "one_conv_devanagari",
    "lenet_cifar10",
    "dense_mnist",
    "conv1d_rows",
    "own_images",
)

# By experiment and variant: test accuracy as published (the configs name the sources), what may be
# off by how much and still agree, and why it may differ.
PUBLISHED = {
    ("three_conv_devanagari", "baseline"): (
        0.924,
        0.03,
        "one epoch of an accuracy that jumps by points until the end",
    ),
    ("three_conv_devanagari", "before"): (0.991, 0.003, "other random numbers"),
}


def load(name: str) -> dict | None:
    """Return one result, or None where it was not recorded."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def table() -> list[str]:
    """Return one row per variant of each recorded study, and one per recorded run."""
    lines = [
        "| experiment | batch norm | first-epoch loss | test accuracy, % | published | agrees "
        "| difference to none, points [95 %] |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in ORDER:
        result = load(name)
        if result is None:
            lines.append(f"| `{name}` | | not measured yet | | | | |")
        elif result["kind"] == "run":
            lines.append(run_row(name, result))
        else:
            variants = result["summary"]["variants"]
            lines += [variant_row(name, key, variant) for key, variant in variants.items()]
    return lines


def run_row(name: str, result: dict) -> str:
    """Return the row of a single run."""
    table, test = result["rows"]["."]["history"], result["summary"]["test"]
    loss = dict(zip(table["columns"], table["values"][0], strict=True))["loss"]
    placement = result["config"]["model"]["placement"]
    return (
        f"| `{name}` | {placement} | {loss:.3f} | {100 * test['accuracy']:.1f} (1 seed) | - | | |"
    )


def variant_row(name: str, key: str, variant: dict) -> str:
    """Return the row of one variant of a study."""
    accuracy, loss = variant["test_accuracy"], variant["first_epoch_loss"]
    published = PUBLISHED.get((name, key))
    shown, agrees = "-", ""
    if published:
        shown = f"{100 * published[0]:.1f}"
        close = abs(accuracy["mean"] - published[0]) <= published[1]
        agrees = "yes" if close else f"no: {published[2]}"
    difference = variant["difference"]
    against = ""
    if difference and difference["interval"]:
        low, high = (100 * bound for bound in difference["interval"])
        against = f"{100 * difference['mean']:+.1f} [{low:+.1f}, {high:+.1f}]"
    return (
        f"| `{name}` | {'none' if key == 'baseline' else key} | {spread(loss)} "
        f"| {spread(accuracy, 100, 1)} | {shown} | {agrees} | {against} |"
    )


def spread(found: dict, scale: float = 1, decimals: int = 3) -> str:
    """Return mean and standard deviation over seeds."""
    mean = f"{scale * found['mean']:.{decimals}f}"
    return mean if found["std"] is None else f"{mean} ± {scale * found['std']:.{decimals}f}"


def origin(result: dict) -> str:
    """Return on what a result was measured."""
    result = result.get("summary", result)
    machine, versions = result["machine"], result["versions"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}, Python {versions['python']}, "
        f"TensorFlow {versions['tensorflow']}, Keras {versions['keras']}"
    )


def section() -> str:
    """Return the README's section, without its markers."""
    first = next(result for name in ORDER if (result := load(name)))
    lines = [
        f"Mean ± standard deviation over 3 seeds, on {origin(first)};",
        "`scripts/run_results.py` repeats them. Figures, verdicts and commands:",
        "[configs/results](configs/results/README.md).",
        "",
        *table(),
        "",
        "Devanagari and LeNet runs measure the test set after each epoch (the published",
        "protocol); the others read it once. The LeNet article has no score: its networks never",
        "call their batch normalization. `bnzoo train` made the runs, two at a time and most on",
        "one core, and `bnzoo compare --resume` gathered them: their seconds are no benchmark.",
        "",
        *seed_lines(),
        "",
        *pipeline_lines(),
    ]
    return "\n".join(lines) + "\n"


def seed_lines() -> list[str]:
    """Return how much the first epoch without batch normalization depends on the seed."""
    result = load("pytorch_seeds")
    if result is None:
        return ["The published network in PyTorch: not measured yet (`scripts/pytorch_seeds.py`)."]
    published = result["published"]
    losses = {run["seed"]: run["loss"] for run in result["runs"]}
    same = losses.pop(published["seed"])
    return [
        "Without batch normalization the first epoch's loss is its seed's luck: published "
        f"{published['loss']}, in",
        f"PyTorch {result['versions']['torch']} {same:.3f} with the published seed and "
        f"{min(losses.values()):.2f} to {max(losses.values()):.2f} with {len(losses)} others",
        "(`scripts/pytorch_seeds.py`).",
    ]


def pipeline_lines() -> list[str]:
    """Return what the input pipeline costs."""
    result = load("bench_pipeline")
    if result is None:
        return ["The input pipeline's speed was not measured yet (`scripts/bench_pipeline.py`)."]
    shares = "; ".join(
        f"{100 * case['ratio_of_medians']:.0f} % for {name}"
        for name, case in result["cases"].items()
    )
    return [
        "`model.fit` from `bnzoo.data` runs at this share of the steps per second of a cached",
        f"in-memory tensor dataset: {shares} (`scripts/bench_pipeline.py`).",
    ]


def serving_lines() -> list[str]:
    """Return what was measured of exports and of the server, and the parity table."""
    lines = ["## Export and serve", ""]
    bench, attack = load("bench_serving"), load("attack_server")
    soak, parity = load("soak_server"), load("parity")
    if not (bench or attack or soak or parity):
        return []
    if bench:
        lines += [f"`scripts/bench_serving.py`, on {origin(bench)}:", ""]
        lines += ["| | measured | target |", "|---|---|---|"]
        for case, target in bench["targets"].items():
            unit, sign = (" ms", "at most") if case.endswith("_ms") else ("x", "at least")
            name = case.removesuffix("_ms").replace("_", " ")
            lines += [f"| {name} | {bench['reached'][case]:.2f}{unit} | {sign} {target:g}{unit} |"]
        rates = bench["throughput"]["requests_per_second"]
        told = "; ".join(f"{name}: {rate:.0f}" for name, rate in rates.items())
        lines += ["", f"Requests per second: {told}.", ""]
    if attack:
        server = attack["attacks"]["server"]
        lines += [
            f"`scripts/attack_server.py`: {attack['attacks_in_all']:,} malformed requests, and "
            f"{attack['good_requests']:,} good ones meanwhile; {attack['wrong']} wrong answers; "
            f"the server was {'alive' if server['alive_afterwards'] else 'dead'} at the end, its "
            f"memory {server['memory_mb_before']} MB before and {server['memory_mb_after']} MB "
            "after.",
            "",
        ]
    if soak:
        times = soak["milliseconds"]
        lines += [
            f"`scripts/soak_server.py`: {soak['requests']:,} requests of {soak['clients']} clients "
            f"in {soak['seconds'] / 60:.0f} minutes, 1 in 20 malformed; "
            f"{soak['failures_of_good_requests']} good ones failed; median {times['p50']} ms, 99 % "
            f"within {times['p99']} ms; memory at the end {soak['memory_ratio']:.3f} times that "
            "after the first tenth; a new version was loaded halfway.",
            "",
        ]
    return lines + (parity_table(parity) if parity else [])


def parity_table(parity: dict) -> list[str]:
    """Return how far exports are from `model.predict`."""
    first = parity["rows"][0]
    sizes = ", ".join(str(size) for size in first["batch_sizes"])
    lines = [
        f"`scripts/parity_table.py`: largest |difference| to `model.predict` over the largest "
        f"|answer|, on test data, batches of {sizes}, in new processes (allowed "
        f"{first['allowed']:g}):",
        "",
        "| network | batch norm | `tf.saved_model.load` | `saved_model_cli run` |",
        "|---|---|---|---|",
    ]
    for row in parity["rows"]:
        ways = (row[way] for way in ("tf.saved_model.load", "saved_model_cli"))
        shown = " | ".join(f"{value:.1e}" for value in ways)
        lines += [f"| `{row['model']}` | {row['placement']} | {shown} |"]
    return [*lines, ""]


def updated(text: str) -> str:
    """Return the README with its results section replaced."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + section() + END + tail


def studies() -> list[tuple[str, dict]]:
    """Return the recorded studies in order."""
    found = ((name, load(name)) for name in ORDER)
    return [(name, result) for name, result in found if result and result["kind"] == "study"]


def page() -> str:
    """Return the page of figures; each is marked with the data that it was drawn from."""
    lines = ["# Results", "", "Written by `scripts/make_results.py` from the JSON files here.", ""]
    for name, result in studies():
        summary = result["summary"]
        lines += [f"## {name}", "", summary["verdict"], ""]
        lines += [f"    {result['command']}", "", f"{summary['protocol'].capitalize()}.", ""]
        for figure in figure_names(name, result):
            lines += [f"![{name}: {figure}](figures/{name}-{figure}.png)", ""]
        lines += [f"<!-- figures drawn from {fingerprint(result)} -->", ""]
    return "\n".join([*lines, *serving_lines()])


def figure_names(name: str, result: dict) -> list[str]:
    """Return the figures that a study's report has."""
    follows = any("weights_path" in tables for tables in result["rows"].values())
    return ["accuracy", "loss", *(["weights_path"] if follows else [])]


def fingerprint(result: dict) -> str:
    """Return a checksum of the data behind figures."""
    return hashlib.sha256(json.dumps(result["rows"]).encode()).hexdigest()[:16]


def draw() -> None:
    """Write a report of each study into a temporary folder and keep its pictures."""
    shutil.rmtree(FIGURES, ignore_errors=True)
    FIGURES.mkdir()
    for name, result in studies():
        with tempfile.TemporaryDirectory() as folder:
            for place, tables in result["rows"].items():
                run = RunFolder(Path(folder) / place)
                run.path.mkdir(parents=True)
                files = {"history": run.history_file, "weights_path": run.weights_path_file}
                for kind, rows in tables.items():
                    write_table(files[kind], rows)
            write_study_report(Path(folder), result["summary"])
            for figure in figure_names(name, result):
                picture = Path(folder) / "figures" / f"{figure}.png"
                shutil.copy(picture, FIGURES / f"{name}-{figure}.png")


def write_table(file: Path, rows: dict) -> None:
    """Write a recorded table as the CSV file it was."""
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(rows["columns"])
        for row in rows["values"]:
            cells = dict(zip(rows["columns"], row, strict=True))
            cells["epoch"] = int(cells["epoch"])
            writer.writerow(["" if cell is None else cell for cell in cells.values()])


def main() -> None:
    README.write_text(updated(README.read_text()))
    PAGE.write_text(page())
    draw()


if __name__ == "__main__":
    main()
