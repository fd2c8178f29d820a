"""Start a server, and stop it when asked to, with every request answered that was begun."""

import asyncio
import contextlib
import importlib.util
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.serving.layout import find_models

GRACE_SECONDS = 60.0
"""How long a request that was begun may take once the server is asked to stop; MLServer has 5."""


def run_server(
    folder: Path,
    host: str,
    ports: dict[str, int],
    max_request_bytes: int,
    max_batch_size: int,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve exported models until SIGINT or SIGTERM.

    Args:
        folder: one exported model (with versions in it), one version, or a folder of models.
        host: address to listen on.
        ports: `--port` of HTTP, `--grpc-port` and `--metrics-port` of the Prometheus metrics, each
            from 1 to 65535.
        max_request_bytes: largest request that is read.
        max_batch_size: how many rows of several requests may be computed together; 1: none.
        announce: called with lines that say what is served, once it is.

    Raises:
        InputError: MLServer is not installed, there is nothing to serve, a model cannot be
            loaded, or a port cannot be listened on.
    """
    if importlib.util.find_spec("mlserver") is None:
        raise InputError(
            "a server needs MLServer, which is not installed. In the checkout, with Python 3.11 "
            "or 3.12: pip install '.[serve]'. It has no release for later ones."
        )
    check_ports(host, ports)
    from mlserver.utils import install_uvloop_event_loop

    from bnzoo.serving.server.repository import ExportRepository

    found = find_models(folder)
    repository = ExportRepository(str(folder), max_batch_size)
    models = [settings for name in found for settings in repository.load(name)]

    def started() -> None:
        models.clear()  # the server holds them now, and lets go of those that are replaced
        for name, versions in found.items():
            numbers = ", ".join(version.resolve().name for version in versions)
            announce(f"Serving {name}, version {numbers}")
        announce(
            f"HTTP on http://{host}:{ports['--port']}, gRPC on {host}:{ports['--grpc-port']}, "
            f"metrics on http://{host}:{ports['--metrics-port']}/metrics. Stop with Ctrl-C."
        )

    install_uvloop_event_loop()
    settings = _settings(folder, host, ports, max_request_bytes, max_batch_size)
    asyncio.run(_serve(settings, models, started))
    announce("Stopped.")


def check_ports(host: str, ports: dict[str, int]) -> None:
    """Make sure that the ports can be listened on, all at the same time.

    gRPC would share a taken port with its owner without a word, and each would get some requests.

    Raises:
        InputError: a port is out of range, used twice or taken, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as listening:
        for name, port in ports.items():
            try:
                trial = listening.enter_context(socket.socket(family))
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind((host, port))
                trial.listen()
            except (OSError, OverflowError) as error:
                reason = getattr(error, "strerror", "expected a port from 1 to 65535")
                raise InputError(
                    f"{name}: cannot listen on {host}:{port}: {reason}. "
                    f"Choose another port with {name}, or another address with --host."
                ) from None


def _settings(
    folder: Path, host: str, ports: dict[str, int], max_request_bytes: int, max_batch_size: int
):
    from mlserver.settings import Settings

    return Settings(
        debug=False,
        host=host,
        http_port=ports["--port"],
        grpc_port=ports["--grpc-port"],
        metrics_port=ports["--metrics-port"],
        grpc_max_message_length=max_request_bytes,
        # In this process: TensorFlow computes in threads, and copies between processes cost more.
        parallel_workers=0,
        model_repository_implementation="bnzoo.serving.server.repository.ExportRepository",
        model_repository_root=str(folder),
        model_repository_implementation_args={"max_batch_size": max_batch_size},
        gzip_enabled=False,
        logging_settings=LOGGING,
        server_name="bnzoo",
    )


async def _serve(settings, models: list, started: Callable[[], None]) -> None:
    import uvicorn
    from mlserver import MLServer

    from bnzoo.serving.server.grpc_service import use_checked_service
    from bnzoo.serving.server.limits import bound

    use_checked_service()
    # MLServer takes the signals, and asks an older uvicorn than this not to. It would raise them
    # again once it has stopped, and end the gRPC part in its grace.
    uvicorn.Server.capture_signals = lambda server: contextlib.nullcontext()
    server = MLServer(settings)
    bound(server._rest_server._app, settings.grpc_max_message_length)
    _refuse_unknown_models(server)
    _stop_gracefully(server._grpc_server)
    announcing = asyncio.create_task(_when_started(server, started))
    try:
        await server.start(models)
    finally:
        announcing.cancel()


async def _when_started(server, call: Callable[[], None]) -> None:
    while not getattr(getattr(server._rest_server, "_server", None), "started", False):
        await asyncio.sleep(0.02)
    call()


def _stop_gracefully(grpc_server) -> None:
    async def stop(sig=None) -> None:
        await grpc_server._server.stop(GRACE_SECONDS)

    grpc_server.stop = stop


def _refuse_unknown_models(server) -> None:
    """Look a model up before it is counted: a counter stays for every name that anyone asks for."""
    infer, models = server._data_plane.infer, server._model_registry

    async def infer_known(payload, name, version=None):
        await models.get_model(name, version)
        return await infer(payload, name, version)

    server._data_plane.infer = infer_known


def is_not_the_clients(record: logging.LogRecord) -> bool:
    """Tell whether a record is to be logged: mistakes of clients are not, each has its answer."""
    from mlserver.errors import MLServerError

    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, MLServerError) and error.status_code < 500)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "errors": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": [is_not_the_clients],
        }
    },
    "loggers": {
        "mlserver": {"handlers": ["errors"], "level": "WARNING", "propagate": False},
        "grpc": {"level": "CRITICAL", "propagate": False},  # a traceback for bytes that are none
        "uvicorn": {"handlers": ["errors"], "level": "WARNING", "propagate": False},
    },
}
