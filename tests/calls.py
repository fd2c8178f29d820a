"""Short calls of `bnzoo.ops`, new processes on JAX, and what stands in for a full disk."""

import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path

from bnzoo.ops import Settings, batch_norm

TESTS = Path(__file__).parent


def normalize_batch(inputs, gamma=None, beta=None, mask=None, **settings):
    """Call `bnzoo.ops.batch_norm` with single settings."""
    return batch_norm(inputs, gamma, beta, mask, Settings(**settings))


@contextlib.contextmanager
def largest_file(size):
    """Let no file grow beyond so many bytes, which is an error of the same kind as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def run_on_jax(script):
    """Run Python in a new process on JAX that finds bnzoo and the tests; return what it prints."""
    paths = [str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
