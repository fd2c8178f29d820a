"""The server inside the test's process: it starts in no time, and its limits can be patched."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import make_asgi_app

from bnzoo.serving.server import lifecycle, start
from bnzoo.serving.server.decoding import Decoder
from bnzoo.serving.server.http_app import HttpApp
from bnzoo.serving.server.http_server import HttpServer

HOST = "127.0.0.1"


class InLoop:
    """An event loop in a thread of its own, of the kind that the server has."""

    def __init__(self):
        factory = uvicorn.Config(None, log_config=None).get_loop_factory()
        self._runner = asyncio.Runner(loop_factory=factory)
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def begin(self, coroutine):
        """Begin a coroutine there and return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine, seconds: float = 60) -> Any:
        """Return what a coroutine returns there."""
        return self.begin(coroutine).result(seconds)

    def close(self) -> None:
        """Cancel what goes on there, stop the loop and wait for its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._runner.close()


class Serving(InLoop):
    """A server.

    Attributes:
        port, grpc_port, metrics_port: where it listens.
        service, decoder: its parts.
    """

    def __init__(self, folder: Path, **settings):
        super().__init__()
        settings = {"max_request_bytes": 2**20, "max_batch_size": 32} | settings
        self._settings = start.Settings(folder, HOST, {}, **settings)
        self._sockets = [socket.create_server((HOST, 0), backlog=2048) for _ in range(3)]
        self.port, self.grpc_port, self.metrics_port = (
            one.getsockname()[1] for one in self._sockets
        )
        try:
            self.run(self._start())
        except BaseException:
            self._release()
            raise

    async def _start(self) -> None:
        self.decoder = Decoder()
        self.service = await lifecycle._load_models(self._settings, self.decoder)
        self._servers = [
            HttpServer(HttpApp(self.service, {"localhost"}).app(), self._sockets[0]),
            HttpServer(make_asgi_app(self.service.metrics.registry), self._sockets[2]),
        ]
        self._serving = [asyncio.create_task(server.serve()) for server in self._servers]
        self._grpc = await lifecycle._start_grpc(self.service, self._settings, self._sockets[1])

    async def _stop(self) -> None:
        for server in self._servers:
            server.should_exit = True
        await self._grpc.stop(None)
        await asyncio.gather(*self._serving)
        self.decoder.stop()

    def close(self) -> None:
        """Stop the server."""
        self.run(self._stop())
        self._release()

    def _release(self) -> None:
        super().close()
        for one in self._sockets:
            one.close()


@contextlib.contextmanager
def serving(folder: Path, **settings) -> Iterator[Serving]:
    """Serve an exported model or a folder of them; **settings are some of `start.Settings`."""
    with contextlib.closing(Serving(folder, **settings)) as found:
        yield found


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something holds, or fail."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not so within {seconds} s"
        time.sleep(0.01)
