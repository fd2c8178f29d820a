"""`serve`: exported models over HTTP and gRPC."""

from pathlib import Path
from typing import Annotated

import typer

from bnzoo.cli.app import command


@command("serve")
def serve(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="An exported model, or a folder of them.")
    ],
    port: Annotated[int, typer.Option(min=1, help="Port of HTTP.")] = 8080,
    grpc_port: Annotated[
        int | None, typer.Option(min=1, help="Port of gRPC. Default: the one after --port.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, help="Port of the metrics. Default: the second after --port."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 is all of them.")
    ] = "127.0.0.1",
    max_request_mb: Annotated[float, typer.Option(help="Largest request, in 2^20 bytes.")] = 16.0,
    batch: Annotated[
        int, typer.Option(min=1, help="Rows of requests computed together at most; 1: none.")
    ] = 32,
    poll_seconds: Annotated[
        float,
        typer.Option(
            min=0, max=86_400, help="How often DIR is looked at for new versions; 0: never."
        ),
    ] = 5.0,
    model_control: Annotated[
        bool, typer.Option("--model-control", help="Let clients load and unload models.")
    ] = False,
) -> None:
    """Serve exported models by the Open Inference Protocol, over HTTP and gRPC."""
    from bnzoo.errors import InputError
    from bnzoo.quiet import start_tensorflow_quietly

    if not 0 < max_request_mb < 2048:
        raise InputError(
            "--max-request-mb: expected a number above 0 and below 2048, got "
            f"{max_request_mb:g}. For example 16."
        )
    start_tensorflow_quietly()
    from bnzoo.serving.server.start import Settings, run_server

    ports = {
        "--port": port,
        "--grpc-port": port + 1 if grpc_port is None else grpc_port,
        "--metrics-port": port + 2 if metrics_port is None else metrics_port,
    }
    settings = Settings(
        folder,
        host,
        ports,
        max_request_bytes=int(max_request_mb * 2**20),
        max_batch_size=batch,
        poll_seconds=poll_seconds,
        model_control=model_control,
    )
    run_server(settings, announce=lambda line: print(line, flush=True))
