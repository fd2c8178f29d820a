"""Commands in processes of their own, as users start them, and looks at them from outside."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LONG = 600  # seconds until a test gives up: machines are busy
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="reads /proc")


@contextlib.contextmanager
def starter():
    """Give a function that starts `bnzoo ARGUMENTS`; none of what it started is left behind."""
    started = []

    def run(*arguments, **variables):
        process = subprocess.Popen(
            [sys.executable, "-m", "bnzoo", *map(str, arguments)],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=LONG)


def finish(process):
    printed, errors = process.communicate(timeout=LONG)
    assert process.returncode == 0, (printed, errors)
    assert errors == "", "TensorFlow's start-up messages: TF_CPP_MIN_LOG_LEVEL is 3 in these tests"
    return printed


def wait_for(condition, *processes):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def children(process):
    """Return the command lines of a process's children by their id."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(process.pid)], capture_output=True, text=True
    ).stdout
    return {int(line.split()[0]): line for line in listed.splitlines()}


def variable(pid, name):
    """Return a variable of the environment that a process was started with."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            key, _, value = item.decode().partition("=")
            if key == name:
                return value
    return None


def stopped(pids):
    deadline = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
