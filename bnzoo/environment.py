"""What a result depends on besides its configuration: versions and the machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("bnzoo", "tensorflow", "keras", "numpy")


def versions(*more: str) -> dict[str, str]:
    """Return the installed versions of Python and the packages that decide about numbers.

    Args:
        *more: packages that decide about them here, besides `PACKAGES`.
    """
    found = {"python": platform.python_version()}
    for package in (*PACKAGES, *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def memory_bytes() -> float:
    """Return the bytes of main memory; infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows has no such function
        return float("inf")


def machine() -> dict[str, str | int]:
    """Return processor, usable cores and operating system."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return {"cpu": _cpu_name(), "cores": cores, "system": platform.system()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
