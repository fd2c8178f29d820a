"""Export every network with every placement, and compare it with `model.predict` as users have it.

    python scripts/parity_table.py
    python scripts/parity_table.py resnet vgg  # only these; the rows of others stay

Each is trained for one epoch on the bundled digits, exported by `bnzoo export`, and asked about its
test data in batches of 1, 7 and 128 by two kinds of new processes that know nothing of bnzoo:
`tf.saved_model.load` and TensorFlow's own `saved_model_cli run`. `make_results.py` makes a table of
configs/results/parity.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import bnzoo
from bnzoo import config
from bnzoo.environment import machine, versions
from bnzoo.models import list_models
from bnzoo.serving import export_source, parity
from bnzoo.serving.export import run_examples
from bnzoo.serving.saved_model import read_metadata
from bnzoo.training import train

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "parity.json"
PLACEMENTS = ("none", "before", "after")
DATA = {
    "conv1d": {"view": "rows", "min_length": 3},
    "lenet": {"image_size": [32, 32]},
}
MODEL = {
    "conv1d": {"classes": 10, "filters": [16]},
    "inception": {"blocks": ["3a", "3c"], "width": 0.25},
    "resnet": {"depth": 8},
    "vgg": {"filters": [[16], [32, 32]], "units": [32]},
}


def measure(name: str, placement: str, folder: Path) -> dict:
    """Train, export and compare one network."""
    tree = {
        "data": {"name": "digits", "batch_size": 64, **DATA.get(name, {})},
        "model": {"name": name, "placement": placement, **MODEL.get(name, {})},
        "train": {"epochs": 1, "tensorboard": False},
    }
    checked = config.validate(tree, name)
    train(checked, folder / "run")
    export = export_source(folder / "run", folder / "served")
    model, facts = bnzoo.load_model(folder / "run"), read_metadata(export)
    batches = parity.sample_inputs(model, run_examples(checked))
    answers = ask_saved_model_cli(export, batches)
    by_tool = parity.largest_difference(model, facts["output"], batches, answers)
    return {
        "model": name,
        "placement": placement,
        "folded": facts["folded"],
        "compared_on": facts["parity"]["inputs"],
        "batch_sizes": facts["parity"]["batch_sizes"],
        "allowed": facts["parity"]["allowed"],
        "tf.saved_model.load": facts["parity"]["largest_relative_difference"],
        "saved_model_cli": by_tool,
    }


def ask_saved_model_cli(export: Path, batches: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Ask an export by `saved_model_cli run`, TensorFlow's own tool, once for each batch."""
    answers = []
    for batch in batches:
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder, "inputs.npy"), Path(folder, "answers")
            np.save(asked, batch)
            tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"]
            where = ["--dir", str(export), "--tag_set", "serve"]
            signature = ["--signature_def", "serving_default"]
            files = ["--inputs", f"inputs={asked}", "--outdir", str(answered)]
            subprocess.run([*tool, *where, *signature, *files], check=True, capture_output=True)
            found = answered.glob("*.npy")
            answers.append({file.stem: np.load(file).astype("float32") for file in found})
    return {name: np.concatenate([one[name] for one in answers]) for name in answers[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list_models())
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    old = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
    rows = [row for row in old if row["model"] not in arguments.models]
    for name in arguments.models:
        for placement in PLACEMENTS:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(measure(name, placement, Path(folder)))
            print(rows[-1], flush=True)
    report = {
        "command": " ".join(["python", "scripts/parity_table.py", *sys.argv[1:]]),
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "rows": sorted(rows, key=lambda row: (row["model"], PLACEMENTS.index(row["placement"]))),
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
