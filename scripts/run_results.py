"""Run the experiments of the README on real data, and record what came out.

    BNZOO_DATA_DIR=... python scripts/run_results.py [NAME ...]

Each is an ordinary `bnzoo compare` (`train`, `tune`) into runs/results/NAME, then an ordinary
`bnzoo export` of it; numbers and histories go to configs/results/NAME.json. What has ended is not
run again.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from bnzoo.files import read_rows
from bnzoo.runs import RunFolder, StudyFolder, SweepFolder

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "configs" / "results"
EXAMPLE_IMAGES = "runs/results/images"

EXPERIMENTS = {
    "three_conv_devanagari": ["compare", "configs/three_conv_devanagari.yaml"],
    "one_conv_devanagari": ["compare", "configs/one_conv_devanagari.yaml"],
    "lenet_cifar10": ["compare", "configs/lenet_cifar10.yaml"],
    "dense_mnist": ["compare", "configs/dense_mnist.yaml"],
    "conv1d_rows": ["compare", "configs/conv1d_rows.yaml"],
    "own_images": [
        "train",
        "configs/own_images.yaml",
        "--set",
        f"data.name=folder:{EXAMPLE_IMAGES}",
    ],
    "tune_three_conv": ["tune", "configs/tune_three_conv.yaml"],
    "tune_lenet_cifar10": ["tune", "configs/tune_lenet_cifar10.yaml"],
}


def main() -> None:
    for name in sys.argv[1:] or EXPERIMENTS:
        record(name, *EXPERIMENTS[name])


def record(name: str, command: str, *arguments: str) -> None:
    """Run one experiment to its end and write its result file."""
    if name == "own_images" and not (REPOSITORY / EXAMPLE_IMAGES).exists():
        start(sys.executable, "scripts/make_example_images.py", EXAMPLE_IMAGES)
    out = f"runs/results/{name}"
    line = [command, *arguments, "--out", out]
    start_bnzoo(line, out)
    parity = export_parity(out, f"runs/results/served/{name}")
    folder = REPOSITORY / out
    found = {"compare": study_result, "train": run_result, "tune": sweep_result}[command](folder)
    result = {"name": name, "command": shlex.join(["bnzoo", *line]), "export_parity": parity}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(dumps(result | found))


def start_bnzoo(line: list[str], out: str) -> None:
    """Run a command of bnzoo to its end; where its folder has begun, it goes on there."""
    begun = any((REPOSITORY / out).rglob("config.yaml"))
    start(sys.executable, "-m", "bnzoo", *line, *(["--resume"] if begun else []))


def export_parity(source: str, served: str) -> dict:
    """Export, and return how the export compared with the model in a new process."""
    start(sys.executable, "-m", "bnzoo", "export", source, "--out", served)
    newest = max(int(path.name) for path in (REPOSITORY / served).iterdir())
    return json.loads((REPOSITORY / served / str(newest) / "bnzoo.json").read_text())["parity"]


def run_result(folder: Path) -> dict:
    """Return what a run's folder says."""
    run = RunFolder(folder)
    summary, config = run.summary(), run.config().model_dump(mode="json")
    return {"kind": "run", "summary": summary, "config": config, "rows": {".": tables(run)}}


def study_result(folder: Path) -> dict:
    """Return what a study's folder says, every run's history included."""
    summary = StudyFolder(folder).summary()
    places = [run["folder"] for variant in summary["variants"].values() for run in variant["runs"]]
    rows = {place: tables(RunFolder(folder / place)) for place in places}
    return {"kind": "study", "summary": summary, "rows": rows}


def sweep_result(folder: Path) -> dict:
    """Return what a sweep's folder says, every run's history included."""
    summary = SweepFolder(folder).summary()
    places = [run["folder"] for trial in summary["trials"] for run in trial["runs"]]
    rows = {place: tables(RunFolder(folder / place)) for place in places}
    return {"kind": "sweep", "summary": summary, "rows": rows}


def tables(run: RunFolder) -> dict:
    """Return the tables of a run that figures are drawn from."""
    found = {"history": run.history(), "weights_path": read_rows(run.weights_path_file)}
    return {name: as_table(rows) for name, rows in found.items() if rows}


def as_table(rows: list[dict]) -> dict:
    """Return rows as columns and lists of values, rounded to what float32 holds."""
    values = [[value if value is None else float(f"{value:.7g}") for value in row.values()]
              for row in rows]  # fmt: skip
    return {"columns": list(rows[0]), "values": values}


def start(*command: str) -> None:
    print("$", shlex.join(command[1:]), flush=True)
    subprocess.run(command, cwd=REPOSITORY, check=True)


def dumps(result: dict) -> str:
    """Return JSON with one line per epoch, so that differences can be read."""
    rows = result.pop("rows")
    head = json.dumps(result, indent=1).removesuffix("\n}")
    places = []
    for place, found in rows.items():
        parts = []
        for name, table in found.items():
            lines = ",\n   ".join(json.dumps(row) for row in table["values"])
            columns = json.dumps(table["columns"])
            parts.append(f'"{name}": {{"columns": {columns}, "values": [\n   {lines}]}}')
        places.append(f' "{place}": {{' + ", ".join(parts) + "}")
    return head + ',\n "rows": {\n' + ",\n".join(places) + "\n }\n}\n"


if __name__ == "__main__":
    main()
