"""Start a server, and stop it when asked to, with every request answered that was begun."""

import asyncio
import contextlib
import importlib.util
import logging
from collections.abc import Callable

from bnzoo.errors import InputError
from bnzoo.serving.server.options import ServerOptions, check_ports

GRACE_SECONDS = 60.0
"""How long a request that was begun may take once the server is asked to stop; MLServer has 5."""


def run_server(options: ServerOptions, announce: Callable[[str], None] = print) -> None:
    """Serve exported models until SIGINT or SIGTERM.

    Args:
        options: what to serve, and where.
        announce: called with lines that say what is served, once it is.

    Raises:
        InputError: MLServer is not installed, there is nothing to serve, a model cannot be
            loaded, or a port cannot be listened on.
    """
    if importlib.util.find_spec("mlserver") is None:
        raise InputError(
            "a server needs MLServer, which is not installed. On Python 3.11 or 3.12: "
            "pip install 'bnzoo[serve]'. There is no release of it for Python 3.13."
        )
    check_ports(options)
    from bnzoo.serving.layout import find_models
    from bnzoo.serving.server.loaded import load_export

    models = find_models(options.folder)
    held = [load_export(version) for versions in models.values() for version in versions]
    lines = [
        f"Serving {name}, version {', '.join(version.resolve().name for version in versions)}"
        for name, versions in models.items()
    ]
    ports = options.ports()
    lines.append(
        f"HTTP on http://{options.host}:{ports['--port']}, gRPC on "
        f"{options.host}:{ports['--grpc-port']}, metrics on "
        f"http://{options.host}:{ports['--metrics-port']}/metrics. Stop with Ctrl-C."
    )
    from mlserver.utils import install_uvloop_event_loop

    install_uvloop_event_loop()

    def started() -> None:
        held.clear()  # MLServer's models hold them now
        for line in lines:
            announce(line)

    asyncio.run(_serve(options, started))
    announce("Stopped.")


async def _serve(options: ServerOptions, started: Callable[[], None]) -> None:
    from mlserver import MLServer

    from bnzoo.serving.server.grpc_service import use_checked_service
    from bnzoo.serving.server.limits import bound

    use_checked_service()
    _leave_signals_to_mlserver()
    settings = _settings(options)
    server = MLServer(settings)
    bound(server._rest_server._app, options.max_request_bytes)
    _refuse_unknown_models(server)
    _stop_gracefully(server._grpc_server)
    models = await server._model_repository.list()
    announcing = asyncio.create_task(_when_started(server, started))
    try:
        await server.start(models)
    finally:
        announcing.cancel()


async def _when_started(server, call: Callable[[], None]) -> None:
    while not getattr(getattr(server._rest_server, "_server", None), "started", False):
        await asyncio.sleep(0.02)
    call()


def _settings(options: ServerOptions):
    from mlserver.settings import Settings

    ports = options.ports()
    return Settings(
        debug=False,
        host=options.host,
        http_port=ports["--port"],
        grpc_port=ports["--grpc-port"],
        metrics_port=ports["--metrics-port"],
        grpc_max_message_length=options.max_request_bytes,
        # In this process: TensorFlow computes in threads, and copies between processes cost more.
        parallel_workers=0,
        model_repository_implementation="bnzoo.serving.server.repository.ExportRepository",
        model_repository_root=str(options.folder),
        model_repository_implementation_args={"max_batch_size": options.max_batch_size},
        gzip_enabled=False,
        logging_settings=LOGGING,
        server_name="bnzoo",
    )


def _leave_signals_to_mlserver() -> None:
    """Keep the HTTP part from taking signals itself, which MLServer asks an older uvicorn not to.

    It would raise them again once it has stopped, and end the gRPC part in its grace.
    """
    import uvicorn

    uvicorn.Server.capture_signals = lambda server: contextlib.nullcontext()


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


class NotTheClients(logging.Filter):
    """Keeps mistakes of clients out of the log: each has its answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a record is to be logged."""
        from mlserver.errors import MLServerError

        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, MLServerError) and error.status_code < 500)


LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"not_the_clients": {"()": NotTheClients}},
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {
        "errors": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["not_the_clients"],
        }
    },
    "loggers": {
        "mlserver": {"handlers": ["errors"], "level": "WARNING", "propagate": False},
        "mlserver.grpc": {"filters": ["not_the_clients"]},
        "grpc": {"level": "CRITICAL", "propagate": False},  # a traceback for bytes that are none
        "uvicorn": {"handlers": ["errors"], "level": "WARNING", "propagate": False},
    },
}
