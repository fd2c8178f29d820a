"""Long work in bounded memory: slow. `scripts/bench_memory.py` measures the same on more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parent.parent / "scripts" / "bench_memory.py"


def measured(tmp_path, *arguments):
    out = tmp_path / "memory.json"
    subprocess.run([sys.executable, str(SCRIPT), "--out", str(out), *arguments], check=True)
    return json.loads(out.read_text())


def test_50_runs_of_a_study_end_near_the_memory_after_the_third(tmp_path):
    found = measured(tmp_path, "--only", "study")["study"]
    assert len(found["megabytes"]) == 50
    assert found["growth_from_3_to_the_end"] <= found["allowed"]


def test_images_that_are_more_than_is_kept_in_memory_train_within_a_bound(tmp_path):
    found = measured(tmp_path, "--only", "folder", "--gigabytes", "1.3")["folder"]
    assert found["bytes"] > 2**30
    assert found["peak_megabytes"] <= found["allowed"]
