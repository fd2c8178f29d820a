"""The life of a server: models are loaded, requests answered, and none is lost at the end."""

import asyncio
import functools
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from prometheus_client import make_asgi_app

from bnzoo.errors import InputError
from bnzoo.serving.server.decoding import Decoder
from bnzoo.serving.server.grpc_service import GrpcService
from bnzoo.serving.server.http_app import HttpApp
from bnzoo.serving.server.http_server import HttpServer
from bnzoo.serving.server.limits import MAX_CONNECTIONS, READ_SECONDS, Traffic
from bnzoo.serving.server.metrics import Metrics
from bnzoo.serving.server.model import ServedModel
from bnzoo.serving.server.repository import Repository
from bnzoo.serving.server.service import Service
from bnzoo.serving.server.start import Settings

GRACE_SECONDS = 60.0
"""How long a request that was begun may take once the server is asked to stop."""

SEND_SECONDS = 0.5
"""How long the last answers may be on their way."""


async def serve(
    settings: Settings, sockets: dict[str, socket.socket], announce: Callable[[str], None]
) -> None:
    """Load what is there and answer until SIGINT or SIGTERM.

    Args:
        settings: what to serve, and how.
        sockets: by the names of `settings.ports`, listening.
        announce: called with lines that say what is served, once it is.

    Raises:
        InputError: no model can be loaded.
    """
    decoder = Decoder()
    service = await _load_models(settings, decoder)
    app = HttpApp(service, {settings.host, "localhost", socket.gethostname()}).app()
    over_http = (
        HttpServer(app, sockets["--port"]),
        HttpServer(make_asgi_app(service.metrics.registry), sockets["--metrics-port"]),
    )
    over_grpc = await _start_grpc(service, settings, sockets["--grpc-port"])
    asked_to_stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_stop.set)
    async with asyncio.TaskGroup() as tasks:
        for server in over_http:
            tasks.create_task(server.serve())
        watching = tasks.create_task(service.repository.watch(settings.poll_seconds))
        for line in _welcome(settings, service.repository):
            announce(line)
        await asked_to_stop.wait()
        await service.traffic.stop(GRACE_SECONDS)
        await asyncio.sleep(SEND_SECONDS)
        await over_grpc.stop(None)  # at once: with a grace, calls that come now end as CANCELLED
        for server in over_http:
            server.should_exit = True
        watching.cancel()
        decoder.stop()


async def _load_models(settings: Settings, decoder: Decoder) -> Service:
    traffic = Traffic(settings.max_request_bytes)
    metrics = Metrics(traffic, decoder)

    def load(name: str, version: str, folder: Path) -> ServedModel:
        count_rows = functools.partial(metrics.batch, name, version)
        model = ServedModel(folder, settings.max_batch_size, decoder, count_rows)
        decoder.wait_until_warm()
        return model

    repository = Repository(settings.folder, load)
    await repository.scan()
    if not repository.loaded():
        raise InputError(
            f"{settings.folder}: expected a model that can be loaded, got none. "
            + " ".join(one["reason"] for one in repository.index())
        )
    return Service(repository, traffic, metrics, settings.model_control)


async def _start_grpc(
    service: Service, settings: Settings, listening: socket.socket
) -> grpc.aio.Server:
    options = [
        ("grpc.max_receive_message_length", settings.max_request_bytes),
        ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
        ("grpc.max_concurrent_streams", 128),
        ("grpc.server_handshake_timeout_ms", int(1000 * READ_SECONDS)),
        ("grpc.http2.bdp_probe", 0),  # or it buffers megabytes of messages that nobody reads yet
        ("grpc.so_reuseport", 0),  # or a second server would share the port without a word
    ]
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((GrpcService(service).handler(),))
    host, port = listening.getsockname()[:2]
    listening.close()  # gRPC takes no socket, it opens its own
    server.add_insecure_port(f"{_in_url(host)}:{port}")
    await server.start()
    return server


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _welcome(settings: Settings, repository: Repository) -> Iterator[str]:
    host, ports = _in_url(settings.host), settings.ports
    for name in repository.loaded():
        yield f"Serving {name}, version {', '.join(repository.loaded(name))}"
    yield (
        f"HTTP on http://{host}:{ports['--port']}, gRPC on {host}:{ports['--grpc-port']}, "
        f"metrics on http://{host}:{ports['--metrics-port']}/metrics. Stop with Ctrl-C."
    )
