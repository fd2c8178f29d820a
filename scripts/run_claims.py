"""Run the papers' claims again on real data, and record what came out.

    BNZOO_DATA_DIR=... python scripts/run_claims.py [NAME ...]

Each is `bnzoo compare configs/claims/NAME.yaml --workers 2` into runs/claims/NAME; what has ended
is not run again. Its summary goes to configs/claims/NAME.json, its figure to
configs/claims/figures/NAME.png. `scripts/make_results.py` then makes the page.
"""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bnzoo.config import claims_folder, load_config, starter_summary
from bnzoo.runs import StudyFolder
from bnzoo.studies.claims import TIMES

REPOSITORY = Path(__file__).parent.parent
# Of a run: what a figure or a claim is not made of.
LEFT_OUT = ("best", "final", "folder")


def main() -> None:
    names = sys.argv[1:] or [path.stem for path in sorted(claims_folder().glob("*.yaml"))]
    for name in names:
        record(name)


def record(name: str) -> None:
    """Run one claim to its end and write its files."""
    config, out = f"configs/claims/{name}.yaml", f"runs/claims/{name}"
    line = ["compare", config, "--workers", "2", "--out", out]
    run_for(line, REPOSITORY / out)
    folder = StudyFolder(REPOSITORY / out)
    figures = claims_folder() / "figures"
    figures.mkdir(exist_ok=True)
    figure = shutil.copy(folder.figures / f"{figure_name(config)}.png", figures / f"{name}.png")
    result = {
        "name": name,
        "title": starter_summary(REPOSITORY / config),
        "command": shlex.join(["bnzoo", *line]),
        "seconds": round(float(seconds_file(folder.path).read_text())),
        "figure_sha256": hashlib.sha256(Path(figure).read_bytes()).hexdigest(),
        "summary": shortened(folder.completed_summary()),
    }
    (claims_folder() / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def run_for(line: list[str], out: Path) -> None:
    """Run a command of bnzoo, and add the seconds that it took to those of earlier attempts."""
    command = [sys.executable, "-m", "bnzoo", *line, *(["--resume"] if out.exists() else [])]
    print("$", shlex.join(command[1:]), flush=True)
    file = seconds_file(out)
    before = float(file.read_text()) if out.exists() and file.exists() else 0.0
    is_done = out.exists() and StudyFolder(out).status() == "completed"
    started = time.perf_counter()
    try:
        subprocess.run(command, cwd=REPOSITORY, check=True)
    finally:
        if not is_done:
            out.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(str(before + time.perf_counter() - started))


def seconds_file(out: Path) -> Path:
    """Return the file beside a study that knows how long it took."""
    return out.with_name(f"{out.name}.seconds")


def figure_name(config: str) -> str:
    """Return the figure of the report that shows what is claimed."""
    compare = load_config(REPOSITORY / config).compare
    if compare.study:
        return compare.study.name
    is_about_time = any(one.number in TIMES for one in compare.claim.expectations())
    return "accuracy" if is_about_time else "variants"


def shortened(summary: dict) -> dict:
    """Leave out of a summary what only the study's own folder needs."""
    for variant in summary["variants"].values():
        for run in variant["runs"]:
            for key in LEFT_OUT:
                run.pop(key, None)
    return summary


if __name__ == "__main__":
    main()
