"""Start the server, and stop it without losing a request."""

import asyncio
import contextlib
import functools
import gc
import importlib.util
import logging.config
import os
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.serving.layout import find_models

GRACE_SECONDS = 60.0
"""How long a request that was begun may take once the server is asked to stop."""

SEND_SECONDS = 0.5
"""How long the last answers may be on their way."""


@dataclass(frozen=True)
class Settings:
    """What `bnzoo serve` is told.

    Attributes:
        folder: one exported model (with versions in it), one version, or a folder of models.
        host: address to listen on.
        ports: `--port` of HTTP, `--grpc-port` and `--metrics-port` of the Prometheus metrics, each
            from 1 to 65535.
        max_request_bytes: largest request that is read.
        max_batch_size: how many rows of several requests may be computed together; 1: none.
        poll_seconds: how often the folder is looked at for new and removed versions; 0: never.
        model_control: whether clients may load and unload models.
    """

    folder: Path
    host: str
    ports: dict[str, int]
    max_request_bytes: int
    max_batch_size: int
    poll_seconds: float = 5.0
    model_control: bool = False


def run_server(settings: Settings, announce: Callable[[str], None] = print) -> None:
    """Serve exported models until SIGINT or SIGTERM.

    Args:
        settings: what to serve, and how.
        announce: called with lines that say what is served, once it is.

    Raises:
        InputError: the extra `serve` is not installed, there is nothing to serve, no model can be
            loaded, or a port cannot be listened on.
    """
    if importlib.util.find_spec("tritonclient") is None:
        raise InputError(
            "a server needs packages that are not installed. In the checkout: pip install "
            "'.[serve]'."
        )
    import uvicorn

    find_models(settings.folder)
    with listening(settings.host, settings.ports) as sockets:
        logging.config.dictConfig(LOGGING)
        gc.set_threshold(100_000)  # a request may hold a million lists: looking at them takes long
        loop_factory = uvicorn.Config(None, log_config=None).get_loop_factory()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(settings, sockets, announce))
    announce("Stopped.")


@contextlib.contextmanager
def listening(host: str, ports: dict[str, int]) -> Iterator[dict[str, socket.socket]]:
    """Listen on ports, all at the same time.

    Raises:
        InputError: a port is out of range, used twice or taken, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        sockets = {}
        for name, port in ports.items():
            try:
                if port > 65535:
                    raise OSError(None, "expected a port from 1 to 65535")
                opened = socket.create_server((host, port), family=family, backlog=2048)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else error.strerror
                raise InputError(
                    f"{name}: cannot listen on {host}:{port}: {reason}. "
                    f"Choose another port with {name}, or another address with --host."
                ) from None
            sockets[name] = stack.enter_context(opened)
        yield sockets


async def _serve(settings: Settings, sockets: dict, announce: Callable[[str], None]) -> None:
    from prometheus_client import make_asgi_app

    from bnzoo.serving.server.decoding import Decoder
    from bnzoo.serving.server.http_app import HttpApp
    from bnzoo.serving.server.http_server import HttpServer
    from bnzoo.serving.server.limits import Traffic
    from bnzoo.serving.server.metrics import Metrics
    from bnzoo.serving.server.model import ServedModel
    from bnzoo.serving.server.repository import Repository
    from bnzoo.serving.server.service import Service

    traffic, decoder = Traffic(settings.max_request_bytes), Decoder()
    metrics = Metrics(traffic, decoder)

    def load(name: str, version: str, folder: Path) -> ServedModel:
        count_rows = functools.partial(metrics.batch, name, version)
        return ServedModel(folder, settings.max_batch_size, decoder, count_rows)

    repository = Repository(settings.folder, load)
    await repository.scan()
    if not repository.loaded():
        raise InputError(
            f"{settings.folder}: expected a model that can be loaded, got none. "
            + "; ".join(one["reason"] for one in repository.index())
        )
    service = Service(repository, traffic, metrics, settings.model_control)
    app = HttpApp(service, {settings.host, "localhost", socket.gethostname()}).app()
    servers = (
        HttpServer(app, sockets["--port"]),
        HttpServer(make_asgi_app(metrics.registry), sockets["--metrics-port"]),
    )
    over_grpc = await _start_grpc(service, settings, sockets["--grpc-port"])
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    async with asyncio.TaskGroup() as tasks:
        for server in servers:
            tasks.create_task(server.serve())
        if settings.poll_seconds:
            watching = tasks.create_task(repository.watch(settings.poll_seconds))
        for line in _welcome(settings, repository):
            announce(line)
        await asked_to_stop.wait()
        await traffic.stop(GRACE_SECONDS)
        await asyncio.sleep(SEND_SECONDS)
        await over_grpc.stop(None)  # at once: with a grace, calls that come now end as CANCELLED
        for server in servers:
            server.should_exit = True
        if settings.poll_seconds:
            watching.cancel()
        decoder.stop()


async def _start_grpc(service, settings: Settings, taken: socket.socket):
    import grpc

    from bnzoo.serving.server.grpc_service import GrpcService
    from bnzoo.serving.server.limits import MAX_CONNECTIONS, READ_SECONDS

    options = {
        "grpc.max_receive_message_length": settings.max_request_bytes,
        "grpc.max_allowed_incoming_connections": MAX_CONNECTIONS,
        "grpc.max_concurrent_streams": 128,
        "grpc.server_handshake_timeout_ms": int(1000 * READ_SECONDS),
        "grpc.http2.bdp_probe": 0,  # or it buffers megabytes of messages that nobody reads yet
        "grpc.so_reuseport": 0,  # or a second server would share the port without a word
    }
    server = grpc.aio.server(options=list(options.items()))
    server.add_generic_rpc_handlers((GrpcService(service).handler(),))
    host, port = taken.getsockname()[:2]
    taken.close()
    server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    await server.start()
    return server


def _welcome(settings: Settings, repository) -> Iterator[str]:
    host, ports = settings.host, settings.ports
    for name in repository.loaded():
        yield f"Serving {name}, version {', '.join(repository.loaded(name))}"
    yield (
        f"HTTP on http://{host}:{ports['--port']}, gRPC on {host}:{ports['--grpc-port']}, "
        f"metrics on http://{host}:{ports['--metrics-port']}/metrics. Stop with Ctrl-C."
    )


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {
        "bnzoo.serving": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        # What is wrong with a request is answered, not logged.
        "uvicorn": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
        "grpc": {"level": "CRITICAL", "propagate": False},
    },
}
