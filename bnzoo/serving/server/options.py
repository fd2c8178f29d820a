"""What can be set about a server, checked before anything is loaded."""

import contextlib
import dataclasses
import socket
from pathlib import Path

from bnzoo.errors import InputError

MAX_PORT = 65535


@dataclasses.dataclass(frozen=True)
class ServerOptions:
    """What to serve, where, and how much at a time.

    Attributes:
        folder: one exported model (with versions in it), one version, or a folder of models.
        host: address to listen on; the default is this machine only.
        port: of HTTP, from 1 to 65535.
        grpc_port: of gRPC; None is the port after `port`.
        metrics_port: of the Prometheus metrics; None is the second port after `port`.
        max_request_bytes: largest request that is read.
        max_batch_size: how many rows of several requests may be computed together; 1: none.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    metrics_port: int | None = None
    max_request_bytes: int = 16 * 2**20
    max_batch_size: int = 32

    def ports(self) -> dict[str, int]:
        """Return the three ports by the name of their option."""
        return {
            "--port": self.port,
            "--grpc-port": self.port + 1 if self.grpc_port is None else self.grpc_port,
            "--metrics-port": self.port + 2 if self.metrics_port is None else self.metrics_port,
        }


def check_ports(options: ServerOptions) -> None:
    """Make sure that the ports can be listened on.

    gRPC would share a taken port with its owner without a word, and each would get some requests.

    Raises:
        InputError: a port is out of range, used twice or taken, or the address is not ours.
    """
    ports = options.ports()
    for name, port in ports.items():
        if not 1 <= port <= MAX_PORT:
            raise InputError(
                f"{name}: expected a port from 1 to {MAX_PORT}, got {port}. For example 8080."
            )
    if len(set(ports.values())) < len(ports):
        raise InputError(
            f"{', '.join(ports)}: expected three different ports, got "
            f"{', '.join(map(str, ports.values()))}. Leave two out: they follow --port."
        )
    for name, port in ports.items():
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                options.host, port, type=socket.SOCK_STREAM
            )[0]
            with contextlib.closing(socket.socket(family, kind, protocol)) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(address)
        except OSError as error:
            raise InputError(
                f"{name}: cannot listen on {options.host}:{port}: {error.strerror or error}. "
                f"Choose another port with {name}, or another address with --host."
            ) from None
