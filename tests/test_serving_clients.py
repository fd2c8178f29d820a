"""Triton's own clients, as they come, and what no client of theirs would send."""

import asyncio
import contextlib
import json

import numpy as np
import pytest
import serving_exports as exports

pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")

import grpc
import hostile
import serving_load as load
import tensorflow as tf
import tritonclient.grpc as by_grpc
import tritonclient.grpc.aio as by_aio
import tritonclient.http as by_http
from serving_inside import HOST, serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import InferenceServerException

from bnzoo.serving.server.http_inference import JSON_SIZE

MODEL = "small"
KINDS = ("http", "grpc")


@pytest.fixture(scope="module")
def server(classifier):
    """A server with a classifier and a model of strings that clients may load and unload."""
    root = classifier.parent.parent / "clients"
    root.mkdir()
    (root / MODEL).symlink_to(classifier.parent)
    spec = tf.TensorSpec((None, 2), tf.string, name="inputs")
    exports.export_function(root / "echo", lambda inputs: {"outputs": inputs}, spec)
    with serving(root, model_control=True, max_request_bytes=2**22) as found:
        yield found


@pytest.fixture(params=KINDS)
def triton(server, request):
    """A client and the module with its tensors, of each protocol."""
    module = {"http": by_http, "grpc": by_grpc}[request.param]
    port = {"http": server.port, "grpc": server.grpc_port}[request.param]
    with contextlib.closing(module.InferenceServerClient(f"{HOST}:{port}")) as client:
        client.module, client.is_http = module, request.param == "http"
        yield client


@pytest.fixture(scope="module")
def serve(classifier):
    return exports.signature(classifier)


@pytest.fixture(scope="module")
def serve_bytes(classifier):
    return exports.signature(classifier, "serve_bytes")


def rows(number=3):
    shape = (number, *exports.SHAPE)
    return np.random.default_rng(number).random(shape).astype("float32")


def given(client, values, name="inputs", **options):
    """Return an input as Triton's clients make it of an array."""
    datatype = "BYTES" if values.dtype == object else "FP32"
    tensor = client.module.InferInput(name, values.shape, datatype)
    tensor.set_data_from_numpy(values, **options)
    return tensor


IMAGES = [hostile.encoded("PNG", seed=1), hostile.encoded("JPEG", (30, 20), seed=2)]


# --- Triton's clients ----------------------------------------------------------------------------


def test_health_and_metadata(triton):
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready(MODEL)
    assert triton.is_model_ready(MODEL, "1")
    assert not triton.is_model_ready(MODEL, "2")
    assert not triton.is_model_ready("none")
    as_json = {} if triton.is_http else {"as_json": True}
    assert triton.get_server_metadata(**as_json)["name"] == "bnzoo"
    found = triton.get_model_metadata(MODEL, **as_json)
    assert found["versions"] == ["1"]
    assert [one["name"] for one in found["inputs"]] == ["inputs", "image_bytes"]
    assert [int(size) for size in found["inputs"][0]["shape"]] == [-1, 8, 8, 1]
    names = ["logits", "probabilities", "class_id", "class_name"]
    assert [one["name"] for one in found["outputs"]] == names


def test_the_index(triton):
    found = triton.get_model_repository_index()
    if not triton.is_http:
        found = [{"name": one.name, "state": one.state} for one in found.models]
    assert {one["name"]: one["state"] for one in found} == {"echo": "READY", MODEL: "READY"}


@pytest.mark.parametrize("number", [1, 3, 40])
def test_inference_with_the_defaults(triton, serve, number):
    answer = triton.infer(MODEL, [given(triton, rows(number))], request_id="größer")
    for name, expected in serve(inputs=rows(number)).items():
        np.testing.assert_allclose(answer.as_numpy(name), expected, rtol=1e-5, atol=1e-6)
    response = answer.get_response()
    found = response["id"] if triton.is_http else response.id
    assert found == "größer"


def test_inference_of_an_empty_batch(triton):
    answer = triton.infer(MODEL, [given(triton, rows(0))])
    assert answer.as_numpy("logits").shape == (0, 10)


def test_inference_with_chosen_outputs_in_their_order(triton, serve):
    wanted = [triton.module.InferRequestedOutput(name) for name in ("class_id", "logits")]
    answer = triton.infer(MODEL, [given(triton, rows())], outputs=wanted, model_version="1")
    expected = serve(inputs=rows())
    for name in ("class_id", "logits"):
        np.testing.assert_allclose(answer.as_numpy(name), expected[name], rtol=1e-5, atol=1e-6)
    assert answer.as_numpy("probabilities") is None


@pytest.mark.parametrize("send", [True, False])
@pytest.mark.parametrize("receive", [True, False])
def test_tensors_in_json_and_in_binary_form_both_ways(server, serve, send, receive):
    with contextlib.closing(by_http.InferenceServerClient(f"{HOST}:{server.port}")) as client:
        client.module = by_http
        wanted = [by_http.InferRequestedOutput("logits", binary_data=receive)]
        answer = client.infer(MODEL, [given(client, rows(), binary_data=send)], outputs=wanted)
        (output,) = answer.get_response()["outputs"]
        assert ("data" in output) is not receive
        expected = serve(inputs=rows())["logits"]
        np.testing.assert_allclose(answer.as_numpy("logits"), expected, rtol=1e-5, atol=1e-6)


def test_images_and_the_names_of_their_classes(triton, serve_bytes):
    answer = triton.infer(MODEL, [given(triton, np.array(IMAGES, object), "image_bytes")])
    expected = serve_bytes(image_bytes=IMAGES)
    assert list(answer.as_numpy("class_name")) == list(expected["class_name"].numpy())
    np.testing.assert_allclose(answer.as_numpy("logits"), expected["logits"], rtol=1e-5, atol=1e-6)


def test_strings_of_any_bytes_come_back_as_they_are(triton):
    values = np.array([[b"", b"a\0"], [b"\xff\xfe", "größer".encode()]], object)
    answer = triton.infer("echo", [given(triton, values)])
    np.testing.assert_array_equal(answer.as_numpy("outputs"), values)


def test_mistakes_are_the_clients_exceptions_with_the_servers_words(triton):
    cases = {
        "expected shape (any, 8, 8, 1), got [3, 2]": (MODEL, np.zeros((3, 2), "float32")),
        "model 'none': not served here": ("none", rows()),
        "expected datatype FP32, got 'BYTES'": (MODEL, np.array([b"x"], object)),
    }
    for words, (model, values) in cases.items():
        with pytest.raises(InferenceServerException) as error:
            triton.infer(model, [given(triton, values)])
        assert words in error.value.message()
        is_known = model == MODEL
        codes = ("400", "404") if triton.is_http else ("INVALID_ARGUMENT", "NOT_FOUND")
        assert error.value.status().rpartition(".")[2] == codes[not is_known]


def test_models_are_unloaded_and_loaded(triton):
    triton.unload_model("echo")
    assert not triton.is_model_ready("echo")
    with pytest.raises(InferenceServerException, match="not served here"):
        triton.infer("echo", [given(triton, np.array([[b"a", b"b"]], object))])
    triton.load_model("echo")
    assert triton.is_model_ready("echo")
    for call in (triton.load_model, triton.unload_model):
        with pytest.raises(InferenceServerException, match="not served here"):
            call("none")


def test_the_asynchronous_client_of_grpc(server, serve):
    async def ask():
        async with by_aio.InferenceServerClient(f"{HOST}:{server.grpc_port}") as client:
            client.module = by_grpc
            asked = [client.infer(MODEL, [given(client, rows())]) for _ in range(8)]
            return await asyncio.gather(*asked)

    expected = serve(inputs=rows())["logits"]
    for answer in asyncio.run(ask()):
        np.testing.assert_allclose(answer.as_numpy("logits"), expected, rtol=1e-4, atol=1e-5)


# --- malformed binary bodies ---------------------------------------------------------------------


def binary_body(size, raw, *, name="inputs", datatype="FP32", shape=None, **more):
    """Return a body, and its length as JSON, that says `binary_data_size` and holds `raw`."""
    shape = shape or [1, *exports.SHAPE]
    tensor = {"name": name, "shape": shape, "datatype": datatype} | more
    tensor["parameters"] = {"binary_data_size": size}
    said = json.dumps({"inputs": [tensor]}).encode()
    return said + raw, str(len(said))


RAW = np.ones(64, "float32").tobytes()
IMAGE = len(IMAGES[0]).to_bytes(4, "little") + IMAGES[0]
AS_IMAGE = {"name": "image_bytes", "datatype": "BYTES", "shape": [1]}

BINARY = {
    "a size that is too large": binary_body(257, RAW),
    "a size that is too small": binary_body(255, RAW),
    "a huge size": binary_body(2**62, RAW),
    "a size beyond 64 bits": binary_body(2**80, RAW),
    "a negative size": binary_body(-256, RAW),
    "a size that is true": binary_body(True, RAW),
    "a size that is text": binary_body("256", RAW),
    "a size that is a fraction": binary_body(256.0, RAW),
    "more bytes than are said": binary_body(256, RAW + b"x"),
    "no bytes": binary_body(256, b""),
    "another shape": binary_body(256, RAW, shape=[2, *exports.SHAPE]),
    "data too": binary_body(256, RAW, data=[1.0] * 64),
    "data instead": binary_body(0, b"", data=[1.0] * 64),
    "an image that is cut short": binary_body(len(IMAGE) - 1, IMAGE[:-1], **AS_IMAGE),
    "an image longer than all": binary_body(5, b"\xff\xff\xff\xffx", **AS_IMAGE),
    "half a length": binary_body(2, b"\1\0", **AS_IMAGE),
    "more images than are said": binary_body(2 * len(IMAGE), 2 * IMAGE, **AS_IMAGE),
    "fewer images than are said": binary_body(len(IMAGE), IMAGE, **AS_IMAGE | {"shape": [2]}),
    "a huge number of images": binary_body(len(IMAGE), IMAGE, **AS_IMAGE | {"shape": [2**62]}),
}


@pytest.mark.parametrize("case", BINARY)
def test_binary_tensors_that_lie_are_refused(http, case):
    body, size = BINARY[case]
    status, answer = http.post(f"/v2/models/{MODEL}/infer", body, {JSON_SIZE: size})
    assert status == 400, answer
    assert len(json.loads(answer)["error"]) < 300


@pytest.mark.parametrize(
    "size", ["x", "-1", "1.0", "0x10", "", " ", "1e2", "9" * 5000, "²", str(2**40), "٣"]
)
def test_a_length_of_the_json_that_is_no_such_number_is_refused(server, size):
    from http.client import HTTPConnection

    body, _ = binary_body(256, RAW)
    with contextlib.closing(HTTPConnection(HOST, server.port, timeout=60)) as connection:
        headers = {JSON_SIZE: size.encode()}
        connection.request("POST", f"/v2/models/{MODEL}/infer", body, headers)
        response = connection.getresponse()
        assert response.status == 400
        assert JSON_SIZE in json.loads(response.read())["error"]


def test_a_length_of_the_json_that_ends_it_too_early_or_late_is_refused(http):
    body, size = binary_body(256, RAW)
    for change in (-1, 1, 200):
        headers = {JSON_SIZE: str(int(size) + change)}
        assert http.post(f"/v2/models/{MODEL}/infer", body, headers)[0] == 400
    assert http.post(f"/v2/models/{MODEL}/infer", body, {JSON_SIZE: size})[0] == 200
    assert http.post(f"/v2/models/{MODEL}/infer", body)[0] == 400


@pytest.mark.parametrize("shift", range(8))
def test_binary_tensors_may_begin_anywhere(http, serve, shift):
    """Numbers that do not lie at a multiple of their size."""
    values = rows(40)
    body, size = binary_body(values.nbytes, values.tobytes(), shape=list(values.shape))
    body = body[: int(size)] + b" " * shift + body[int(size) :]
    headers = {JSON_SIZE: str(int(size) + shift)}
    status, answer = http.post(f"/v2/models/{MODEL}/infer", body, headers)
    assert status == 200
    received = load.http_answers(json.loads(answer))["logits"]
    np.testing.assert_allclose(received, serve(inputs=values)["logits"], rtol=1e-5, atol=1e-6)


def test_over_grpc_the_images_must_be_as_many_as_are_said(server):
    with contextlib.closing(load.GrpcClient(server.grpc_port)) as client:
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="image_bytes", shape=[2], datatype="BYTES"
        )
        message = pb.ModelInferRequest(model_name=MODEL, inputs=[tensor])
        message.raw_input_contents.append(IMAGE)
        code, words = client.infer(message)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "expected 2 values for shape [2], got 1" in words
