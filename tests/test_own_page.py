"""The examples of configs/own from a config to an answer of the server, on small data."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parent.parent
DIGITS = ["data.name=digits", "data.color_mode=rgb", "train.epochs=1"]
EXAMPLES = {
    "residual_cifar10": ([*DIGITS, "data.image_size=[16, 16]"], (16, 16, 3), "class_id"),
    "mobilenet_cifar10": ([*DIGITS, "data.image_size=[64, 64]"], (64, 64, 3), "class_id"),
    "tabular": (["train.epochs=2"], (10,), "outputs"),
}


def bnzoo(*arguments, folder):
    command = [sys.executable, "-m", "bnzoo", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def served(folder):
    """Serve a folder of models, and give the address once it is ready."""
    ports = {"--port": free_port(), "--grpc-port": free_port(), "--metrics-port": free_port()}
    words = [str(word) for pair in ports.items() for word in pair]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "bnzoo", "serve", "served", *words],
            cwd=folder, stdout=log, stderr=log, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        )  # fmt: skip
    address, deadline = f"http://127.0.0.1:{ports['--port']}/v2", time.monotonic() + 120
    try:
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/health/ready")
                break
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(60)


def ask(address, model, inputs):
    """Return the outputs of a model by name, as the Open Inference Protocol has them."""
    tensor = {"name": "inputs", "shape": inputs.shape, "datatype": "FP32"}
    request = {"inputs": [{**tensor, "data": inputs.ravel().tolist()}]}
    answer = urllib.request.urlopen(
        urllib.request.Request(
            f"{address}/models/{model}/infer",
            json.dumps(request).encode(),
            {"Content-Type": "application/json"},
        )
    )
    return {one["name"]: one["data"] for one in json.load(answer)["outputs"]}


@pytest.mark.slow
def test_every_example_is_trained_exported_and_served(tmp_path):
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    for name, (settings, _, _) in EXAMPLES.items():
        sets = [word for one in settings for word in ("--set", one)]
        bnzoo("train", f"configs/own/{name}.yaml", *sets, folder=tmp_path)
        bnzoo("export", f"runs/{name}", "--out", f"served/{name}", folder=tmp_path)
    with served(tmp_path) as address:
        for name, (_, shape, output) in EXAMPLES.items():
            inputs = np.random.default_rng(0).random((3, *shape)).astype("float32")
            answer = ask(address, name, inputs)
            assert len(answer[output]) == 3, name
            assert np.isfinite(answer[output]).all()


def test_the_configs_of_the_page_have_no_problems(monkeypatch, call):
    monkeypatch.chdir(REPOSITORY)
    configs = sorted(REPOSITORY.glob("configs/own/*.yaml"))
    code, out, _ = call("check", *configs)
    assert (code, out) == (0, f"{len(configs)} configs checked, no problems.\n")
