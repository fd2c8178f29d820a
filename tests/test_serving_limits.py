"""What a client may send and occupy: any string as an id, but not the time of others."""

import asyncio
import contextlib
import gc
import itertools
import json
import socket
import threading
import time
import weakref

import numpy as np
import pytest
import serving_exports as exports

pytest.importorskip("tritonclient", reason="needs the extra serve")

import grpc
import serving_load as load
from serving_inside import HOST, serving, wait_until
from tritonclient.grpc import service_pb2 as pb

from bnzoo.serving.server import grpc_service, http_app, http_server, lifecycle, limits
from bnzoo.serving.server.http_inference import JSON_SIZE
from bnzoo.serving.server.limits import BODIES

MODEL = "doubling"
PATH = f"/v2/models/{MODEL}/infer"
OK, INVALID = grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return exports.export_doubling(tmp_path_factory.mktemp("served") / MODEL).parent


@pytest.fixture(scope="module")
def server(folder):
    with serving(folder, max_request_bytes=16 * 2**20) as found:
        yield found


def rows(number=1):
    return np.arange(3 * number, dtype="float32").reshape(number, 3)


def request(**more):
    return load.http_request(rows()) | more


def is_well(server):
    """Tell whether a new client is answered over both protocols."""
    with (
        contextlib.closing(load.HttpClient(server.port)) as http,
        contextlib.closing(load.GrpcClient(server.grpc_port)) as by_grpc,
    ):
        status, answer = http.infer(MODEL, request())
        code, _ = by_grpc.infer(load.grpc_request(MODEL, rows()))
    return status == 200 and answer["outputs"][0]["data"] == [0, 2, 4] and code is OK


# --- what is echoed and asked for ----------------------------------------------------------------

IDS = {
    "plain": "42",
    "empty": "",
    "not ASCII": "größer als 文字 🐍",
    "a new line": "a\r\nSet-Cookie: b",
    "a NUL": "a\0b",
    "70 kB": "x" * 70_000,
    "quotes": "\"'\\",
}


@pytest.mark.parametrize("case", IDS)
def test_any_string_may_be_an_id_and_comes_back_as_it_is(http, by_grpc, case):
    status, answer = http.infer(MODEL, request(id=IDS[case]))
    assert (status, answer["id"]) == (200, IDS[case])
    message = load.grpc_request(MODEL, rows())
    message.id = IDS[case]
    code, response = by_grpc.infer(message)
    assert (code, response.id) == (OK, IDS[case])


def test_without_an_id_none_comes_back(http):
    assert "id" not in http.infer(MODEL, request())[1]


@pytest.mark.parametrize("times", [2, 100_000])
def test_an_output_asked_for_again_and_again_is_refused_at_once(http, by_grpc, times):
    begun = time.monotonic()
    status, answer = http.infer(MODEL, request(outputs=[{"name": "outputs"}] * times))
    assert status == 400
    assert "outputs" in answer["error"]
    assert len(answer["error"]) < 500
    message = load.grpc_request(MODEL, rows())
    message.outputs.extend(
        [pb.ModelInferRequest.InferRequestedOutputTensor(name="outputs")] * times
    )
    assert by_grpc.infer(message)[0] is INVALID
    assert time.monotonic() - begun < 3


def nested(size):
    """Return bodies of so many bytes that take the longest to read, by what is in them."""
    before = b'{"inputs":[{"name":"inputs","shape":[1,3],"datatype":"FP32","data":['
    parts = {
        "empty lists": b"[],",
        "rows": b"[1,2,3],",
        "lists in lists": b"[" * 60 + b"]" * 60 + b",",
        "objects": b"{},",
        "named values": b'{"":0},',
        "strings": b'"",',
        "numbers": b"0,",
    }
    bodies = {name: before + size // len(part) * part + b"0]}]}" for name, part in parts.items()}
    return bodies | {
        "depth": before + b"[" * (size // 2) + b"]" * (size // 2) + b"]}]}",
        "another field": b'{"x":[' + size // 3 * b"{}," + b"0]}",
        "outputs": b'{"outputs":[' + size // 3 * b"{}," + b"{}]}",
        "fields": b"{" + b"".join(b'"%d":0,' % number for number in range(size // 10)) + b'"x":0}',
    }


def test_ten_megabytes_of_brackets_keep_nobody_waiting(server):
    """Other requests are answered meanwhile: it took 6 s to read some of these."""
    longest, answers, end = 0.0, {}, threading.Event()

    def send():
        with contextlib.closing(load.HttpClient(server.port)) as client:
            for name, body in nested(10_000_000).items():
                answers[name] = client.infer(MODEL, body)
        end.set()

    thread = threading.Thread(target=send)
    thread.start()
    with contextlib.closing(load.HttpClient(server.port)) as client:
        while not end.is_set():
            begun = time.monotonic()
            assert client.infer(MODEL, request())[0] == 200
            longest = max(longest, time.monotonic() - begun)
    thread.join()
    assert {status for status, _ in answers.values()} == {400}, answers
    for name in ("empty lists", "lists in lists", "objects", "named values", "strings"):
        assert "at most 1048576 lists, objects and strings" in answers[name][1]["error"]
    assert longest < 3


def test_a_million_strings_in_binary_form_are_refused_before_they_are_read(server, tmp_path):
    import tensorflow as tf

    spec = tf.TensorSpec((None,), tf.string, name="inputs")
    folder = exports.export_function(tmp_path / "echo", lambda inputs: {"outputs": inputs}, spec)
    with (
        serving(folder, max_request_bytes=16 * 2**20) as echo,
        contextlib.closing(load.GrpcClient(echo.grpc_port)) as client,
    ):
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="inputs", shape=[4_000_000], datatype="BYTES"
        )
        message = pb.ModelInferRequest(model_name="echo", inputs=[tensor])
        message.raw_input_contents.append(bytes(16_000_000))
        begun = time.monotonic()
        code, words = client.infer(message)
        assert code is INVALID
        assert "expected at most 1048576 strings" in words
        assert time.monotonic() - begun < 3


# --- connections and bodies over HTTP ------------------------------------------------------------


def connected(port):
    return contextlib.closing(socket.create_connection((HOST, port), timeout=30))


def is_closed(connection, seconds=20):
    """Tell whether the server closes a connection, whatever it says before."""
    connection.settimeout(seconds)
    try:
        while connection.recv(2**16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.fixture
def fewest(monkeypatch):
    """Bound each port to three connections."""
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(lifecycle, "MAX_CONNECTIONS", 3)


@pytest.fixture
def impatient(monkeypatch):
    """Wait only for half a second for what clients are to send."""
    for module in (http_server, http_app, grpc_service):
        monkeypatch.setattr(module, "READ_SECONDS", 0.5)
    monkeypatch.setattr(grpc_service, "LOOKS", 2)


def test_connections_above_the_limit_are_closed_and_the_server_goes_on(folder, fewest):
    with serving(folder) as server, contextlib.ExitStack() as stack:
        for port in (server.port, server.metrics_port, server.grpc_port):
            held = [stack.enter_context(connected(port)) for _ in range(3)]
            for connection in held[: 3 if port == server.grpc_port else 0]:
                assert connection.recv(1)  # it has been greeted: HTTP/2 servers speak first
            for _ in range(5):
                assert is_closed(stack.enter_context(connected(port)))
            assert not any(is_closed(connection, seconds=0.01) for connection in held)
        stack.close()
        wait_until(lambda: is_well(server))


def test_together_the_ports_hold_less_than_the_files_of_a_process():
    assert 3 * http_server.MAX_CONNECTIONS < 1024 - 64


def begun_body(size, sent):
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    return head.encode() + bytes(sent)


def test_stalled_bodies_above_the_budget_are_refused_until_they_have_gone(folder):
    size = 2**17
    with serving(folder, max_request_bytes=size) as server:
        bodies = server.service.traffic.bodies
        with contextlib.ExitStack() as stack:
            stalled = [stack.enter_context(connected(server.port)) for _ in range(BODIES + 3)]
            for number, connection in enumerate(stalled[:BODIES], 1):
                connection.sendall(begun_body(size, size - 1))
                wait_until(lambda number=number: bodies.used == number * (size - 1))
            for connection in stalled[BODIES:]:
                connection.sendall(begun_body(size, size - 1))
                answer = connection.recv(2**16).decode()
                assert answer.startswith("HTTP/1.1 503 ")
                assert "\r\nretry-after: 1\r\n" in answer.lower()
                assert "bytes; try again" in answer
            assert bodies.used == BODIES * (size - 1)
        wait_until(lambda: bodies.used == 0)
        assert is_well(server)


HEADS = {
    "nothing": [b""],
    "half a head": [b"POST /v2/models/x/infer HTTP/1.1\r\nHost: x\r\n"],
    "a head a letter at a time": [bytes([one]) for one in b"GET /" + b"x" * 1000],
    "line ends": [b"\r\n"] * 1000,
    "an answered request and line ends": [
        b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n",
        *[b"\r\n"] * 1000,
    ],
    "a refused body without end": [
        b"POST /v2/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        *[b"1\r\nx\r\n"] * 1000,
    ],
}


@pytest.mark.parametrize("case", HEADS)
def test_a_connection_without_a_request_is_closed_whatever_it_sends(folder, impatient, case):
    with serving(folder) as server, connected(server.port) as connection:
        begun = time.monotonic()
        connection.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            for part in itertools.chain(HEADS[case], itertools.repeat(b"")):
                connection.sendall(part)
                with contextlib.suppress(TimeoutError):
                    if connection.recv(2**16) == b"":
                        break
                assert time.monotonic() - begun < 20
        assert is_well(server)


def test_a_head_that_is_too_long_is_not_read_to_its_end(server):
    with connected(server.port) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET / HTTP/1.1\r\n")
            for _ in range(1000):
                connection.sendall(b"X: " + b"x" * 10_000 + b"\r\n")
        assert is_closed(connection)
    assert is_well(server)


def test_who_closes_after_a_request_that_is_too_large_is_told_so(server):
    """As urllib does: a connection that is closed with bytes unread is reset, the answer lost."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    with connected(server.port) as connection:
        connection.sendall(f"{head}Content-Length: {17 * 2**20}\r\n\r\n".encode())
        connection.sendall(b" " * 17 * 2**20)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")


def test_who_goes_away_while_refused_is_no_error_of_the_server(server, caplog):
    for _ in range(3):
        with connected(server.port) as connection:
            connection.sendall(begun_body(17 * 2**20, 10))
            time.sleep(0.1)
    time.sleep(0.3)
    assert is_well(server)
    assert [one for one in caplog.records if one.levelname == "ERROR"] == []


def test_a_refused_request_is_let_go_without_garbage_collection():
    """A ring of the refusal, a frame and a task kept bodies until the collector came around."""

    class Body:
        pass

    class Asking:
        async def receive(self):
            await asyncio.sleep(60)

    async def refuse():
        raise limits.invalid("no")

    async def handle(body):
        await http_app._unless_gone(Asking(), refuse())

    async def ask():
        body = Body()
        held = weakref.ref(body)
        task = asyncio.create_task(handle(body))
        del body
        with contextlib.suppress(limits.Refused):
            await task
        del task
        await asyncio.sleep(0)
        return held() is None

    gc.disable()
    try:
        assert asyncio.run(ask())
    finally:
        gc.enable()


def test_a_body_that_does_not_come_is_a_timeout(folder, impatient):
    with serving(folder) as server, connected(server.port) as connection:
        connection.sendall(begun_body(1000, 10))
        answer = connection.recv(2**16).decode()
        assert answer.startswith("HTTP/1.1 408 ")
        assert answer.endswith('{"error":"the body did not arrive within 0.5 s."}')
        assert server.service.traffic.bodies.used == 0


def test_a_body_that_comes_a_byte_at_a_time_is_a_timeout(folder, impatient):
    with serving(folder) as server, connected(server.port) as connection:
        connection.sendall(begun_body(1000, 10))
        connection.settimeout(0.05)
        answer, begun = b"", time.monotonic()
        while not answer and time.monotonic() - begun < 20:
            connection.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(2**16)
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_does_not_read_its_answer_is_cut_off(folder, impatient):
    raw = np.full((400_000, 3), 0.1234567, "float32").tobytes()  # 12 MB in JSON, past all buffers
    asked = load.http_request(np.zeros((0, 3)))["inputs"][0] | {"shape": [400_000, 3]}
    del asked["data"]
    head = json.dumps({"inputs": [asked | {"parameters": {"binary_data_size": len(raw)}}]})
    size = f"\r\n{JSON_SIZE}: {len(head)}\r\n\r\n".encode()
    body = begun_body(len(head) + len(raw), 0).replace(b"\r\n\r\n", size) + head.encode() + raw
    with serving(folder, max_request_bytes=16 * 2**20) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        connection.connect((HOST, server.port))
        connection.sendall(body)
        connections = server._servers[0].server_state.connections
        wait_until(lambda: connections)
        wait_until(lambda: not connections)
        assert is_well(server)


def test_a_client_that_asks_on_without_reading_is_cut_off(folder, impatient):
    """The end of its first answer began no wait, and the second one waited for it for ever."""
    values = [[0.1234567, 0.7654321, 0.5555555]] * 100_000
    body = json.dumps(load.http_request(np.array(values, "float32"))).encode()
    with serving(folder, max_request_bytes=16 * 2**20) as server, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        connection.connect((HOST, server.port))
        connections = server._servers[0].server_state.connections
        wait_until(lambda: connections)
        with contextlib.suppress(ConnectionError):  # it may be cut off before all is sent
            connection.sendall((begun_body(len(body), 0) + body) * 3)
        wait_until(lambda: not connections, seconds=20)
        assert is_well(server)


def test_many_requests_in_one_go_are_answered_in_their_order(server):
    one = json.dumps(request(id="1")).encode()
    two = one.replace(b'"1"', b'"2"')
    with connected(server.port) as connection:
        connection.sendall(b"".join(begun_body(len(body), 0) + body for body in (one, two, one)))
        answers = b""
        while answers.count(b"model_name") < 3 or not answers.endswith(b"}"):
            answers += connection.recv(2**16)
    assert [part[:3] for part in answers.split(b'"id":')[1:]] == [b'"1"', b'"2"', b'"1"']


# --- messages over gRPC --------------------------------------------------------------------------


class Stalled:
    """Calls whose message does not come."""

    def __init__(self, port):
        self._end = threading.Event()
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.insecure_channel(f"{HOST}:{port}", options)
        self._infer = self._channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")

    def begin(self):
        """Begin a call and return it."""
        return self._infer.future(self._nothing(), timeout=60)

    def _nothing(self):
        self._end.wait(60)
        yield from ()

    def close(self):
        """End the calls."""
        self._end.set()
        self._channel.close()


def outcome(call):
    with pytest.raises(grpc.RpcError) as error:
        call.result()
    return error.value.code(), error.value.details()


def test_a_message_that_does_not_come_is_a_timeout(folder, impatient):
    with serving(folder) as server, contextlib.closing(Stalled(server.grpc_port)) as stalled:
        code, words = outcome(stalled.begin())
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert words == "the message did not arrive within 0.5 s."


def test_messages_that_do_not_come_are_bounded_and_keep_nobody_waiting(folder, monkeypatch):
    monkeypatch.setattr(grpc_service, "LOOKS", 2)
    with serving(folder) as server, contextlib.closing(Stalled(server.grpc_port)) as stalled:
        calls = [stalled.begin() for _ in range(BODIES)]
        wait_until(server.service.traffic.slow.locked)
        begun = time.monotonic()
        assert is_well(server)
        assert time.monotonic() - begun < 5
        code, words = outcome(stalled.begin())
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "arrive slowly" in words
        for call in calls:
            call.cancel()
        wait_until(lambda: not server.service.traffic.slow.locked())


def test_a_call_without_a_message_is_an_invalid_argument(server):
    with contextlib.closing(Stalled(server.grpc_port)) as stalled:
        stalled._end.set()
        assert outcome(stalled.begin()) == (INVALID, "expected a message, got none.")


def test_a_message_that_is_a_bomb_when_unpacked_is_refused(server):
    """A third of a megabyte, 300 of them unpacked."""
    contents = pb.ModelInferRequest(raw_input_contents=[bytes(100 * 2**20)]).SerializeToString()
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(
        f"{HOST}:{server.grpc_port}", options, compression=grpc.Compression.Gzip
    ) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        code, words = outcome(infer.future(contents, timeout=60))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in words
    assert is_well(server)
