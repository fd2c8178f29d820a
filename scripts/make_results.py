"""Write the results section of the README from the files in configs/results/.

python scripts/make_results.py           # after scripts/run_results.py or a benchmark
python scripts/make_results.py --check   # exit 1 when the README is not up to date
"""

import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "configs" / "results"
README = REPOSITORY / "README.md"
BEGIN = "<!-- results: written by scripts/make_results.py, do not edit -->\n"
END = "<!-- end of results -->\n"

# (first epoch's training loss, test accuracy after the last epoch), from the sources that the
# configs name. PUBLISHED has what the article itself printed; the rest was never published.
PUBLISHED = {
    "three_conv_devanagari": ("0.629", "0.991"),
    "three_conv_devanagari_none": ("2.118", "0.924"),
}
ORDER = (
    "three_conv_devanagari",
    "three_conv_devanagari_none",
    "lenet_cifar10",
    "dense_mnist",
    "conv1d_rows",
    "own_images",
)


def runs_table() -> list[str]:
    """Return the table of runs, one row per result file."""
    lines = [
        "| run | batch norm | epochs | first-epoch loss (published) "
        "| test accuracy (published) | export differs by |",
        "|---|---|---|---|---|---|",
    ]
    for name in ORDER:
        result = json.loads((RESULTS / f"{name}.json").read_text())
        loss, accuracy = PUBLISHED.get(name, ("-", "-"))
        epochs = len(result["history"])
        lines.append(
            f"| `{name}` | {result['config']['model']['placement']} | {epochs} "
            f"| {result['history'][0]['loss']:.3f} ({loss}) "
            f"| {result['test']['accuracy']:.3f} ({accuracy}) "
            f"| {result['export_parity']['largest_relative_difference']:.0e} |"
        )
    return lines


def origin(result: dict) -> str:
    """Return on what a result was measured."""
    machine, versions = result["machine"], result["versions"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}, Python {versions['python']}, "
        f"TensorFlow {versions['tensorflow']}, Keras {versions['keras']}"
    )


def section() -> str:
    """Return the whole section, without its markers."""
    first = json.loads((RESULTS / f"{ORDER[0]}.json").read_text())
    lines = [
        f"One run each, one seed, on {origin(first)}.",
        "`scripts/run_results.py` repeats them; commands, configs, versions and histories are in",
        "`configs/results/`.",
        "",
        *runs_table(),
        "",
        "Without batch normalization the first epoch's loss is its seed's luck: the published",
        "network in PyTorch 2.13 gave 2.119 with the published seed and 2.19 to 2.30 with eight",
        "others, and its test accuracy jumps up and down until the end. LeNet and the Devanagari",
        "runs measure the test set after each epoch (the published protocol); the others read it",
        "once. One run is no spread: differences of a point between rows mean nothing yet.",
        "",
        *pipeline_lines(),
    ]
    return "\n".join(lines) + "\n"


def pipeline_lines() -> list[str]:
    """Return what the input pipeline costs."""
    file = RESULTS / "bench_pipeline.json"
    if not file.exists():
        return ["The input pipeline's speed was not measured yet (`scripts/bench_pipeline.py`)."]
    result = json.loads(file.read_text())
    shares = "; ".join(
        f"{100 * case['ratio_of_medians']:.0f} % for {name}"
        for name, case in result["cases"].items()
    )
    return [
        "`model.fit` from `bnzoo.data` runs at this share of the steps per second of a cached",
        f"in-memory tensor dataset: {shares} (`scripts/bench_pipeline.py`, medians of interleaved",
        f"epochs, {origin(result)}).",
    ]


def updated(text: str) -> str:
    """Return the README with its results section replaced."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + section() + END + tail


def main() -> None:
    text = README.read_text()
    if "--check" in sys.argv:
        raise SystemExit(updated(text) != text)
    README.write_text(updated(text))


if __name__ == "__main__":
    main()
