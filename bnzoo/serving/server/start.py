"""What the server is told, and what must hold before it starts."""

import asyncio
import contextlib
import importlib.util
import logging.config
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bnzoo.errors import InputError
from bnzoo.serving.layout import find_models


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

    from bnzoo.serving.server.lifecycle import serve

    find_models(settings.folder)
    with listening(settings.host, settings.ports) as sockets:
        logging.config.dictConfig(LOGGING)
        loop_factory = uvicorn.Config(None, log_config=None).get_loop_factory()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve(settings, sockets, announce))
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
                reason = error.strerror.partition(" (while")[0]
                raise InputError(
                    f"{name}: cannot listen on {host}:{port}: {reason}. "
                    f"Choose another port with {name}, or another address with --host."
                ) from None
            sockets[name] = stack.enter_context(opened)
        yield sockets


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
