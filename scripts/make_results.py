"""Write the README's tables and the page of results from the files in configs/results/.

    python scripts/make_results.py           # after scripts/run_results.py or a benchmark

makes the sections of README.md and bnzoo/models/README.md between their markers,
configs/results/README.md, the pictures in configs/results/figures/, configs/claims/README.md and
what `bnzoo models` says of accuracy. A test fails when the texts are not up to date.
"""

import csv
import hashlib
import json
import shutil
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path

from claims_page import claims_page
from kill_tables import kill_lines
from recorded import RESULTS, load, origin
from screenshot import screenshot
from serving_tables import serving_lines
from speed_tables import (
    few_model_lines,
    gpu_lines,
    inference_lines,
    layer_lines,
    model_lines,
    xla_lines,
)
from statistics_tables import statistics_lines

from bnzoo.config.models.trained import MEASURED_FILE, weight_cards
from bnzoo.reporting import formatting
from bnzoo.reporting.report import write_study_report
from bnzoo.reporting.sweep_grid import read_grid
from bnzoo.reporting.sweep_report import grid_pictures
from bnzoo.runs import RunFolder
from bnzoo.studies.statistics import study_verdict

REPOSITORY = Path(__file__).parent.parent
FIGURES = RESULTS / "figures"
README, PAGE = REPOSITORY / "README.md", RESULTS / "README.md"
ZOO_PAGE = REPOSITORY / "bnzoo" / "models" / "README.md"
CLAIMS = REPOSITORY / "configs" / "claims" / "README.md"
BEGIN = "<!-- {}: written by scripts/make_results.py, do not edit -->\n"
END = "<!-- end of {} -->\n"

ORDER = (
    "three_conv_devanagari",
    "one_conv_devanagari",
    "lenet_cifar10",
    "dense_mnist",
    "conv1d_rows",
    "own_images",
)

GPU_HEAD = (
    "## On a GPU: compiled for an H200, not run",
    "",
    "Bytes that a training step moves, over the bytes of x: forward, backward and the moving",
    "statistics, alone and before a ReLU; the least possible is 8. Blocks of a residual network",
    "are counted without their convolutions' own bytes (12.0 and 10.1 for every layer). Read from",
    "the programs that XLA's compiler makes for the described GPU, on a machine without one. What",
    "only a real GPU can settle: the time; whether sums in parts pay below 50 MB, where all fits",
    "into the cache; what tuned convolutions and cuDNN change; TensorFlow's own version of XLA.",
    "",
)

VERSIONS_HEAD = (
    "The oldest are the least that `pyproject.toml` asks for, the newest what pip finds. Skipped",
    "are tests that need JAX, Keras 2 or real data, and comparisons with what an older Keras' own",
    "layer lacks, such as `renorm` before 3.14.",
)

SHOWN_REPORT = "three_conv_devanagari"  # in the README
SWEEPS = ("tune_three_conv", "tune_lenet_cifar10")

# Until the single layers are measured again.
LAYER_IS_OLDER = (
    "Recorded before the layer's last redesign. Old and new in turn in one process, rows differ by",
    "up to 9 % (most by under 5), but for 256x1024 with an unknown batch, which fell from 1.4 to",
    "about 0.93 times the speed of Keras 3.",
)

VARIANTS = ("baseline", "before", "after")
# By experiment and variant: test accuracy as published (the configs name the sources), what may be
# off by how much and still agree, and why it may differ.
PUBLISHED = {
    ("three_conv_devanagari", "baseline"): (
        0.924,
        0.03,
        "one epoch of an accuracy that jumps until the end",
    ),
    ("three_conv_devanagari", "before"): (0.991, 0.003, "other random numbers"),
}


def table(names: Sequence[str], published: bool) -> list[str]:
    """Return one row per study or run, with or without what others published."""
    heads = ["test accuracy in %", "none", "BN before", "BN after", "before - none [95 %]"]
    heads += ["published"] if published else []
    rows = [heads, ["---"] * len(heads)]
    for name in names:
        row = [f"`{name}`", *cells(name, load(name))]
        rows.append(row[: len(heads)])
    return [f"| {' | '.join(row)} |" for row in rows]


def cells(name: str, result: dict | None) -> list[str]:
    """Return what is told of an experiment: three placements, the difference, the published."""
    if result is None:
        return ["not measured yet", "", "", "", ""]
    if result["kind"] == "run":
        placement = result["config"]["model"]["placement"]
        accuracy = f"{100 * result['summary']['test']['accuracy']:.1f} (1 seed)"
        places = [accuracy if place == placement else "" for place in ("none", "before", "after")]
        return [*places, "", ""]
    variants = result["summary"]["variants"]
    low, high = (100 * bound for bound in variants["before"]["difference"]["interval"])
    mean = 100 * variants["before"]["difference"]["mean"]
    agree = [
        agreement(key, variants[key]["test_accuracy"]["mean"], *PUBLISHED[name, key])
        for key in VARIANTS
        if (name, key) in PUBLISHED
    ]
    return [
        *(spread(variants[key]["test_accuracy"], 100, 1) for key in VARIANTS),
        f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]",
        "; ".join(agree),
    ]


def agreement(key: str, mean: float, published: float, tolerance: float, why: str) -> str:
    """Say what was published, and why ours differs where it does."""
    shown = f"{'none' if key == 'baseline' else key} {100 * published:.1f}"
    return shown if abs(mean - published) <= tolerance else f"{shown} ({why})"


def spread(found: dict, scale: float = 1, decimals: int = 3) -> str:
    """Return mean and standard deviation over seeds."""
    mean = f"{scale * found['mean']:.{decimals}f}"
    return mean if found["std"] is None else f"{mean} ± {scale * found['std']:.{decimals}f}"


def section() -> str:
    """Return the README's table of results, without its markers."""
    first = next(result for name in ORDER if (result := load(name)))
    lines = [
        *table([name for name, _ in studies()], published=False),
        "",
        f"Mean ± std over {seed_counts()} seeds; {origin(first)}.",
    ]
    return "\n".join(lines) + "\n"


def measured() -> list[dict]:
    """Return what `bnzoo models` says of accuracy: a row per study of a model of the zoo."""
    rows = []
    for _, result in studies():
        summary = result["summary"]
        config, found = summary["config"], summary["variants"].values()
        view = config["data"]["view"]
        accuracy = {one["overrides"]["model.placement"]: one["test_accuracy"] for one in found}
        rows.append(
            {
                "model": config["model"]["name"],
                "data": config["data"]["name"] + ("" if view == "image" else f", {view}"),
                "seeds": summary["seeds"],
                "test_accuracy": {
                    place: {key: accuracy[place][key] for key in ("mean", "std")}
                    for place in ("none", "before", "after")
                },
            }
        )
    return rows


def weights_section() -> str:
    """Return the table of the trained models that ship, from their cards."""
    lines = [
        "| model | weights | placement | right of the test set | parameters | bytes |",
        "|---" * 6 + "|",
    ]
    for card in weight_cards():
        test = card["test"]
        share = formatting.percent(test["right"] / test["examples"])
        right = f"{test['right']:,} of {test['examples']:,} ({share})"
        names = (f"`{card[key]}`" for key in ("model", "weights", "placement"))
        sizes = (f"{card[key]:,}" for key in ("parameters", "bytes"))
        lines.append(f"| {' | '.join([*names, right, *sizes])} |")
    sources = {card["weights"]: card["data"] for card in weight_cards()}
    for name, data in sources.items():
        text = f"{data['attribution']}; {data['license']} ({data['license_url']})."
        lines += ["", *textwrap.wrap(f"`{name}`: {text}", 100, break_on_hyphens=False)]
    return "\n".join(lines) + "\n"


def seed_counts() -> str:
    """Return how many seeds the recorded studies have, `3` or `3 or 5`."""
    counts = {len(result["summary"]["seeds"]) for _, result in studies()}
    return " or ".join(map(str, sorted(counts)))


def speed_section() -> str:
    """Return the README's table of speed, without its markers."""
    return "\n".join(few_model_lines(load("bench_model"))) + "\n"


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


def sweep_lines() -> list[str]:
    """Return what each sweep says in a sentence, and what `bnzoo tune` costs."""
    lines = [f"- `{name}`: {sweep_sentence(result['summary'])}" for name, result in sweeps()]
    bench = load("bench_tune")
    return [*lines, "", *cost_lines(**bench)] if bench else lines


def cost_lines(workers: dict, overhead: dict, memory: dict, compare: dict, **_) -> list[str]:
    """Return what workers gain, and what a sweep costs beside its runs."""
    hourly = compare["runs_per_hour"]
    measured = [workers, *workers["others"]]
    gains = ", ".join(f"{one['speedup']:.2f}" for one in measured)
    possible = ", ".join(f"{one['speedup_of_pinned_halves']:.2f}" for one in measured)
    longer = ", ".join(f"{100 * one['overhead']:+.1f}" for one in [overhead, *overhead["others"]])
    many, few, growth = workers["trials"], overhead["trials"], memory["growth_from_3_to_30"]
    return [
        f"With `--workers 2` a sweep of {many} trials of three_conv, start-up included,",
        f"was {gains} times as fast on these 2 cores, when two plain processes",
        f"were {possible} times as fast: the machine is shared. Alone a sweep of",
        f"{few} trials of 2 s took {longer} % longer than its runs in one process, and",
        f"{growth:.0f} MB more after 30 trials than after 3 (`scripts/bench_tune.py`).",
        "",
        f"A study of {compare['runs']} runs made {hourly['two workers']:.0f} runs an hour with "
        f"`--workers 2` and {hourly['alone']:.0f}",
        f"one after another, {compare['speedup']:.2f} times as many, measured once (same script).",
    ]


def sweep_sentence(summary: dict) -> str:
    """Return how far each placement bears the learning rate, and what it reached."""
    runs = sum(len(trial["runs"]) for trial in summary["trials"])
    epochs = summary["config"]["train"]["epochs"]
    metric = summary["objective"]["name"]
    metric_words = formatting.metric(metric)
    found = "; ".join(
        f"{name} {formatting.score(entry['best']['scores'], metric)} at "
        f"{entry['best']['values']['train.optimizer.learning_rate']:g}, stable up to "
        f"{entry['largest_stable_rate'] or 0:g}, {entry['diverged']} of {entry['trials']} diverged"
        for name, entry in summary["placements"].items()
    )
    return f"best {metric_words} of {runs} runs of {epochs} epochs, by placement: {found}."


def sweeps() -> list[tuple[str, dict]]:
    """Return the recorded sweeps in order."""
    return [(name, result) for name in SWEEPS if (result := load(name))]


def version_lines(result: dict) -> list[str]:
    """Return the table of the versions that the tests pass with."""
    groups = next(iter(result["sets"].values()))["groups"]
    head = ["tests passed (skipped) with", "Python", "TensorFlow", "Keras", "NumPy", *groups]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, tried in result["sets"].items():
        versions = (tried["versions"][key] for key in ("python", "tensorflow", "keras", "numpy"))
        counts = (version_count(**count) for count in tried["groups"].values())
        lines.append(f"| {' | '.join([name, *versions, *counts])} |")
    return lines


def versions_section() -> str:
    """Return the README's table of versions, without its markers."""
    result = load("versions")
    if result is None:
        return "Not tried yet (`scripts/test --versions`).\n"
    lines = [
        "| tried with | Python | TensorFlow | Keras | NumPy | tests passed (skipped) |",
        "|---" * 6 + "|",
    ]
    for name, tried in result["sets"].items():
        versions = (tried["versions"][key] for key in ("python", "tensorflow", "keras", "numpy"))
        passed, failed, skipped = (
            sum(group[key] for group in tried["groups"].values())
            for key in ("passed", "failed", "skipped")
        )
        cells = [name, *versions, version_count(passed, failed, skipped)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def version_count(passed: int, failed: int, skipped: int) -> str:
    """Return one cell of the table of versions."""
    left_out = f" ({skipped})" if skipped else ""
    return f"{passed}{left_out}, **{failed} failed**" if failed else f"{passed}{left_out}"


def updated(text: str) -> str:
    """Return a README with its generated sections replaced: those that it has."""
    sections = {
        "results": section(),
        "speed": speed_section(),
        "versions": versions_section(),
        "weights": weights_section(),
    }
    for name, lines in sections.items():
        if BEGIN.format(name) not in text:
            continue
        begin, end = BEGIN.format(name), END.format(name)
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = head + begin + lines + end + tail
    return text


def studies() -> list[tuple[str, dict]]:
    """Return the recorded studies in order."""
    found = ((name, load(name)) for name in ORDER)
    return [(name, result) for name, result in found if result and result["kind"] == "study"]


def page() -> str:
    """Return the page of all numbers and figures."""
    lines = [
        "# Results",
        "",
        "Written by `scripts/make_results.py` from the JSON files here.",
        "",
        *experiment_lines(),
        *figure_lines(),
        *statistics_lines(),
        *speed_lines(),
        *serving_lines(),
        *kill_lines(),
    ]
    return "\n".join(lines)


def experiment_lines() -> list[str]:
    """Return the table of all experiments, and what was measured beside them."""
    return [
        *table(ORDER, published=True),
        "",
        "The Devanagari and LeNet runs measure the test set after each epoch (the published",
        "protocol); the others read it once. The LeNet article has no score: its networks never",
        "call their batch normalization. `bnzoo train` made the runs, two at a time and most on",
        "one core, and `bnzoo compare --resume` gathered them: their seconds are no benchmark.",
        "`scripts/run_results.py` repeats them.",
        "",
        *seed_lines(),
        "",
        *pipeline_lines(),
        "",
        *sweep_lines(),
        "",
    ]


def figure_lines() -> list[str]:
    """Return each study's and sweep's verdict, command and figures.

    Figures are marked with a checksum of the numbers that they were drawn from.
    """
    lines = []
    for name, result in [*studies(), *sweeps()]:
        summary = result["summary"]
        seeds = f"Recorded with the seeds {formatting.listed(summary['seeds'])}."
        lines += [f"## {name}", "", verdict(summary), ""]
        lines += [
            f"    {result['command']}",
            "",
            f"{summary['protocol'].capitalize()}. {seeds}",
            "",
        ]
        for figure in figure_names(name, result):
            lines += [f"![{name}: {figure}](figures/{name}-{figure}.png)", ""]
        lines += [f"<!-- figures drawn from {fingerprint(result)} -->", ""]
    return lines


def speed_lines() -> list[str]:
    """Return the tables of speed: the layer, whole networks, and what a GPU would move."""
    layer, passes = load("bench_batch_norm_tensorflow"), load("gpu_passes")
    lines = ["## Speed of whole networks", "", *model_lines(load("bench_model")), ""]
    if layer:
        lines += ["## Speed of the layer alone", "", f"    {layer['command']}", ""]
        lines += [f"On {origin(layer)}; medians, interleaved.", "", *LAYER_IS_OLDER, ""]
        lines += [*layer_lines(layer), "", "### Inference, and the forward pass alone", ""]
        lines += [*inference_lines(layer), ""]
        lines += ["### In a step that XLA compiles", "", *xla_lines(layer), ""]
    if passes:
        lines += [*GPU_HEAD, f"    {passes['command']}", "", *gpu_lines(passes), ""]
    return [*lines, *tried_lines()]


def tried_lines() -> list[str]:
    """Return the versions of TensorFlow and Keras that the tests were run with."""
    tried = load("versions")
    if tried is None:
        return []
    head = ["## Versions", "", f"    {tried['command']}", "", *VERSIONS_HEAD, ""]
    return [*head, *version_lines(tried), ""]


def verdict(summary: dict) -> str:
    """Return what is said of the numbers today, whatever was said when they were recorded."""
    if summary["kind"] == "sweep":
        return summary["verdict"]
    return study_verdict(summary["variants"], summary["status"])


def figure_names(name: str, result: dict) -> list[str]:
    """Return the figures of a study's or a sweep's report that are kept."""
    if result["kind"] == "sweep":
        return ["heat_map", "rate"]
    follows = any("weights_path" in tables for tables in result["rows"].values())
    return ["accuracy", "loss", *(["weights_path"] if follows else [])]


def fingerprint(result: dict) -> str:
    """Return a checksum of the data behind figures."""
    return hashlib.sha256(json.dumps(result["rows"]).encode()).hexdigest()[:16]


def draw() -> None:
    """Draw the figures of studies and sweeps in temporary folders and keep the pictures."""
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
            keep_pictures(Path(folder) / "figures", name, result)
            if name == SHOWN_REPORT:
                screenshot(Path(folder) / "report.html", RESULTS / "report.png", 1200, 1000)
    for name, result in sweeps():
        with tempfile.TemporaryDirectory() as folder:
            grid_pictures(Path(folder), read_grid(result["summary"]), result["summary"])
            keep_pictures(Path(folder), name, result)


def keep_pictures(folder: Path, name: str, result: dict) -> None:
    """Copy the figures of one experiment to those of the results."""
    for figure in figure_names(name, result):
        shutil.copy(folder / f"{figure}.png", FIGURES / f"{name}-{figure}.png")


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
    for readme in (README, ZOO_PAGE):
        readme.write_text(updated(readme.read_text()))
    MEASURED_FILE.write_text(json.dumps(measured(), indent=1) + "\n")
    PAGE.write_text(page())
    CLAIMS.write_text(claims_page())
    draw()


if __name__ == "__main__":
    main()
