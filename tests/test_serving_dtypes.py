"""Every datatype of the protocol as a model's input and output, over both protocols."""

import contextlib
import json

import numpy as np
import pytest
import serving_exports as exports
import tensorflow as tf

pytest.importorskip("tritonclient", reason="needs the extra serve")

import grpc
import serving_load as load
from serving_inside import serving
from tritonclient.grpc import service_pb2 as pb
from tritonclient.utils import serialize_byte_tensor

from bnzoo.errors import InputError
from bnzoo.serving.server.grpc_inference import FIELDS
from bnzoo.serving.server.http_inference import JSON_SIZE
from bnzoo.serving.server.model import ServedModel
from bnzoo.serving.signature import DATATYPES

NUMBERS = [name for name in DATATYPES if name not in ("string", "bool")]
INTEGERS = [name for name in NUMBERS if "int" in name]
OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT


def values_of(name):
    """Return an array of shape (2, 3) with what is special in a dtype."""
    dtype = tf.as_dtype(name)
    if name == "string":
        return np.array([[b"", b"a\0", b"\xff"], [b"a", "größer".encode(), b"bb"]], object)
    if name == "bool":
        return np.array([[True, False, True], [False, False, True]])
    low, high = (dtype.min, dtype.max) if name in INTEGERS else (-1.5, 0.15625)
    return np.array([[low, high, 1], [0, 2, 3]], dtype.as_numpy_dtype)


def echo(inputs):
    """Answer the input, and another dtype beside it."""
    return {"outputs": tf.identity(inputs), "row": tf.range(tf.shape(inputs)[0])}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a model of each dtype, called as it is, that answers what it gets."""
    folder = tmp_path_factory.mktemp("dtypes")
    for name in DATATYPES:
        spec = tf.TensorSpec((None, 3), tf.as_dtype(name), name="inputs")
        exports.export_function(folder / name, echo, spec)
    return folder


@pytest.fixture(scope="module")
def server(models):
    with serving(models) as found:
        yield found


def listed(values):
    """Return an array as nested lists for JSON."""
    if values.dtype == object:
        return [[one.decode() for one in row] for row in values]
    return values.astype("float32" if values.dtype.kind == "V" else values.dtype).tolist()


def flat(values):
    """Return an array as one list for JSON."""
    return listed(values.reshape(1, -1))[0]


def raw(values):
    return serialize_byte_tensor(values).item() if values.dtype == object else values.tobytes()


def json_request(name, data, **changes):
    tensor = {"name": "inputs", "shape": [2, 3], "datatype": DATATYPES[name], "data": data}
    return {"inputs": [tensor | changes]}


def message(name, **changes):
    tensor = {"name": "inputs", "shape": [2, 3], "datatype": DATATYPES[name]} | changes
    tensor = pb.ModelInferRequest.InferInputTensor(**tensor)
    return pb.ModelInferRequest(model_name=name, inputs=[tensor])


def outputs_of(answer):
    return {one["name"]: one for one in answer["outputs"]}


# --- what fits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DATATYPES)
def test_every_dtype_is_described_and_answered_from_lists_flat_and_nested(http, name):
    described = json.loads(http.get(f"/v2/models/{name}")[1])
    assert described["inputs"] == [
        {"name": "inputs", "datatype": DATATYPES[name], "shape": [-1, 3]}
    ]
    values = values_of(name)
    if name == "string":  # JSON has no bytes beyond text
        values[0, 2] = "ÿ".encode()
    for data in (listed(values), flat(values)):
        status, answer = http.infer(name, json_request(name, data))
        assert status == 200, answer
        found = outputs_of(answer)["outputs"]
        assert (found["datatype"], found["shape"]) == (DATATYPES[name], [2, 3])
        assert found["data"] == flat(values)


@pytest.mark.parametrize("name", DATATYPES)
def test_every_dtype_is_answered_from_bytes_with_bytes(http, by_grpc, name):
    values = values_of(name)
    sent = message(name)
    sent.raw_input_contents.append(raw(values))
    code, response = by_grpc.infer(sent)
    assert code is OK, response
    assert [one.datatype for one in response.outputs] == [DATATYPES[name], "INT32"]
    assert list(response.raw_output_contents) == [raw(values), raw(np.arange(2, dtype="int32"))]

    request = json_request(name, None) | {"parameters": {"binary_data_output": True}}
    request["inputs"][0]["parameters"] = {"binary_data_size": len(raw(values))}
    head = json.dumps(request).encode()
    headers = {JSON_SIZE: str(len(head))}
    status, answer = http.post(f"/v2/models/{name}/infer", head + raw(values), headers)
    assert status == 200, answer
    assert answer.endswith(raw(values) + raw(np.arange(2, dtype="int32")))


@pytest.mark.parametrize("name", [name for name in DATATYPES if DATATYPES[name] in FIELDS])
def test_every_dtype_that_has_a_list_of_its_own_in_grpc_is_answered_from_it(by_grpc, name):
    values, field = values_of(name), FIELDS[DATATYPES[name]]
    sent = message(name)
    getattr(sent.inputs[0].contents, field).extend(values.ravel().tolist())
    code, response = by_grpc.infer(sent)
    assert code is OK, response
    assert not response.raw_output_contents
    assert list(getattr(response.outputs[0].contents, field)) == values.ravel().tolist()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_an_answer_over_grpc_is_all_bytes_or_none(by_grpc, name):
    """Clients count: the bytes of the second output would be taken for the first one's."""
    sent = message(name, shape=[0, 3])
    code, response = by_grpc.infer(sent)
    assert code is OK, response
    assert len(response.raw_output_contents) == len(response.outputs) == 2


@pytest.mark.parametrize("name", DATATYPES)
def test_an_empty_batch_of_every_dtype_has_an_empty_answer(http, name):
    status, answer = http.infer(name, json_request(name, [], shape=[0, 3]))
    assert status == 200, answer
    found = outputs_of(answer)["outputs"]
    assert (found["shape"], found["data"]) == ([0, 3], [])


@pytest.mark.parametrize("name", NUMBERS)
def test_whole_numbers_may_be_written_as_fractions_and_the_other_way_round(http, name):
    data = [1.0, 2, 3.0, 4, 5.0, 6]
    status, answer = http.infer(name, json_request(name, data))
    assert status == 200, answer
    assert outputs_of(answer)["outputs"]["data"] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_not_a_number_and_infinity_are_null_in_json_and_themselves_in_bytes(http, by_grpc, name):
    dtype = tf.as_dtype(name).as_numpy_dtype
    values = np.array([[np.nan, np.inf, -np.inf], [0, 1, 2]], dtype)
    request = json_request(name, listed(values))  # `json` writes NaN and Infinity
    status, answer = http.infer(name, request)
    assert status == 200, answer
    assert outputs_of(answer)["outputs"]["data"] == [None, None, None, 0, 1, 2]
    sent = message(name)
    sent.raw_input_contents.append(raw(values))
    assert by_grpc.infer(sent)[1].raw_output_contents[0] == raw(values)


# --- what does not -------------------------------------------------------------------------------


def refused(http, name, data, **changes):
    """Return the words with which a request is refused."""
    status, answer = http.infer(name, json_request(name, data, **changes))
    assert status == 400, answer
    assert len(answer["error"]) < 500
    return answer["error"]


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_are_whole_and_in_range(http, name):
    low, high = tf.as_dtype(name).min, tf.as_dtype(name).max
    for wrong in (float("nan"), float("inf"), 0.5, low - 1, high + 1, 2**70, 1e30, -1e30):
        words = refused(http, name, [wrong, 1, 2, 3, 4, 5])
        assert "numbers" in words, wrong
    assert f"fit {name}" in refused(http, name, [0.5] * 6)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    "data",
    [
        ["1"] * 6,
        [1, 2, 3, 4, 5, "6"],
        [1, 2, 3, 4, 5, None],
        [None] * 6,
        [True] * 6,
        [[1, 2, 3], [4, 5]],
        [[1, 2], [3, 4], [5, 6], [7]],
        [{}] * 6,
        {"0": 1},
        "123456",
        None,
        1,
    ],
    ids=str,
)
def test_what_is_no_list_of_numbers_is_refused(http, name, data):
    assert "expected numbers as data" in refused(http, name, data)


@pytest.mark.parametrize("name", DATATYPES)
@pytest.mark.parametrize(
    "shape", [[6], [3, 2], [2, 4], [2, 3, 1], [], [-2, -3], [2.0, 3], ["2", 3]]
)
def test_another_shape_is_refused(http, name, shape):
    assert "shape" in refused(http, name, listed(values_of("float32")), shape=shape)


@pytest.mark.parametrize("name", DATATYPES)
def test_another_number_of_values_is_refused(http, by_grpc, name):
    values = values_of(name)
    if name == "string":
        values[0, 2] = b""
    for data in (flat(values)[:-1], flat(values) * 2, []):
        assert f"expected 6 values for shape [2, 3], got {len(data)}" in refused(http, name, data)
    for contents in (raw(values)[:-1], raw(values) + b"\0", b""):
        sent = message(name)
        sent.raw_input_contents.append(contents)
        assert by_grpc.infer(sent)[0] is INVALID


@pytest.mark.parametrize("name", DATATYPES)
def test_another_datatype_is_refused(http, name):
    for datatype in {*DATATYPES.values(), "FP33", ""} - {DATATYPES[name]}:
        words = refused(http, name, listed(values_of("float32")), datatype=datatype)
        assert f"expected datatype {DATATYPES[name]}, got {datatype!r}" in words


def test_large_and_small_integers_beside_each_other_are_exact(http):
    """As one array of Python's numbers they are floats, and 2^63 + 1 is 2^63."""
    data = [2**63 + 1, 0, 2**53 + 1, 1, 2**64 - 1, 2]
    for values in (data, [*data[:-1], 2.0]):
        answer = http.infer("uint64", json_request("uint64", values))[1]
        assert outputs_of(answer)["outputs"]["data"] == data
    data = [2**62 + 1, 0, -(2**53) - 1, 1.0, 2**53 + 1, 2]
    answer = http.infer("int64", json_request("int64", data))[1]
    assert outputs_of(answer)["outputs"]["data"] == data


@pytest.mark.parametrize("data", [[0, 1] * 3, [1.0] * 6, ["true"] * 6, [None] * 6, [True, 1] * 3])
def test_booleans_are_true_or_false(http, data):
    refused(http, "bool", data)


def test_booleans_in_bytes_are_0_or_1(by_grpc):
    """TensorFlow computes with others, and takes 2 for neither."""
    sent = message("bool")
    sent.raw_input_contents.append(b"\0\1\2\0\1\xff")
    code, words = by_grpc.infer(sent)
    assert (code, words) == (INVALID, "inputs: expected bytes of 0 or 1 for BOOL.")


@pytest.mark.parametrize(
    "data",
    [
        [1] * 6,
        ["a", "b", "c", "d", "e", 6],
        ["a", "b", "c", "d", "e", None],
        [True] * 6,
        [["a", "b", "c"], ["d", "e"]],
        [["a", "b", "c"], "d"],
        {"a": "b"},
        "abcdef",
        None,
    ],
    ids=str,
)
def test_strings_are_strings(http, data):
    assert "expected strings as data" in refused(http, "string", data)


def test_strings_keep_what_stands_at_their_ends(http):
    data = ["a\0", "\0", "", " ", "b\n", "🐍\0\0"]
    answer = http.infer("string", json_request("string", data))[1]
    assert outputs_of(answer)["outputs"]["data"] == data


@pytest.mark.parametrize("name", DATATYPES)
def test_contents_of_another_datatype_over_grpc_are_refused(by_grpc, name):
    right = FIELDS.get(DATATYPES[name])
    contents = {field: [1] * 6 for field in set(FIELDS.values())} | {"bytes_contents": [b"a"] * 6}
    for field, values in contents.items():
        if field == right:
            continue
        sent = message(name, contents={field: values})
        code, words = by_grpc.infer(sent)
        assert code is INVALID
        assert f"expected {DATATYPES[name]!r} in {right or 'raw_input_contents'}, got " in words
        assert field in words


def test_contents_of_two_kinds_or_beside_bytes_are_refused(by_grpc):
    both = message("float32", contents={"fp32_contents": [1] * 6, "int_contents": [1] * 6})
    beside = message("float32", contents={"fp32_contents": [1] * 6})
    beside.raw_input_contents.append(bytes(24))
    for sent in (both, beside):
        code, words = by_grpc.infer(sent)
        assert code is INVALID
        assert "expected 'FP32' in fp32_contents, got" in words


def test_integers_that_do_not_fit_their_list_of_grpc_are_refused(by_grpc):
    sent = message("int8", contents={"int_contents": [0, 1, 2, 3, 4, 128]})
    assert by_grpc.infer(sent) == (INVALID, "inputs: expected whole numbers that fit int8.")


# --- what the model itself refuses, and models that cannot be served -----------------------------


@pytest.fixture
def loaded(tmp_path):
    """Load a model of a function into a `ServedModel`."""

    def load(function, spec):
        folder = exports.export_function(tmp_path / "model", function, spec)
        return ServedModel(folder, 32, None, lambda rows: None)

    return load


def test_a_token_out_of_range_is_named_in_one_line(tmp_path):
    table = tf.reshape(tf.range(20.0), (10, 2))
    spec = tf.TensorSpec((None, 3), tf.int32, name="inputs")

    def embed(tokens):
        return {"outputs": tf.gather(table, tokens)}

    folder = exports.export_function(tmp_path / "tokens", embed, spec)
    with (
        serving(folder) as server,
        contextlib.closing(load.HttpClient(server.port)) as http,
        contextlib.closing(load.GrpcClient(server.grpc_port)) as by_grpc,
    ):
        words = "the model refuses it: indices[1,2] = 12345 is not in [0, 10)"
        data = [1, 2, 3, 4, 5, 12345]
        assert http.infer("tokens", json_request("int32", data)) == (400, {"error": words})
        sent = message("int32", contents={"int_contents": data})
        sent.model_name = "tokens"
        assert by_grpc.infer(sent) == (INVALID, words)


def test_a_model_is_served_whose_shortest_input_it_refuses(tmp_path):
    """One step is less than a kernel of three; it is what a model is warmed up with."""
    kernel = tf.ones((3, 1, 1))
    spec = tf.TensorSpec((None, None, 1), tf.float32, name="inputs")

    def slide(inputs):
        return {"outputs": tf.nn.conv1d(inputs, kernel, 1, "VALID")}

    folder = exports.export_function(tmp_path / "steps", slide, spec)
    with serving(folder) as server, contextlib.closing(load.HttpClient(server.port)) as http:
        status, answer = http.infer("steps", load.http_request(np.ones((1, 5, 1), "float32")))
        assert status == 200
        assert outputs_of(answer)["outputs"]["data"] == [3, 3, 3]
        status, answer = http.infer("steps", load.http_request(np.ones((1, 1, 1), "float32")))
        assert status == 400
        assert answer["error"].startswith("the model refuses it: ")
        assert "\n" not in answer["error"]


def test_no_rows_of_any_length_are_answered_but_not_computed_at_any_length(tmp_path):
    """A row of zeros is computed for them: one of 2^40 values took all memory."""
    spec = tf.TensorSpec((None, None), tf.float32, name="inputs")
    folder = exports.export_function(tmp_path / "steps", lambda inputs: {"outputs": inputs}, spec)
    with serving(folder) as server, contextlib.closing(load.HttpClient(server.port)) as http:
        none = {"inputs": [{"name": "inputs", "shape": [0, 5], "datatype": "FP32", "data": []}]}
        assert http.infer("steps", none)[0] == 200
        none["inputs"][0]["shape"] = [0, 2**40]
        status, answer = http.infer("steps", none)
        assert status == 400
        assert "expected rows of at most 1048576 values" in answer["error"]


@pytest.mark.parametrize(
    ("function", "shape", "name"),
    [
        (lambda inputs: {"outputs": inputs, "table": tf.range(5)}, (None, 3), "table"),
        (lambda inputs: {"outputs": tf.reduce_mean(inputs)}, (None, 3), "outputs"),
        (lambda inputs: {"outputs": inputs}, (), "inputs"),
    ],
)
def test_a_model_that_does_not_answer_row_by_row_is_refused(loaded, function, shape, name):
    """Requests that were computed together got parts of each other's answers."""
    with pytest.raises(InputError, match=f"1: {name}: expected a row for each row of the input"):
        loaded(function, tf.TensorSpec(shape, tf.float32, name="inputs"))


@pytest.mark.parametrize("name", ["complex64", "qint8"])
def test_a_dtype_that_the_protocol_has_not_is_named(loaded, name):
    spec = tf.TensorSpec((None, 3), tf.as_dtype(name), name="inputs")
    with pytest.raises(InputError, match=f"^inputs: expected one of bool, .* got {name}, which"):
        loaded(lambda inputs: {"outputs": tf.zeros(tf.shape(inputs))}, spec)
    floats = tf.TensorSpec((None, 3), tf.float32, name="inputs")
    with pytest.raises(InputError, match=r"^outputs: expected one of bool, .* got complex64"):
        loaded(lambda inputs: {"outputs": tf.cast(inputs, tf.complex64)}, floats)


def test_a_model_of_several_inputs_is_refused_by_their_names(tmp_path):
    spec = tf.TensorSpec((None,), tf.float32)
    add = tf.function(lambda a, b: {"outputs": a + b}).get_concrete_function(a=spec, b=spec)
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"), signatures={"serving_default": add})
    with pytest.raises(InputError, match=r"1: expected one input, got 2: a, b\. Export"):
        ServedModel(tmp_path / "1", 32, None, lambda rows: None)
