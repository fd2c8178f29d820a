"""Run the layer, model, surgery and training tests with the oldest and the newest versions.

    scripts/test --versions              # oldest and newest: about 10 minutes each on 2 cores
    scripts/test --versions newest       # one of them

The oldest are the floors of `pyproject.toml`, under its oldest Python; the newest what pip finds
without caps, under the newest Python that TensorFlow has a package for. Each has a virtual
environment, which is made once: later runs need no network. The table is printed, and kept in
configs/results/versions.json for `scripts/make_results.py`.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from make_results import version_lines
from recorded import RESULTS, load

from bnzoo.environment import machine

REPOSITORY = Path(__file__).parent.parent
PROJECT = REPOSITORY / "pyproject.toml"
# What starts with one of a group's prefixes belongs to it.
GROUPS = {
    "layer": ("test_layer_", "test_ops_", "test_versions"),
    "models": ("test_models_", "test_conformance_models"),
    "surgery": ("test_surgery_",),
    "training": ("test_training",),
}
# Not pyproject's extra `test`, whose JAX wants other versions than an old TensorFlow.
TOOLS = ("pytest", "pytest-xdist", "hypothesis")
PYTHONS = {"oldest": ("3.11",), "newest": ("3.15", "3.14", "3.13", "3.12", "3.11")}
PACKAGES = ("tensorflow", "keras", "numpy", "protobuf")
# Only bnzoo's own warnings are errors: old packages warn of each other.
WARNINGS = "filterwarnings=error:::bnzoo"


def find_python(version: str) -> str | None:
    """Return a Python of a version such as "3.13", on the path or in pyenv's folder."""
    root = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [shutil.which(f"python{version}"), *root.glob(f"versions/{version}.*/bin/python")]
    for python in filter(None, found):
        works = subprocess.run([python, "-c", "import ensurepip"], capture_output=True, check=False)
        if works.returncode == 0:
            return str(python)
    return None


def floors() -> str:
    """Return constraints that pin every requirement of bnzoo to the oldest version it allows."""
    wanted = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    return "".join(f"{requirement.replace('>=', '==')}\n" for requirement in wanted)


def installed(name: str) -> Path | None:
    """Make the virtual environment of one set, unless it is there; return its Python."""
    folder = REPOSITORY / f".venv-{name}"
    python, stamp = folder / "bin" / "python", folder / ".bnzoo"
    wanted = hashlib.sha256(PROJECT.read_bytes() + str(REPOSITORY).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    for version in PYTHONS[name]:
        base = find_python(version)
        if base is None:
            continue
        print(f"Installing the {name} versions into {folder} with {base} ...", flush=True)
        subprocess.run([base, "-m", "venv", "--clear", folder], check=True)
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if name == "oldest":
            constraints = folder / "constraints.txt"
            constraints.write_text(floors())
            command += ["--constraint", constraints]
        done = subprocess.run([*command, "--editable", REPOSITORY, *TOOLS], check=False)
        if done.returncode == 0:
            stamp.write_text(wanted)
            return python
    return None


def checked(name: str, python: Path) -> dict:
    """Run the tests with one set; return versions, counts by group and seconds."""
    report = python.parent.parent / "tests.xml"
    report.unlink(missing_ok=True)
    prefixes = tuple(prefix for group in GROUPS.values() for prefix in group)
    files = [path for path in sorted(Path("tests").glob("*.py")) if path.name.startswith(prefixes)]
    command = [python, "-m", "pytest", "-q", "--numprocesses", "2", "-o", WARNINGS]
    began = time.monotonic()
    subprocess.run([*command, "--junit-xml", report, *files], cwd=REPOSITORY, check=False)
    seconds = time.monotonic() - began
    if not report.exists():
        raise SystemExit(f"With the {name} versions pytest could not run; see above.")
    ask = "import json, platform; from importlib.metadata import version; "
    ask += f"print(json.dumps({{p: version(p) for p in {PACKAGES}}} "
    ask += "| {'python': platform.python_version()}))"
    told = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    groups = counts(ElementTree.parse(report))
    return {"versions": json.loads(told.stdout), "groups": groups, "seconds": round(seconds)}


def counts(report: ElementTree.ElementTree) -> dict:
    """Count what passed, failed and was skipped in each group of tests."""
    found = {group: Counter(passed=0, failed=0, skipped=0) for group in GROUPS}
    for case in report.iter("testcase"):
        file = case.get("classname").rpartition(".")[2]
        outcomes = [child.tag for child in case if child.tag in ("failure", "error", "skipped")]
        outcome = {"failure": "failed", "error": "failed"}.get(*outcomes[:1], "skipped")
        group = next(group for group in GROUPS if file.startswith(GROUPS[group]))
        found[group][outcome if outcomes else "passed"] += 1
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", choices=[*PYTHONS, []], help="default: both")
    wanted = parser.parse_args().sets or list(PYTHONS)
    os.chdir(REPOSITORY)
    result = {"command": "scripts/test --versions", "machine": machine(), "sets": {}}
    result["sets"] = (load("versions") or result)["sets"]
    for name in wanted:
        python = installed(name)
        if python is None:
            raise SystemExit(f"No Python of {PYTHONS[name]} could install the {name} versions.")
        result["sets"][name] = checked(name, python)
    (RESULTS / "versions.json").write_text(json.dumps(result, indent=2) + "\n")
    print("\n".join(version_lines(result)))
    groups = [group for one in wanted for group in result["sets"][one]["groups"].values()]
    sys.exit(any(group["failed"] for group in groups))


if __name__ == "__main__":
    main()
