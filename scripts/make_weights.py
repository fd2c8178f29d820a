"""Train the four small models whose weights ship in the package, and write their cards.

    BNZOO_DATA_DIR=... python scripts/make_weights.py

Each is an ordinary `bnzoo train` of a committed config, with its seed and after its last epoch:
none is chosen by what it scores. A run that has ended is not run again: remove runs/weights/ to
begin anew. Three minutes for each `three_conv`, half a minute for each `dense` on 2 cores. After it
`python scripts/make_results.py` writes the table of bnzoo/models/README.md.
"""

import hashlib
import json
import shlex
from typing import Any

from run_results import REPOSITORY, start_bnzoo

from bnzoo.config.models.trained import WEIGHTS_FOLDER
from bnzoo.runs import RunFolder

CONFIGS = ("three_conv_devanagari", "dense_mnist")
PLACEMENTS = ("before", "none")

# Of the data. Only weights are in the package, no image.
SOURCES = {
    "devanagari_digits": {
        "license": "CC BY 4.0",
        "license_url": "https://creativecommons.org/licenses/by/4.0/",
        "attribution": "Devanagari Handwritten Character Dataset by Shailesh Acharya and Prashnna "
        "Gyawali (2015), UCI Machine Learning Repository, https://doi.org/10.24432/C5XS53; its ten "
        "classes of digits",
    },
    "mnist": {
        "license": "CC BY-SA 3.0, as the documentation of Keras says",
        "license_url": "https://creativecommons.org/licenses/by-sa/3.0/",
        "attribution": "MNIST database of handwritten digits, copyright Yann LeCun and Corinna "
        "Cortes, a derivative work from original NIST datasets",
    },
}


def main() -> None:
    WEIGHTS_FOLDER.mkdir(exist_ok=True)
    for config in CONFIGS:
        for placement in PLACEMENTS:
            out = f"runs/weights/{config}-{placement}"
            line = ["train", f"configs/{config}.yaml", "--set", f"model.placement={placement}"]
            start_bnzoo([*line, "--out", out], out)
            ship(RunFolder(REPOSITORY / out), shlex.join(["bnzoo", *line, "--out", out]))


def ship(run: RunFolder, command: str) -> None:
    """Write the weights of a run that has ended into the package, and their card."""
    from bnzoo import load_model

    config = run.config()
    name = f"{config.model.name}-{config.data.name}-{config.model.placement}"
    file = WEIGHTS_FOLDER / f"{name}.weights.h5"
    load_model(run.path, compile=False).save_weights(file)
    card = card_of(run, command) | {
        "file": file.name,
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    (WEIGHTS_FOLDER / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")


def card_of(run: RunFolder, command: str) -> dict[str, Any]:
    """Return what a run's folder says of the model, and how it does on the test set."""
    from bnzoo.studies.evaluation import evaluate_run

    config, summary = run.config(), run.summary()
    if summary["model_epoch"] != config.train.epochs:
        raise RuntimeError(f"{run.path}: expected the model of the last epoch; see its config.")
    answers, record = evaluate_run(run.path)
    right = int((answers.labels == answers.answers).sum())
    return {
        "model": config.model.name,
        "weights": config.data.name,
        "placement": config.model.placement,
        "outputs": "logits",
        "parameters": summary["parameters"],
        "test": {"right": right, "examples": len(answers.labels), "loss": record["loss"]},
        "protocol": summary["protocol"],
        "license": "Apache-2.0",
        "data": {**summary["data"], **SOURCES[config.data.name]},
        "command": command,
        "seed": config.seed,
        "seconds": summary["seconds"],
        "machine": summary["machine"],
        "versions": summary["versions"],
        "config": config.model_dump(mode="json", exclude={"compare", "tune"}),
    }


if __name__ == "__main__":
    main()
