"""Keep a server busy for a long time, with malformed requests among the good ones.

    python scripts/soak_server.py --minutes 10

32 clients, half over HTTP and half over gRPC, send single images as arrays or as encoded files;
one request in 20 is malformed. Beside them 2 connections flood the server with images that are slow
to decode (`image_flood.py`). Halfway a new version of the model is put into its folder, which the
server finds by itself. No good request may fail or be answered wrongly, and memory must
stay flat.
"""

import argparse
import collections
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import base64
import shutil
import subprocess

import grpc
import hostile
import numpy as np
from attack_server import make_export
from serving_load import (
    GrpcClient,
    HttpClient,
    grpc_answers,
    grpc_request,
    http_answers,
    http_request,
    running_server,
)

from bnzoo.environment import machine, versions

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "soak_server.json"
CLIENTS, MALFORMED_EVERY, FLOOD_CONNECTIONS = 32, 20, 2
FLAT = 1.05  # memory at the end over memory after the first tenth


class Client(threading.Thread):
    """One client: sends until it is told to stop, and counts.

    Args:
        number: of the client; even ones use HTTP.
        server: to ask.
        model: its name.
        expected: the right logits for `VALUES`, and for the image.
        end: set when to stop.
    """

    def __init__(self, number: int, server, model: str, samples: dict, end: threading.Event):
        super().__init__(daemon=True)
        self.counts: collections.Counter = collections.Counter()
        self.failures: list[str] = []
        self.milliseconds: list[float] = []
        self._random = np.random.default_rng(number)
        self._model, self._samples, self._end = model, samples, end
        over_http = number % 2 == 0
        self._client = (HttpClient if over_http else GrpcClient)(
            server.port if over_http else server.grpc_port
        )
        self._ask = self._ask_http if over_http else self._ask_grpc

    def run(self) -> None:
        """Send one request after the other."""
        while not self._end.is_set():
            kind = str(self._random.choice(["array", "image"]))
            if self._random.integers(MALFORMED_EVERY) == 0:
                kind = "malformed"
            started = time.perf_counter()
            try:
                status, logits, version = self._ask(kind)
            except Exception as error:
                status, logits, version = repr(error), None, None
            self._count(kind, status, logits, version, 1e3 * (time.perf_counter() - started))

    def _count(self, kind, status, logits, version, milliseconds) -> None:
        if kind == "malformed":
            self.counts[f"malformed: {status}"] += 1
            return
        self.milliseconds.append(milliseconds)
        expected = self._samples[kind][1]
        if status == "good" and np.allclose(logits, expected, atol=1e-4):
            self.counts[f"good: version {version}"] += 1
        else:
            self.counts["good: failed"] += 1
            self.failures.append(f"{kind}: {status} {logits}")

    def _ask_http(self, kind: str):
        if kind == "malformed":
            bodies = self._samples["http"]
            return (
                self._client.infer(self._model, bodies[self._random.integers(len(bodies))])[0],
                0,
                0,
            )
        value = self._samples[kind][0]
        if kind == "image":
            data = base64.b64encode(value).decode()
            tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [data]}
            body = {"inputs": [tensor]}
        else:
            body = http_request(value)
        status, answer = self._client.infer(self._model, body)
        if status != 200:
            return status, answer, None
        return "good", http_answers(answer)["logits"], answer["model_version"]

    def _ask_grpc(self, kind: str):
        if kind == "malformed":
            one = self._samples["grpc"][self._random.integers(len(self._samples["grpc"]))]
            return self._client.infer(one)[0].name, 0, 0
        value = self._samples[kind][0]
        request = (
            grpc_request(self._model, [value], "image_bytes")
            if kind == "image"
            else grpc_request(self._model, value)
        )
        status, answer = self._client.infer(request)
        if status is not grpc.StatusCode.OK:
            return status.name, answer, None
        return "good", grpc_answers(answer)["logits"], answer.model_version


def samples_for(server, model: str, shape: list[int]) -> dict:
    """Return good requests with their answers, and malformed ones."""
    client = HttpClient(server.port)
    values = np.random.default_rng(0).random((1, *shape)).astype("float32")
    image = hostile.encoded("PNG", (20, 20), "L")
    data = base64.b64encode(image).decode()
    tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [data]}
    answers = [
        http_answers(client.infer(model, body)[1])["logits"].astype("float32")
        for body in (http_request(values), {"inputs": [tensor]})
    ]
    bad_shapes = [np.zeros(one, "float32") for one in hostile.hostile_shapes([None, *shape])]
    bad_images = [[one] for one in hostile.hostile_images().values()]
    return {
        "array": (values, answers[0]),
        "image": (image, answers[1]),
        "http": list(hostile.hostile_json(shape).values()),
        "grpc": [grpc_request(model, one) for one in bad_shapes]
        + [grpc_request(model, one, "image_bytes") for one in bad_images],
    }


def soak(export: Path, seconds: float, clients: int, folder: Path) -> dict:
    """Serve, load, publish and load a new version halfway, and return what came of it."""
    model = export.parent.name
    shape = json.loads((export / "bnzoo.json").read_text())["input_shape"]
    memory, end = [], threading.Event()
    with running_server(export.parent, folder / "soak.log") as server:
        samples = samples_for(server, model, shape)
        flood = _start_flood(server.port, model, seconds)
        threads = [Client(number, server, model, samples, end) for number in range(clients)]
        for thread in threads:
            thread.start()
        begun, loaded = time.monotonic(), None
        while (now := time.monotonic() - begun) < seconds:
            memory.append([round(now, 1), round(server.memory() / 2**20, 1)])
            if loaded is None and now > seconds / 2:
                loaded = publish_new_version(server, export, model)
            time.sleep(max(seconds / 100, 0.2))
        end.set()
        for thread in threads:
            thread.join(60)
        taken = time.monotonic() - begun
        flooded = json.loads(flood.communicate()[0])
        alive, code = server.process.poll() is None, server.stop()
        log = server.log.read_text().replace(f"{folder}/", "").splitlines()
    counts = sum((thread.counts for thread in threads), collections.Counter())
    milliseconds = np.concatenate([thread.milliseconds for thread in threads])
    after_start = memory[max(len(memory) // 10, 1)][1]
    return {
        "seconds": round(taken, 1),
        "clients": clients,
        "requests": counts.total(),
        "requests_per_second": round(counts.total() / taken, 1),
        "counts": dict(sorted(counts.items())),
        "failures_of_good_requests": counts["good: failed"],
        "failures": [line for thread in threads for line in thread.failures][:10],
        "milliseconds": {
            f"p{share}": round(float(np.percentile(milliseconds, share)), 2)
            for share in (50, 95, 99, 99.9, 100)
        },
        "new_version": loaded,
        "flood": flooded,
        "memory_mb_over_time": memory,
        "memory_ratio": round(memory[-1][1] / after_start, 4),
        "alive_at_the_end": alive,
        "exit_code": code,
        "log": log[:20],
    }


def _start_flood(port: int, model: str, seconds: float) -> subprocess.Popen:
    script = Path(__file__).with_name("image_flood.py")
    command = [sys.executable, script, str(port), model, "--seconds", str(seconds)]
    command += ["--connections", str(FLOOD_CONNECTIONS)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def publish_new_version(server, export: Path, model: str) -> dict:
    """Put a copy of an export beside it as the next version, and wait until it answers."""
    number = int(export.name) + 1
    hidden, target = export.parent / ".next", export.parent / str(number)
    shutil.copytree(export, hidden)
    hidden.rename(target)
    client, started = HttpClient(server.port), time.perf_counter()
    while (status := client.get(f"/v2/models/{model}/versions/{number}/ready")[0]) != 200:
        if time.perf_counter() - started > 60:
            break
        time.sleep(0.05)
    return {"status": status, "seconds": round(time.perf_counter() - started, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = soak(make_export(folder), 60 * arguments.minutes, arguments.clients, folder)
    report = {
        "command": " ".join(["python", "scripts/soak_server.py", *sys.argv[1:]]),
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(),
        **found,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"{found['requests']:,} requests in {found['seconds']} s, "
        f"{found['failures_of_good_requests']} good ones failed, memory x {found['memory_ratio']}"
    )
    print(found["counts"], found["milliseconds"], found["new_version"], found["flood"])
    is_right = (
        found["failures_of_good_requests"] == 0
        and found["alive_at_the_end"]
        and found["memory_ratio"] <= FLAT
        and (found["new_version"] or {}).get("status") == 200
    )
    raise SystemExit(0 if is_right else 1)


if __name__ == "__main__":
    main()
