"""Run the commands of the READMEs and write their real output below them.

    python scripts/make_outputs.py [PAGE...]

Commands stand in ```console blocks behind `$ `; those of a page run in order in one temporary
folder that holds this repository's `scripts` and `configs`.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "configs/README.md",
    "bnzoo/diagnosis/README.md",
    "bnzoo/models/README.md",
    "bnzoo/serving/README.md",
    "bnzoo/surgery/README.md",
    "bnzoo/tuning/README.md",
    "configs/own/README.md",
)
# They take minutes, and as all of DATA_PAGES real data in BNZOO_DATA_DIR.
LONG_PAGES = ("configs/own/README.md", "bnzoo/diagnosis/README.md")
DATA_PAGES = (*LONG_PAGES, "bnzoo/models/README.md")
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
# These make an environment of their own: run by hand and by CI.
NOT_RUN = ("scripts/quickstart", "scripts/test")
LONGEST = 10  # lines of output; more are shortened in the middle
KEPT = 5


def commands(text: str) -> list[str]:
    """Return the commands of a README in order."""
    return [command for block in BLOCK.findall(text) for command, _ in parse(block)]


def parse(block: str) -> list[tuple[str, list[str]]]:
    """Split a console block into (command, lines of output)."""
    found: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return found


def is_run(command: str) -> bool:
    """Tell whether a command is one that we run."""
    return not command.startswith(NOT_RUN)


def prepare(folder: Path) -> None:
    """Make a folder look like a checkout to the commands."""
    for name in ("scripts", "configs"):
        (folder / name).symlink_to(REPOSITORY / name)


def run(command: str, folder: Path) -> tuple[int, list[str]]:
    """Run a command as a shell would, and return its exit code and its output, shortened."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    environment = {key: value for key, value in os.environ.items() if not key.startswith("TF_CPP")}
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, shortened(done.stdout.rstrip().splitlines())


def shortened(lines: list[str]) -> list[str]:
    """Leave out the middle of a long output."""
    return lines if len(lines) <= LONGEST else [*lines[:KEPT], "...", *lines[-KEPT:]]


def main() -> None:
    for name in sys.argv[1:] or PAGES:
        page = REPOSITORY / name
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder))
            page.write_text(updated(page.read_text(), Path(folder)))


def updated(text: str, folder: Path) -> str:
    """Return a page with the output of its commands as it is now."""

    def rewrite(match: re.Match) -> str:
        lines = []
        for command, output in parse(match[1]):
            if is_run(command):
                print("$", command, file=sys.stderr)
                output = run(command, folder)[1]
            lines += [f"$ {command}", *output]
        return "```console\n" + "\n".join(lines) + "\n```"

    return BLOCK.sub(rewrite, text)


if __name__ == "__main__":
    main()
