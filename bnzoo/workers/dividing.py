"""The cores and GPUs of this machine, divided among processes."""

import itertools
import os
import shutil
import subprocess


def cores_of(workers: int) -> list[set[int]]:
    """Return the cores of each worker: all are used, and shared only where there are too few.

    Where the system cannot say which cores a process may use, each set is empty.
    """
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(workers)]
    cores = sorted(os.sched_getaffinity(0))
    return [set(cores[n::workers]) or {cores[n % len(cores)]} for n in range(workers)]


def gpus_of(workers: int) -> list[dict[str, str]]:
    """Return the environment variables that give each worker its GPU; none without GPUs.

    More workers than GPUs share them, and then take memory as they need it.
    """
    gpus = _gpus()
    shared = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"} if workers > len(gpus) else {}
    names = itertools.cycle(gpus)
    return [{"CUDA_VISIBLE_DEVICES": next(names), **shared} if gpus else {} for _ in range(workers)]


def _gpus() -> list[str]:
    """Return what names each GPU that this process may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    lines = listed.stdout.splitlines() if listed.returncode == 0 else []
    return [str(number) for number, line in enumerate(lines) if line.startswith("GPU")]
