"""Send malformed requests to an exported model: nothing may abort, hang or answer wrongly.

    python scripts/attack_server.py --requests 100000

A hostile list, random shapes and datatypes, and random bytes go to the loaded signatures (in a
process of their own) and to a live server over HTTP and gRPC. While the server is attacked other
clients send good requests, which share its batches; each must be answered, and rightly. Without
--export a small network for images is exported first.
"""

import argparse
import base64
import collections
import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import hostile
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
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

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "attack_server.json"
SHARES = {"signature": 0.4, "http": 0.3, "grpc": 0.3}
GOOD_EVERY = 20  # attacks between two good requests of the attacker itself
PAUSE = 0.005  # seconds between two good requests meanwhile
SLOW = 240.0  # seconds: an answer that takes longer counts as none

FLOODS, FLOOD_SECONDS, FLOOD_CONNECTIONS = 5, 20.0, 8
RATE = 10.0  # requests a second beside a flood
ALLOWED = 5.0  # p99 of these beside a flood over that without, median of the floods

HTTP_RIGHT = {200, 400, 403, 404, 405, 413, 415, 422}
GRPC_RIGHT = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"}


class Tally:
    """Counts answers by kind and status, and keeps what should not have happened."""

    def __init__(self):
        self.answers: dict[str, collections.Counter] = {}
        self.wrong: list[str] = []
        self.slowest = 0.0

    def count(self, kind: str, status, is_right: bool, seconds: float, about="") -> None:
        """Count one answer."""
        self.answers.setdefault(kind, collections.Counter())[str(status)] += 1
        self.slowest = max(self.slowest, seconds)
        if not is_right or seconds > SLOW:
            self.wrong.append(f"{kind}: {status} after {seconds:.1f} s {str(about)[:300]}")

    def attacks(self) -> int:
        """Return the number of answers to requests that were not good ones."""
        kinds = (kind for kind in list(self.answers) if not kind.startswith("good"))
        return sum(self.answers[kind].total() for kind in kinds)

    def summary(self) -> dict:
        """Return it as JSON has it."""
        return {
            "attacks": self.attacks(),
            "good_requests": sum(one.total() for one in self.answers.values()) - self.attacks(),
            "answers": {kind: dict(one) for kind, one in self.answers.items()},
            "slowest_seconds": round(self.slowest, 3),
            "wrong": self.wrong[:20],
            "number_wrong": len(self.wrong),
        }


def property_based(number: int, strategy, attack) -> None:
    """Call `attack` with `number` drawn values."""
    run = settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )(given(strategy)(attack))
    run()


# --- the signatures of a loaded model -------------------------------------------------------------


def attack_signatures(export: Path, number: int, seed: int) -> dict:
    """Attack the signatures in this process; it may die of it, which its caller notices."""
    import tensorflow as tf

    loaded, random, tally = tf.saved_model.load(str(export)), np.random.default_rng(seed), Tally()
    default, by_bytes = (loaded.signatures[name] for name in ("serving_default", "serve_bytes"))
    shape = default.structured_input_signature[1]["inputs"].shape.as_list()
    image = hostile.encoded("PNG")
    expected = by_bytes(image_bytes=tf.constant([image]))["logits"].numpy()

    def ask(kind: str, signature, **inputs) -> None:
        started = time.perf_counter()
        try:
            answer = signature(**inputs)
            rows = int(next(iter(inputs.values())).shape[0])
            status, right = "answered", all(len(value) == rows for value in answer.values())
        except tf.errors.InvalidArgumentError:
            status, right = "InvalidArgument", True
        except (TypeError, ValueError) as error:  # a dtype that the signature never takes
            status, right = type(error).__name__, True
        tally.count(kind, status, right, time.perf_counter() - started, inputs)
        if random.integers(GOOD_EVERY) == 0:
            good = by_bytes(image_bytes=tf.constant([image]))["logits"].numpy()
            tally.count("good", "answered", np.allclose(good, expected), 0.0)

    for one in hostile.hostile_shapes(shape):
        ask("list: shapes", default, inputs=tf.zeros(one))
    for one in hostile.hostile_images().values():
        ask("list: images", by_bytes, image_bytes=tf.constant([one]))
        ask("list: images", by_bytes, image_bytes=tf.constant([image, one]))
    ask("list: images", by_bytes, image_bytes=tf.constant([], tf.string))
    dtypes = {"FP32": tf.float32, "FP64": tf.float64, "INT32": tf.int32, "BOOL": tf.bool}

    def drawn(tensor) -> None:
        sizes, datatype, _ = tensor
        sizes = [abs(size) for size in sizes]
        values = tf.zeros(sizes, dtypes.get(datatype, tf.float32))
        ask("random shapes and dtypes", default, inputs=values)

    property_based(number // 4, hostile.tensors(), drawn)
    samples = [image, hostile.encoded("JPEG"), hostile.encoded("PNG", mode="L")]
    while tally.attacks() < number:
        for _ in range(200):
            data = [
                random.bytes(int(random.integers(0, 200)))
                if random.integers(4) == 0
                else hostile.mutated(samples[random.integers(3)], random)
                for _ in range(random.integers(1, 4))
            ]
            ask("random bytes", by_bytes, image_bytes=tf.constant(data))
    return tally.summary()


# --- a live server -------------------------------------------------------------------------------


class Good:
    """A client that sends good requests all the while, and checks the answers."""

    def __init__(self, ask, tally: Tally):
        self._ask, self._tally, self._end = ask, tally, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._end.wait(PAUSE):
            started = time.perf_counter()
            try:
                status, right = self._ask()
            except Exception as error:
                status, right = repr(error), False
            self._tally.count("good, meanwhile", status, right, time.perf_counter() - started)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *error):
        self._end.set()
        self._thread.join()


def attack_http(port: int, model: str, shape: list[int], number: int, seed: int) -> dict:
    """Attack a server over HTTP."""
    random, tally, client = np.random.default_rng(seed), Tally(), HttpClient(port)
    values = random.random((1, *shape)).astype("float32")
    expected = http_answers(client.infer(model, http_request(values))[1])["logits"]

    def good(with_client: HttpClient) -> tuple[int, bool]:
        status, answer = with_client.infer(model, http_request(values))
        right = status == 200 and np.allclose(
            http_answers(answer)["logits"].astype("float32"), expected, atol=1e-4
        )
        return status, right

    def ask(kind: str, body: bytes, path: str = f"/v2/models/{model}/infer", headers=None) -> None:
        started = time.perf_counter()
        try:
            status, answer = client.post(path, body, headers)
            about = answer
        except OSError as error:
            status, about = repr(error), body[:200]
        right = status in HTTP_RIGHT and (kind != "list" or status != 200)
        tally.count(kind, status, right, time.perf_counter() - started, about)
        if random.integers(GOOD_EVERY) == 0:
            started = time.perf_counter()
            tally.count("good, next", *good(client), time.perf_counter() - started)

    def drawn(tensor) -> None:
        ask("random shapes and datatypes", hostile.random_json(*tensor, random))

    with Good(functools.partial(good, HttpClient(port)), tally):
        for body in hostile.hostile_json(shape).values():
            ask("list", body)
        ask("list", bytes(17 * 2**20))
        ask("list", b"{}", headers={"Content-Encoding": "gzip"})
        body = json.dumps(http_request(values)).encode()
        for name in ("é", "\n\0\r", "x" * 70_000, "\U0001f600", ""):
            status, answer = client.infer(model, {**http_request(values), "id": name})
            tally.count("good, id", status, status == 200 and answer["id"] == name, 0.0, name)
        for path in ("models/none/infer", "models/%00/infer", "x", "repository/models/none/load"):
            ask("list", body, f"/v2/{path}")
        property_based(number // 3, hostile.tensors(), drawn)
        image = hostile.encoded("PNG")
        while tally.attacks() < number:
            for _ in range(100):
                ask("random bytes", hostile.mutated(body, random))
                data = base64.b64encode(hostile.mutated(image, random)).decode()
                tensor = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [data]}
                ask("random images", json.dumps({"inputs": [tensor]}).encode())
    return tally.summary()


def attack_grpc(port: int, model: str, shape: list[int], number: int, seed: int) -> dict:
    """Attack a server over gRPC."""
    random, tally, client = np.random.default_rng(seed), Tally(), GrpcClient(port)
    values = random.random((1, *shape)).astype("float32")
    request = grpc_request(model, values)
    expected = grpc_answers(client.infer(request)[1])["logits"]

    def good(with_client: GrpcClient) -> tuple[str, bool]:
        status, answer = with_client.infer(request)
        right = status is grpc.StatusCode.OK and np.allclose(
            grpc_answers(answer)["logits"], expected, atol=1e-4
        )
        return status.name, right

    def ask(kind: str, send, data) -> None:
        started = time.perf_counter()
        status, about = send(data)
        right = status.name in GRPC_RIGHT and (kind != "list" or status.name != "OK")
        tally.count(kind, status.name, right, time.perf_counter() - started, about)
        if random.integers(GOOD_EVERY) == 0:
            started = time.perf_counter()
            tally.count("good, next", *good(client), time.perf_counter() - started)

    def drawn(tensor) -> None:
        message = hostile.random_message(model, *tensor, random)
        ask("random shapes and datatypes", client.infer, message)

    with Good(functools.partial(good, GrpcClient(port)), tally):
        for one in hostile.hostile_shapes([None, *shape]):
            ask("list", client.infer, grpc_request(model, np.zeros(one, "float32")))
        for one in hostile.hostile_images().values():
            ask("list", client.infer, grpc_request(model, [one], "image_bytes"))
        ask("list", client.infer, grpc_request("none", values))
        ask(
            "list",
            client.infer,
            grpc_request(model, np.zeros((2**19 // int(np.prod(shape)) * 16, *shape), "float32")),
        )
        property_based(number // 3, hostile.tensors(), drawn)
        whole, image = request.SerializeToString(), hostile.encoded("PNG")
        while tally.attacks() < number:
            for _ in range(100):
                ask("random bytes", client.send_bytes, hostile.mutated(whole, random))
                images = [hostile.mutated(image, random)]
                ask("random images", client.infer, grpc_request(model, images, "image_bytes"))
    return tally.summary()


# --- floods --------------------------------------------------------------------------------------


def flood(port: int, model: str, shape: list[int], number: int) -> list[dict]:
    """Measure requests of one client without and beside a flood of images, several times."""
    body = http_request(np.random.default_rng(0).random((1, *shape)).astype("float32"))
    command = [sys.executable, Path(__file__).with_name("image_flood.py"), str(port), model]
    command += ["--connections", str(FLOOD_CONNECTIONS), "--seconds", str(FLOOD_SECONDS + 3)]
    found = []
    for _ in range(number):
        alone = _milliseconds(port, model, body)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        time.sleep(2)  # it makes its images first
        beside = _milliseconds(port, model, body)
        answers = json.loads(process.communicate()[0])
        ratio = float(np.percentile(beside, 99) / np.percentile(alone, 99))
        found.append(
            {
                "alone_ms": {f"p{share}": _percentile(alone, share) for share in (50, 99)},
                "beside_ms": {f"p{share}": _percentile(beside, share) for share in (50, 99)},
                "p99_ratio": round(ratio, 2),
                "answers": answers,
            }
        )
    return found


def _percentile(values: list[float], share: float) -> float:
    return round(float(np.percentile(values, share)), 2)


def _milliseconds(port: int, model: str, body: dict) -> list[float]:
    client, found, begun = HttpClient(port), [], time.monotonic()
    for number in range(int(RATE * FLOOD_SECONDS)):
        time.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        started = time.perf_counter()
        status, _ = client.infer(model, body)
        found.append(1e3 * (time.perf_counter() - started))
        assert status == 200, status
    return found


# --- together ------------------------------------------------------------------------------------


def make_export(folder: Path) -> Path:
    """Export a small network for the bundled digits, as `folder/digits/1`."""
    import keras

    import bnzoo

    keras.utils.set_random_seed(0)
    splits = bnzoo.data.load("digits")
    model = bnzoo.models.build("three_conv", input_shape=splits.input_shape, filters=[8, 8, 8])
    return bnzoo.export_saved_model(
        model,
        folder / "digits",
        preprocessing=splits.preprocessing,
        class_names=splits.class_names,
    )


def in_a_process_of_its_own(export: Path, number: int, seed: int) -> dict:
    """Attack the signatures elsewhere, as what is tested is that the process lives."""
    command = [sys.executable, __file__, "--signatures-of", str(export)]
    done = subprocess.run(
        [*command, "--requests", str(number), "--seed", str(seed)], capture_output=True, text=True
    )
    if done.returncode:
        return {"attacks": 0, "good_requests": 0, "number_wrong": 1, "wrong": [done.stderr[-2000:]]}
    return json.loads(done.stdout.splitlines()[-1])


def attack(export: Path, number: int, floods: int, seed: int, folder: Path) -> dict:
    """Run every attack and return what came of it."""
    counts = {name: int(number * share) for name, share in SHARES.items()}
    shape = json.loads((export / "bnzoo.json").read_text())["input_shape"]
    model = export.parent.name
    found = {"signature": in_a_process_of_its_own(export, counts["signature"], seed)}
    with running_server(export.parent, folder / "server.log") as server:
        found["floods"] = flood(server.port, model, shape, floods)
        before = server.memory()
        found["http"] = attack_http(server.port, model, shape, counts["http"], seed)
        found["grpc"] = attack_grpc(server.grpc_port, model, shape, counts["grpc"], seed)
        found["server"] = {
            "memory_mb_before": round(before / 2**20),
            "memory_mb_after": round(server.memory() / 2**20),
            "ready_afterwards": HttpClient(server.port).get("/v2/health/ready")[0] == 200,
            "alive_afterwards": server.process.poll() is None,
            "exit_code": server.stop(),
            "log": server.log.read_text().replace(f"{folder}/", "").splitlines()[:20],
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, help="a version's folder; default: a small network")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--floods", type=int, default=FLOODS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--signatures-of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.signatures_of:
        found = attack_signatures(arguments.signatures_of, arguments.requests, arguments.seed)
        print(json.dumps(found))
        return
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        export = arguments.export or make_export(folder)
        found = attack(export, arguments.requests, arguments.floods, arguments.seed, folder)
    attacks, floods = [found[name] for name in SHARES], found.pop("floods")
    ratio = float(np.median([one["p99_ratio"] for one in floods]))
    report = {
        "command": " ".join(["python", "scripts/attack_server.py", *sys.argv[1:]]),
        "machine": {**machine(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "seconds": round(time.perf_counter() - started),
        "attacks_in_all": sum(one["attacks"] for one in attacks),
        "good_requests": sum(one["good_requests"] for one in attacks),
        "wrong": sum(one["number_wrong"] for one in attacks),
        "flood_connections": FLOOD_CONNECTIONS,
        "flood_p99_ratio": ratio,
        "floods": floods,
        "attacks": found,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"{report['attacks_in_all']:,} malformed and {report['good_requests']:,} good requests in "
        f"{report['seconds']} s, {report['wrong']} wrong"
    )
    for name in SHARES:
        print(f"  {name}: {found[name].get('answers', found[name]['wrong'])}")
    print(f"  server: {found['server']}")
    print(f"  p99 beside a flood of images over that without: {ratio} (at most {ALLOWED:g})")
    is_right = not report["wrong"] and found["server"]["alive_afterwards"] and ratio <= ALLOWED
    raise SystemExit(0 if is_right else 1)


if __name__ == "__main__":
    main()
