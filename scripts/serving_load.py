"""What the scripts that try a server share: starting one, and clients that know no bnzoo."""

import contextlib
import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

STARTED = "Stop with Ctrl-C"
TIMEOUT = 300.0  # seconds: what takes longer hangs; a shared machine may pause for a minute


@dataclasses.dataclass
class Server:
    """A running server.

    Attributes:
        process: its own.
        port: of HTTP; gRPC and metrics are the next two.
        log: file with what it printed.
    """

    process: subprocess.Popen
    port: int
    log: Path

    @property
    def grpc_port(self) -> int:
        """Port of gRPC."""
        return self.port + 1

    def memory(self) -> int:
        """Return the bytes that the process holds in memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the server to stop, wait until it has, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextlib.contextmanager
def running_server(
    folder: Path, log: Path, *options: str, prefix: tuple[str, ...] = ()
) -> Iterator[Server]:
    """Serve a folder as `bnzoo serve` does, in a process of its own, and stop it at the end.

    Args:
        folder: an exported model or a folder of them.
        log: file for what it prints.
        *options: more words of the command.
        prefix: words before the command, such as `taskset -c 1`.
    """
    port = free_ports()
    command = [*prefix, sys.executable, "-m", "bnzoo", "serve", str(folder), "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, *options], stdout=file, stderr=subprocess.STDOUT)
    server = Server(process, port, log)
    try:
        until = time.monotonic() + 900
        while STARTED not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.05)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def free_ports() -> int:
    """Return the first of three free ports in a row."""
    for first in range(21000 + os.getpid() % 500 * 20, 32000, 7):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + 3):
                    trial = stack.enter_context(contextlib.closing(socket.socket()))
                    trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no three free ports in a row")


class HttpClient:
    """Plain HTTP, one connection that is opened again where the server has closed it."""

    def __init__(self, port: int):
        self._port = port
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a GET."""
        return self._send("GET", path, None, {})

    def post(self, path: str, body: bytes | dict, headers: dict | None = None) -> tuple[int, bytes]:
        """Return status and body of a POST; a mapping is sent as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._send(
            "POST", path, data, {"Content-Type": "application/json"} | (headers or {})
        )

    def infer(self, model: str, body: bytes | dict) -> tuple[int, dict]:
        """Return status and answer of an inference request; answers are JSON, errors too."""
        status, answer = self.post(f"/v2/models/{model}/infer", body)
        return status, json.loads(answer)

    def _send(self, method, path, data, headers) -> tuple[int, bytes]:
        for again in (True, False):
            if self._connection is None:
                again = False
                self._connection = http.client.HTTPConnection(
                    "127.0.0.1", self._port, timeout=TIMEOUT
                )
            try:
                self._connection.request(method, path, data, headers)
                response = self._connection.getresponse()
                body = response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                self.close()
                if not again:  # a connection that was new cannot have been idle for too long
                    raise
                continue
            if response.will_close:
                self.close()
            return response.status, body
        raise AssertionError

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class GrpcClient:
    """The Open Inference Protocol over gRPC."""

    def __init__(self, port: int):
        # Every client its own connection: they would share one otherwise.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options)
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._raw = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    def infer(self, request) -> tuple[grpc.StatusCode, object]:
        """Return the status of an inference request, and the answer or the error's words."""
        return self._call(self.stub.ModelInfer, request)

    def send_bytes(self, data: bytes) -> tuple[grpc.StatusCode, object]:
        """The same for bytes that need not be a request."""
        return self._call(self._raw, data)

    def _call(self, method, request) -> tuple[grpc.StatusCode, object]:
        try:
            return grpc.StatusCode.OK, method(request, timeout=TIMEOUT, wait_for_ready=True)
        except grpc.RpcError as error:
            return error.code(), error.details()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()


def http_request(values: np.ndarray, name: str = "inputs") -> dict:
    """Return a request for float32 values as JSON."""
    data = values.ravel().tolist()
    tensor = {"name": name, "shape": list(values.shape), "datatype": "FP32", "data": data}
    return {"inputs": [tensor]}


def grpc_request(model: str, values: np.ndarray | list[bytes], name: str = "inputs"):
    """Return a gRPC request for float32 values, or for encoded images."""
    is_images = isinstance(values, list)
    shape = [len(values)] if is_images else values.shape
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name=name, shape=shape, datatype="BYTES" if is_images else "FP32"
    )
    request = service_pb2.ModelInferRequest(model_name=model, inputs=[tensor])
    if is_images:
        request.inputs[0].contents.bytes_contents.extend(values)
    else:
        request.raw_input_contents.append(values.astype("<f4").tobytes())
    return request


def grpc_answers(response) -> dict[str, np.ndarray]:
    """Return the number tensors of a gRPC response by name."""
    dtypes = {"FP32": "<f4", "INT32": "<i4"}
    found = {}
    for place, output in enumerate(response.outputs):
        if output.datatype not in dtypes:
            continue
        if response.raw_output_contents:
            values = np.frombuffer(response.raw_output_contents[place], dtypes[output.datatype])
        else:
            contents = output.contents
            values = np.array(
                contents.fp32_contents if output.datatype == "FP32" else contents.int_contents
            )
        found[output.name] = values.reshape(output.shape)
    return found


def http_answers(answer: dict) -> dict[str, np.ndarray]:
    """Return the tensors of an HTTP answer by name."""
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer["outputs"]}
