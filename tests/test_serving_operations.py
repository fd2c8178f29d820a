"""What whoever runs a server sees: readiness, metrics, errors, and nothing that is not offered."""

import asyncio
import contextlib
import gc
import json
import re
import socket
import threading
import weakref

import numpy as np
import pytest
import serving_exports as exports

pytest.importorskip("tritonclient", reason="needs the extra serve")

import grpc
import serving_load as load
from serving_inside import HOST, serving, wait_until
from tritonclient.grpc import service_pb2 as pb

from bnzoo.serving.server.batcher import Batcher
from bnzoo.serving.server.model import ServedModel

MODEL = "doubling"
OK = grpc.StatusCode.OK


@pytest.fixture
def server(tmp_path):
    """A server of two versions of a model."""
    folder = exports.export_doubling(tmp_path / MODEL)
    folder.with_name("2").symlink_to("1")
    with serving(folder.parent) as found:
        yield found


def rows(number=1):
    return np.ones((number, 3), "float32")


def metric(server, name, **labels):
    """Return the value of a metric, 0 if there is none."""
    with contextlib.closing(load.HttpClient(server.metrics_port)) as client:
        status, text = client.get("/metrics")
    assert status == 200
    said = ",".join(f'{label}="{labels[label]}"' for label in sorted(labels))
    wanted = name + (f"{{{said}}}" if said else "")
    found = re.search(rf"^{re.escape(wanted)} (.*)$", text.decode(), re.M)
    return float(found[1]) if found else 0


# --- metrics -------------------------------------------------------------------------------------


def test_requests_are_counted_by_the_version_that_answered_and_their_status(server, http, by_grpc):
    http.infer(MODEL, load.http_request(rows()))
    http.infer(MODEL, load.http_request(np.ones((1, 4), "float32")))
    by_grpc.infer(load.grpc_request(MODEL, rows()))
    asked = load.grpc_request(MODEL, rows())
    asked.model_version = "1"
    by_grpc.infer(asked)
    for version, protocol, status in (
        ("2", "http", 200),
        ("2", "http", 400),
        ("2", "grpc", 200),
        ("1", "grpc", 200),
    ):
        labels = {"model": MODEL, "version": version, "protocol": protocol, "status": status}
        assert metric(server, "bnzoo_requests_total", **labels) == 1, labels
    asked.model_version = "0"
    asked.model_name = "none"
    by_grpc.infer(asked)
    with contextlib.closing(load.HttpClient(server.metrics_port)) as client:
        assert b'"none"' not in client.get("/metrics")[1]


def test_every_refusal_is_counted_also_of_what_found_no_model(server, http, by_grpc):
    http.infer("none", load.http_request(rows()))
    http.infer(MODEL, b"hello")
    http.infer(MODEL, bytes(2**20 + 1))
    by_grpc.infer(load.grpc_request("none", rows()))
    for protocol, status in (("http", 404), ("http", 400), ("http", 413), ("grpc", 404)):
        labels = {"protocol": protocol, "status": status}
        assert metric(server, "bnzoo_refused_total", **labels) == 1, labels


def test_latency_and_rows_computed_together_have_histograms_by_version(server, http):
    for number in (1, 3, 40):
        http.infer(MODEL, load.http_request(rows(number)))
    labels = {"model": MODEL, "version": "2"}
    assert metric(server, "bnzoo_request_seconds_count", **labels) == 3
    assert 0 < metric(server, "bnzoo_request_seconds_sum", **labels) < 30
    assert metric(server, "bnzoo_batch_rows_count", **labels) == 3
    assert metric(server, "bnzoo_batch_rows_sum", **labels) == 44
    assert metric(server, "bnzoo_batch_rows_bucket", **labels, le="4.0") == 2
    assert metric(server, "bnzoo_batch_rows_count", model=MODEL, version="1") == 0


@pytest.fixture
def slow(monkeypatch):
    """Let requests take a minute, and tell which have begun and which were given up."""
    told = []

    async def infer(self, request):
        told.append("begun")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            told.append("given up")
            raise

    monkeypatch.setattr(ServedModel, "infer", infer)
    return told


def test_clients_that_go_away_are_no_errors_of_the_server_and_hold_nothing(server, slow):
    body = json.dumps(load.http_request(rows())).encode()
    head = f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
    with contextlib.closing(socket.create_connection((HOST, server.port))) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        wait_until(lambda: slow == ["begun"])
        assert metric(server, "bnzoo_body_bytes_in_flight") == len(body)
    wait_until(lambda: slow == ["begun", "given up"])
    with contextlib.closing(load.GrpcClient(server.grpc_port)) as client:
        call = client.stub.ModelInfer.future(load.grpc_request(MODEL, rows()))
        wait_until(lambda: slow[2:] == ["begun"])
        call.cancel()
        wait_until(lambda: slow[2:] == ["begun", "given up"])
    for protocol in ("http", "grpc"):
        labels = {"model": MODEL, "version": "2", "protocol": protocol}
        assert metric(server, "bnzoo_requests_total", **labels, status=499) == 1
        assert metric(server, "bnzoo_requests_total", **labels, status=500) == 0
    wait_until(lambda: metric(server, "bnzoo_body_bytes_in_flight") == 0)


def test_the_rows_of_a_client_that_has_gone_are_let_go_while_others_are_computed():
    async def scenario():
        begun, go_on = threading.Event(), threading.Event()

        def compute(inputs):
            begun.set()
            go_on.wait(20)
            return {"outputs": inputs}

        batcher = Batcher(compute, 8)
        first = asyncio.create_task(batcher.answer(rows()))
        await asyncio.to_thread(begun.wait, 20)
        gone, second = (asyncio.create_task(batcher.answer(rows(2))) for _ in range(2))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert len(batcher._waiting) == 1
        go_on.set()
        assert len((await first)["outputs"]) == 1
        assert len((await second)["outputs"]) == 2

    asyncio.run(scenario())


def test_rows_that_wait_for_a_thread_are_let_go_with_their_client():
    async def scenario():
        go_on = threading.Event()

        def compute(inputs):
            go_on.wait(20)
            return {"outputs": inputs}

        batcher, large = Batcher(compute, 1), rows(2)
        working = [asyncio.create_task(batcher.answer(rows())) for _ in range(4)]
        gone, held = asyncio.create_task(batcher.answer(large)), weakref.ref(large)
        del large
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.wait([gone])
        del gone
        gc.collect()  # the exception refers to its frames
        assert held() is None
        go_on.set()
        await asyncio.gather(*working)

    asyncio.run(scenario())


# --- readiness, errors, and what is not there ----------------------------------------------------


def test_from_the_signal_to_stop_on_the_server_is_not_ready_and_says_so(server, http, by_grpc):
    assert http.get("/v2/health/ready")[0] == http.get(f"/v2/models/{MODEL}/ready")[0] == 200
    server.service.traffic.stopping = True
    assert http.get("/v2/health/live")[0] == 200
    assert http.get("/v2/health/ready")[0] == 503
    assert http.get(f"/v2/models/{MODEL}/ready")[0] == 404
    status, answer = http.infer(MODEL, load.http_request(rows()))
    assert (status, answer["error"]) == (503, "the server is stopping; ask another, or try again.")
    code, words = by_grpc.infer(load.grpc_request(MODEL, rows()))
    assert (code, words) == (grpc.StatusCode.UNAVAILABLE, answer["error"])


def test_versions_that_are_not_loaded_are_not_ready(server, http, by_grpc):
    for path, version in ((MODEL, ""), (f"{MODEL}/versions/1", "1"), (f"{MODEL}/versions/2", "2")):
        assert http.get(f"/v2/models/{path}/ready") == (200, b'{"ready":true}')
        message = pb.ModelReadyRequest(name=MODEL, version=version)
        assert by_grpc.stub.ModelReady(message).ready
    for path, name, version in (
        (f"{MODEL}/versions/3", MODEL, "3"),
        (f"{MODEL}/versions/01", MODEL, "01"),
        ("none", "none", ""),
    ):
        assert http.get(f"/v2/models/{path}/ready") == (404, b'{"ready":false}')
        assert not by_grpc.stub.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready


def test_an_error_of_the_server_is_logged_and_not_told(server, http, by_grpc, monkeypatch, caplog):
    async def infer(self, request):
        raise RuntimeError("a secret")

    monkeypatch.setattr(ServedModel, "infer", infer)
    words = "the server failed; its log tells more."
    assert http.infer(MODEL, load.http_request(rows())) == (500, {"error": words})
    code = grpc.StatusCode.INTERNAL
    assert by_grpc.infer(load.grpc_request(MODEL, rows())) == (code, words)
    assert caplog.text.count("RuntimeError: a secret") == 2
    labels = {"model": MODEL, "version": "2", "protocol": "http", "status": 500}
    assert metric(server, "bnzoo_requests_total", **labels) == 1


def test_what_is_not_offered_is_not_found_in_json(http):
    for path in ("/", "/v2/docs", "/docs", "/openapi.json", "/v2/models", "/v2/none"):
        status, answer = http.get(path)
        assert (status, json.loads(answer)) == (404, {"error": "Not Found"})
    status, answer = http.get(f"/v2/models/{MODEL}/infer")
    assert (status, json.loads(answer)) == (405, {"error": "Method Not Allowed"})


def test_the_server_and_its_models_describe_themselves(http, by_grpc):
    about = json.loads(http.get("/v2")[1])
    assert about["extensions"] == ["binary_tensor_data", "model_repository"]
    found = by_grpc.stub.ServerMetadata(pb.ServerMetadataRequest())
    assert (found.name, found.version) == (about["name"], about["version"])
    described = json.loads(http.get(f"/v2/models/{MODEL}/versions/1")[1])
    assert described == {
        "name": MODEL,
        "versions": ["1", "2"],
        "platform": "tensorflow_savedmodel",
        "inputs": [{"name": "inputs", "datatype": "FP32", "shape": [-1, 3]}],
        "outputs": [{"name": "outputs", "datatype": "FP32", "shape": [-1, 3]}],
    }
    with pytest.raises(grpc.RpcError) as error:
        by_grpc.stub.ModelMetadata(pb.ModelMetadataRequest(name=MODEL, version="3"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert http.get(f"/v2/models/{MODEL}/versions/3")[0] == 404
