"""`bnzoo serve`, a real one: what it answers, what it refuses, and that nothing brings it down."""

import base64
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import serving_exports as exports

pytest.importorskip("tritonclient", reason="needs the extra serve")

import grpc
import hostile
import serving_load as load
from hypothesis import given, settings
from serving_inside import wait_until
from tritonclient.grpc import service_pb2 as pb

SCRIPTS = Path(__file__).parent.parent / "scripts"
from bnzoo.errors import InputError  # noqa: E402
from bnzoo.serving.server import lifecycle, start  # noqa: E402
from bnzoo.serving.server.model import ServedModel  # noqa: E402
from bnzoo.serving.server.repository import Repository  # noqa: E402

MODEL = "small"
OK = grpc.StatusCode.OK


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    return shutil.copytree(classifier, tmp_path_factory.mktemp("served") / "models" / MODEL / "1")


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    """One server for all tests that leave it as it is, with two versions and a second model."""
    shutil.copytree(exported, exported.parent / "2")
    shutil.copytree(exported, exported.parent.parent / "other" / "7")
    log = tmp_path_factory.mktemp("log") / "log"
    with load.running_server(exported.parent.parent, log, "--max-request-mb", "1") as server:
        yield server
        assert server.stop(signal.SIGINT) == 0  # as Ctrl-C does
    assert "Traceback" not in log.read_text()


def bytes_in_flight(server):
    """Count the bytes of requests that the server has received and not answered."""
    (line,) = re.findall(r"^bnzoo_body_bytes_in_flight (.*)$", metrics(server), re.M)
    return float(line)


def metrics(server):
    with closing(load.HttpClient(server.port + 2)) as client:
        return client.get("/metrics")[1].decode()


@pytest.fixture(scope="module")
def serve(exported):
    return exports.signature(exported)


def rows(number, seed=0):
    return np.random.default_rng(seed).random((number, *exports.SHAPE)).astype("float32")


def image_body(*images):
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image_bytes", "shape": [len(data)], "datatype": "BYTES", "data": data}
    return {"inputs": [tensor]}


# --- good requests -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 7, 128])
def test_arrays_are_answered_as_the_signature_answers_them(http, by_grpc, serve, number):
    expected = {name: value.numpy() for name, value in serve(inputs=rows(number)).items()}
    status, answer = http.infer(MODEL, load.http_request(rows(number)))
    assert status == 200
    code, response = by_grpc.infer(load.grpc_request(MODEL, rows(number)))
    assert code is OK
    for received in (load.http_answers(answer), load.grpc_answers(response)):
        assert set(received) == {"logits", "probabilities", "class_id"}
        for name, values in received.items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)


def test_values_may_be_nested_as_the_protocol_allows(http, serve):
    request = load.http_request(rows(2))
    request["inputs"][0]["data"] = rows(2).tolist()
    received = load.http_answers(http.infer(MODEL, request)[1])["logits"]
    np.testing.assert_allclose(received, serve(inputs=rows(2))["logits"], rtol=1e-5, atol=1e-6)


def test_encoded_images_are_answered_with_names(http, by_grpc, exported):
    images = [hostile.encoded("PNG", seed=1), hostile.encoded("JPEG", (30, 20), seed=2)]
    expected = exports.signature(exported, "serve_bytes")(image_bytes=images)
    status, answer = http.infer(MODEL, image_body(*images))
    assert status == 200
    code, response = by_grpc.infer(load.grpc_request(MODEL, images, "image_bytes"))
    assert code is OK
    names = [name.decode() for name in expected["class_name"].numpy()]
    assert list(load.http_answers(answer)["class_name"]) == names
    (output,) = [one for one in response.outputs if one.name == "class_name"]
    assert [name.decode() for name in output.contents.bytes_contents] == names
    logits = load.grpc_answers(response)["logits"]
    np.testing.assert_allclose(logits, expected["logits"], rtol=1e-5, atol=1e-6)


def test_the_clients_of_the_page_are_answered(server, serve, exported, tmp_path):
    page = (SCRIPTS.parent / "bnzoo" / "serving" / "README.md").read_text()
    address = f"127.0.0.1:{server.port}/v2/models/{MODEL}/infer"
    (client,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "urll" in code]
    found = {}
    exec(client, found)
    images = [hostile.encoded("PNG", seed=1), hostile.encoded("JPEG", (30, 20), seed=2)]
    files = [tmp_path / str(number) for number in range(2)]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(image)
    expected = exports.signature(exported, "serve_bytes")(image_bytes=images)["class_name"]
    names = [name.decode() for name in expected.numpy()]
    assert found["classify"](f"http://{address}", *files) == names

    (triton,) = [
        code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "triton" in code
    ]
    exec(triton.replace('"digits"', f'"{MODEL}"'), found)
    received = found["logits"](f"127.0.0.1:{server.port}", rows(2))
    wanted = exports.signature(exported)(inputs=rows(2))["logits"]
    np.testing.assert_allclose(received, wanted, rtol=1e-5, atol=1e-6)

    (client,) = [
        code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "triton" in code
    ]
    exec(client.replace('"digits"', f'"{MODEL}"'), found)
    received = found["logits"](f"127.0.0.1:{server.port}", rows(2))
    np.testing.assert_allclose(received, serve(inputs=rows(2))["logits"], rtol=1e-5, atol=1e-6)

    (curl,) = [code for code in re.findall(r"```sh\n(.*?)```", page, re.S) if ":8080/v2" in code]
    command = curl.replace("127.0.0.1:8080/v2/models/digits/infer", address)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert len(load.http_answers(json.loads(done.stdout))["class_id"]) == 1


def test_only_the_outputs_that_were_asked_for_come_back_in_their_order(http):
    request = load.http_request(rows(1)) | {"outputs": [{"name": "class_id"}, {"name": "logits"}]}
    answer = http.infer(MODEL, request)[1]
    assert [one["name"] for one in answer["outputs"]] == ["class_id", "logits"]


def test_nan_in_gives_nan_out_for_that_row_only(by_grpc, http, serve):
    values = rows(3)
    values[1, 2, 2] = np.nan
    received = load.grpc_answers(by_grpc.infer(load.grpc_request(MODEL, values))[1])
    assert np.isnan(received["logits"][1]).all()
    assert received["class_id"][1] == -1
    expected = serve(inputs=rows(3))["logits"].numpy()
    np.testing.assert_allclose(received["logits"][[0, 2]], expected[[0, 2]], rtol=1e-5, atol=1e-6)


def test_an_empty_batch_has_an_empty_answer(http):
    status, answer = http.infer(MODEL, load.http_request(rows(0)))
    assert status == 200
    assert load.http_answers(answer)["logits"].shape == (0, 10)


def test_requests_of_many_clients_share_batches_and_get_their_own_answers(server, serve):
    values = [rows(1 + seed % 3, seed) for seed in range(60)]
    expected = [serve(inputs=one)["logits"].numpy() for one in values]
    clients = [load.GrpcClient(server.grpc_port) for _ in range(12)]

    def ask(number):
        request = load.grpc_request(MODEL, values[number])
        return load.grpc_answers(clients[number % 12].infer(request)[1])["logits"]

    with ThreadPoolExecutor(12) as threads:
        for received, wanted in zip(threads.map(ask, range(60)), expected, strict=True):
            np.testing.assert_allclose(received, wanted, rtol=1e-4, atol=1e-5)


def test_health_metadata_versions_and_metrics(http, server, by_grpc):
    assert http.get("/v2/health/live")[0] == http.get("/v2/health/ready")[0] == 200
    assert by_grpc.stub.ServerReady(pb.ServerReadyRequest()).ready
    for path in (MODEL, f"{MODEL}/versions/1", f"{MODEL}/versions/2", "other/versions/7"):
        assert http.get(f"/v2/models/{path}/ready")[0] == 200
    described = json.loads(http.get(f"/v2/models/{MODEL}")[1])
    assert described["inputs"] == [
        {"name": "inputs", "datatype": "FP32", "shape": [-1, 8, 8, 1]},
        {"name": "image_bytes", "datatype": "BYTES", "shape": [-1]},
    ]
    names = ["logits", "probabilities", "class_id", "class_name"]
    assert [one["name"] for one in described["outputs"]] == names
    assert described["versions"] == ["1", "2"]
    assert http.infer(MODEL, load.http_request(rows(1)))[1]["model_version"] == "2"
    counted = 'model="small",protocol="http",status="200",version="2"'
    assert f"bnzoo_requests_total{{{counted}}}" in metrics(server)


def test_it_listens_on_this_machine_only(server):
    """Every address of 127/8 is this machine; one that is not 127.0.0.1 shows what is bound."""
    import socket

    for port in range(server.port, server.port + 3):
        with socket.socket() as other:
            assert other.connect_ex(("127.0.0.2", port)) != 0


def test_metadata_that_does_not_tell_how_images_become_inputs_is_named(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "1")
    (folder / "bnzoo.json").write_text("{}")
    with pytest.raises(InputError, match=r"1/bnzoo.json: expected how images become inputs"):
        ServedModel(folder, 32, None, len)


def test_addresses_of_ipv6_are_told_in_brackets():
    ports = {"--port": 1, "--grpc-port": 2, "--metrics-port": 3}
    (line,) = lifecycle._welcome(start.Settings(Path(), "::1", ports, 1, 1), Repository(None, None))
    assert "http://[::1]:1, gRPC on [::1]:2" in line


# --- requests that are refused -------------------------------------------------------------------


def assert_well(http, serve):
    received = load.http_answers(http.infer(MODEL, load.http_request(rows(2)))[1])["logits"]
    np.testing.assert_allclose(received, serve(inputs=rows(2))["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", hostile.hostile_json(list(exports.SHAPE)))
def test_malformed_http_requests_are_refused_and_the_next_is_answered(http, serve, case):
    body = hostile.hostile_json(list(exports.SHAPE))[case]
    status, answer = http.infer(MODEL, body)
    assert status == 400, answer
    assert len(answer["error"]) < 500
    assert_well(http, serve)


@pytest.mark.parametrize("shape", hostile.hostile_shapes([None, *exports.SHAPE]))
def test_wrong_shapes_over_grpc_are_invalid_arguments(by_grpc, shape):
    code, words = by_grpc.infer(load.grpc_request(MODEL, np.zeros(shape, "float32")))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "expected shape (any, 8, 8, 1), got" in words


@pytest.mark.parametrize("case", hostile.hostile_images())
def test_bytes_that_are_no_image_over_grpc_are_invalid_arguments(by_grpc, case):
    request = load.grpc_request(MODEL, [hostile.hostile_images()[case]], "image_bytes")
    assert by_grpc.infer(request)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_what_does_not_fit_its_raw_contents_is_an_invalid_argument(by_grpc):
    good = load.grpc_request(MODEL, rows(1))
    for change in (
        lambda one: one.raw_input_contents.append(b"more"),
        lambda one: one.raw_input_contents.__setitem__(0, b"123"),
        lambda one: one.raw_input_contents.__setitem__(0, b""),
        lambda one: setattr(one.inputs[0], "datatype", "FP33"),
        lambda one: setattr(one.inputs[0], "datatype", "BYTES"),
        lambda one: one.inputs[0].shape.__setitem__(0, 2**62),
        lambda one: one.inputs[0].shape.__setitem__(0, -1),
    ):
        request = pb.ModelInferRequest.FromString(good.SerializeToString())
        change(request)
        assert by_grpc.infer(request)[0] is grpc.StatusCode.INVALID_ARGUMENT, request
    assert by_grpc.send_bytes(b"\xff\xff\xff")[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert by_grpc.infer(good)[0] is OK


@settings(max_examples=40, deadline=None, database=None)
@given(hostile.tensors())
def test_random_shapes_and_datatypes_are_answered_or_refused(server, tensor):
    random = np.random.default_rng(0)
    with (
        closing(load.HttpClient(server.port)) as http,
        closing(load.GrpcClient(server.grpc_port)) as by_grpc,
    ):
        assert http.infer(MODEL, hostile.random_json(*tensor, random))[0] in (200, 400)
        code, words = by_grpc.infer(hostile.random_message(MODEL, *tensor, random))
        assert code in (OK, grpc.StatusCode.INVALID_ARGUMENT), words


def test_unknown_models_and_versions_are_not_found_and_leave_no_counter(http, by_grpc, server):
    for path in ("none", "none/versions/1", f"{MODEL}/versions/9"):
        body = json.dumps(load.http_request(rows(1))).encode()
        assert http.post(f"/v2/models/{path}/infer", body)[0] == 404
    request = load.grpc_request("none", rows(1))
    assert by_grpc.infer(request)[0] is grpc.StatusCode.NOT_FOUND
    assert not by_grpc.stub.ModelReady(pb.ModelReadyRequest(name="none")).ready
    assert not by_grpc.stub.ModelReady(pb.ModelReadyRequest(name=MODEL, version="9")).ready
    assert http.get("/v2/models/none/ready")[0] == 404
    assert '"none"' not in metrics(server)


def test_requests_above_the_limit_are_refused_unread(http, by_grpc):
    status, answer = http.infer(MODEL, b" " * (2**20 + 1))
    assert status == 413
    assert "expected at most 1048576 bytes" in answer["error"]
    request = load.grpc_request(MODEL, rows(5000))
    assert by_grpc.infer(request)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert http.post("/v2/models/small/infer", b"{}", {"Content-Encoding": "gzip"})[0] == 415


def test_a_client_that_goes_on_sending_is_refused_and_may_ask_again(server):
    """Without a length beforehand, and far more than what is read."""
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
        connection.request("POST", f"/v2/models/{MODEL}/infer", (b" " * 2**16 for _ in range(400)))
        assert (response := connection.getresponse()).status == 413
        assert "expected at most 1048576 bytes" in json.loads(response.read())["error"]
        connection.request("GET", "/v2/health/live")
        assert connection.getresponse().status == 200


def test_streams_are_refused(http, by_grpc):
    body = json.dumps(load.http_request(rows(1))).encode()
    for name in ("infer_stream", "generate_stream"):
        assert http.post(f"/v2/models/{MODEL}/{name}", body)[0] == 404
    with pytest.raises(grpc.RpcError) as error:
        list(by_grpc.stub.ModelStreamInfer(iter([load.grpc_request(MODEL, rows(1))])))
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_client_that_goes_away_costs_its_neighbors_nothing(server, serve):
    clients = [load.GrpcClient(server.grpc_port) for _ in range(8)]
    expected = serve(inputs=rows(1))["logits"].numpy()

    def ask(number):
        request = load.grpc_request(MODEL, rows(1))
        if number % 2:
            call = clients[number % 8].stub.ModelInfer.future(request, timeout=60)
            time.sleep(0.0005 * (number % 5))
            call.cancel()
            return True
        code, response = clients[number % 8].infer(request)
        return code is OK and np.allclose(load.grpc_answers(response)["logits"], expected, 1e-4)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(160)))


def test_good_requests_beside_bad_ones_succeed(server, serve):
    expected = serve(inputs=rows(1))["logits"].numpy()
    bad = [[one] for one in hostile.hostile_images().values()]
    clients = [load.GrpcClient(server.grpc_port) for _ in range(8)]

    def ask(number):
        client = clients[number % 8]
        if number % 3 == 0:
            request = load.grpc_request(MODEL, bad[number % len(bad)], "image_bytes")
            return client.infer(request)[0] is grpc.StatusCode.INVALID_ARGUMENT
        code, response = client.infer(load.grpc_request(MODEL, rows(1)))
        return code is OK and np.allclose(load.grpc_answers(response)["logits"], expected, 1e-4)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(240)))


# --- versions and the end of a server ------------------------------------------------------------


def test_versions_come_and_go_without_a_call_and_no_request_is_lost(exported, tmp_path, serve):
    """One server: a broken model, versions that come and go under load, then SIGTERM under load."""
    folder = tmp_path / "models" / MODEL
    shutil.copytree(exported, folder / "1")
    broken = tmp_path / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"broken")
    expected = serve(inputs=rows(1))["logits"].numpy()
    options = ("--poll-seconds", "0.2")
    with (
        load.running_server(folder.parent, tmp_path / "log", *options) as server,
        closing(load.HttpClient(server.port)) as http,
    ):
        stopping, failures, versions, codes = threading.Event(), [], set(), []

        def ask_without_pause():
            with closing(load.GrpcClient(server.grpc_port)) as client:
                code = OK
                while code is OK or server.process.poll() is None:
                    try:
                        response = client.stub.ModelInfer(load.grpc_request(MODEL, rows(1)))
                    except grpc.RpcError as error:
                        code = error.code()
                        (codes if stopping.is_set() else failures).append(code)
                        time.sleep(0.001)
                        continue
                    versions.add(response.model_version)
                    answers = load.grpc_answers(response)
                    if not np.allclose(answers["logits"], expected, 1e-4):
                        failures.append("another answer")

        threads = [threading.Thread(target=ask_without_pause) for _ in range(8)]
        for thread in threads:
            thread.start()
        (folder / "2").mkdir()
        (folder / "2" / "saved_model.pb").write_bytes(b"broken")
        wait_until(lambda: f"{MODEL}, version 2: not loaded: " in server.log.read_text())
        shutil.rmtree(folder / "2")
        shutil.copytree(exported, folder / "3")
        wait_until(lambda: "3" in versions)
        shutil.rmtree(folder / "1")
        wait_until(lambda: http.get(f"/v2/models/{MODEL}/versions/1")[0] == 404)
        index = json.loads(http.post("/v2/repository/index", b"")[1])
        assert {(one["name"], one["version"], one["state"]) for one in index} == {
            ("broken", "1", "UNAVAILABLE"),
            (MODEL, "3", "READY"),
        }
        assert http.get("/v2/models/broken/ready")[0] == 404
        assert failures == []
        assert versions == {"1", "3"}

        # Large enough to be still at work when the server is asked to stop.
        client = load.GrpcClient(server.grpc_port)
        call = client.stub.ModelInfer.future(load.grpc_request(MODEL, rows(30_000)))
        # On a busy machine its megabytes may still be on their way: those are not in flight.
        wait_until(lambda: bytes_in_flight(server) > 2**20)
        stopping.set()
        assert server.stop(signal.SIGTERM) == 0
        for thread in threads:
            thread.join()
        assert load.grpc_answers(call.result())["logits"].shape == (30_000, 10)
        assert failures == []
        assert set(codes) == {grpc.StatusCode.UNAVAILABLE}
        log = server.log.read_text()
        assert f"{MODEL}, version 3: loaded from {folder / '3'}" in log
        assert "Stopped." in log
        assert "Traceback" not in log


# --- the scripts that try it at length -----------------------------------------------------------


@pytest.mark.slow
def test_a_short_attack_finds_nothing_wrong(tmp_path):
    command = [sys.executable, SCRIPTS / "attack_server.py", "--requests", "3000", "--floods", "1"]
    done = subprocess.run([*command, "--out", tmp_path / "attack.json"], capture_output=True)
    found = json.loads((tmp_path / "attack.json").read_text())
    assert done.returncode == 0, found
    assert found["attacks_in_all"] >= 3000
    assert found["wrong"] == 0


@pytest.mark.slow
def test_a_short_soak_fails_no_good_request(tmp_path):
    command = [sys.executable, SCRIPTS / "soak_server.py", "--minutes", "0.5"]
    done = subprocess.run([*command, "--out", tmp_path / "soak.json"], capture_output=True)
    found = json.loads((tmp_path / "soak.json").read_text())
    assert done.returncode in (0, 1), done.stderr  # half a minute is too short to judge memory by
    assert found["failures_of_good_requests"] == 0, found["failures"]
    assert found["new_version"]["status"] == 200
    assert any(name.startswith("good: version 2") for name in found["counts"])
