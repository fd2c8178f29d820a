"""`explain`: batch normalization worked through on a small batch, step by step."""

from pathlib import Path
from typing import Annotated

import typer

from bnzoo.cli.app import command, quiet_console
from bnzoo.errors import InputError

Input = Annotated[
    Path | None,
    typer.Option("--input", metavar="FILE.npy", help="Another batch than the built-in one."),
]
Axis = Annotated[
    int | None,
    typer.Option(help="Axis of the channels. Default: -1; 1 for the built-in batch."),
]
Epsilon = Annotated[float, typer.Option(help="Added to the variance.")]
Momentum = Annotated[float, typer.Option(help="Share of the old moving average that is kept.")]
PerChannel = Annotated[
    str, typer.Option(metavar="NUMBERS", help="One number, or one per channel: 1,0.5,2.")
]
Unbiased = Annotated[
    bool,
    typer.Option("--unbiased/--biased", help="Divide the moving variance by n - 1, or by n."),
]
Decimals = Annotated[int, typer.Option(min=0, max=15, help="Digits after the point.")]


@command("explain")
def explain(
    file: Input = None,
    axis: Axis = None,
    epsilon: Epsilon = 1e-5,
    momentum: Momentum = 0.9,
    gamma: PerChannel = "1",
    beta: PerChannel = "0",
    unbiased: Unbiased = False,
    decimals: Decimals = 4,
) -> None:
    """Work batch normalization through on a small batch, step by step.

    The built-in batch has 2 images of 3 channels and 3 x 3 pixels, channels first.
    """
    from bnzoo.reporting import worked_example

    settings = worked_example.Settings(
        axis=axis if axis is not None else (-1 if file else worked_example.BUILT_IN_AXIS),
        epsilon=epsilon,
        momentum=momentum,
        gamma=_numbers("gamma", gamma),
        beta=_numbers("beta", beta),
        unbiased=unbiased,
    )
    batch = worked_example.BUILT_IN if file is None else worked_example.read_batch(file)
    values = worked_example.work_through(batch, settings)
    quiet_console().print(worked_example.explain(values, settings, decimals))


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"--{name}: expected one number, or several with commas between them, got {text!r}. "
            f"For example --{name} 1,0.5,2."
        ) from None
