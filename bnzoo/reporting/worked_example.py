"""Batch normalization of one small batch, step by step: float64 NumPy, no TensorFlow.

The layer's formulas live in `ops/`, on Keras' backend, which takes seconds to start. They are
repeated here so that `bnzoo explain` answers at once; tests hold both to the same numbers.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader

from bnzoo.errors import InputError

# Figure 2 of "Exploring the Superhero Role of 2D Batch Normalization in Deep Learning
# Architectures": 2 images, 3 channels, 3 x 3 pixels; channels first.
BUILT_IN = np.array(
    [
        [[[0, 4, 8], [0, 5, 4], [8, 7, 1]],
         [[33, 24, 24], [25, 34, 38], [30, 37, 21]],
         [[96, 91, 84], [87, 98, 91], [96, 85, 82]]],
        [[[5, 8, 0], [8, 3, 5], [5, 3, 4]],
         [[24, 36, 29], [25, 24, 28], [22, 33, 29]],
         [[83, 91, 81], [93, 85, 91], [96, 83, 83]]],
    ],
    dtype=np.float64,
)  # fmt: skip
BUILT_IN_AXIS = 1

WIDTH = 80  # characters of a line
MOST_ROWS, MOST_CHANNELS = 18, 6  # of a table; the built-in batch has 18 rows


@dataclass(frozen=True)
class Settings:
    """What the batch is normalized with.

    axis: the channel axis, in [-ndim, ndim).
    epsilon: at least 0, in the unit of the variance; the default is PyTorch's, as in the source.
    momentum: share of the old moving average that is kept, in [0, 1]; PyTorch's 0.1 is 0.9 here.
    gamma, beta: one finite number for all channels, or one per channel.
    unbiased: whether the moving variance follows `variance * n / (n - 1)`, as in PyTorch.
    """

    axis: int = -1
    epsilon: float = 1e-5
    momentum: float = 0.9
    gamma: tuple[float, ...] = (1.0,)
    beta: tuple[float, ...] = (0.0,)
    unbiased: bool = False


Values = dict[str, np.ndarray]


# What is not finite is refused at the end, where NumPy would only warn on the way.
@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def work_through(batch: np.ndarray, settings: Settings) -> Values:
    """Normalize a batch as a new layer does in its first training step, and then infer.

    `y = (x - mean) * (gamma / sqrt(variance + epsilon)) + beta`; the moving averages begin at
    mean 0 and variance 1 and move once; inference is the same formula with them.

    Args:
        batch: float64 array of shape (batch, ..., channels, ...), finite and not empty.
        settings: what to normalize it with.

    Returns:
        Every intermediate value in float64: `x`, `x_hat`, `y` and `inference` of shape (batch, ...,
        channels), with the channels last; the others of shape (channels,).

    Raises:
        InputError: the settings do not fit the batch, or a value is not finite.

    Source:
        Ioffe and Szegedy 2015, arXiv 1502.03167, Algorithm 1 and Algorithm 2, line 11; the
        variance is divided by n, and the moving one too unless `settings.unbiased`.
    """
    _check_settings(settings, batch.shape)
    x = np.moveaxis(batch, settings.axis, -1)  # where arrays of shape (channels,) broadcast
    axes, n, channels = tuple(range(x.ndim - 1)), x[..., 0].size, x.shape[-1]
    rough = x.mean(axes)
    mean = rough + (x - rough).mean(axes)  # the same correction as in `ops/moments.py`
    variance = np.square(x - mean).mean(axes)
    gamma, beta = (np.broadcast_to(values, channels) for values in (settings.gamma, settings.beta))
    followed = variance * n / (n - 1) if settings.unbiased and n > 1 else variance
    moving_mean = mean * (1 - settings.momentum)
    moving_variance = settings.momentum + followed * (1 - settings.momentum)
    scale = 1 / np.sqrt(variance + settings.epsilon)
    values = {
        "x": x,
        "gamma": gamma,
        "beta": beta,
        "mean": mean,
        "variance": variance,
        "x_hat": (x - mean) * scale,
        "y": (x - mean) * (gamma * scale) + beta,
        "unbiased": followed,
        "moving_mean": moving_mean,
        "moving_variance": moving_variance,
        "inference": (x - moving_mean) * (gamma / np.sqrt(moving_variance + settings.epsilon))
        + beta,
    }
    for name, one in values.items():
        if not np.isfinite(one).all():
            raise InputError(
                f"expected finite numbers, got infinite or missing ones in {name}, with "
                f"epsilon = {settings.epsilon:g}. A constant channel needs an epsilon above 0; "
                "very large values need to be scaled down, missing ones to be replaced."
            )
    return values


def _check_settings(settings: Settings, shape: tuple[int, ...]) -> None:
    """Refuse what is out of range or does not fit."""
    axis, ndim = settings.axis, len(shape)
    if not -ndim <= axis < ndim:
        raise InputError(
            f"--axis: expected an integer from {-ndim} to {ndim - 1} for a batch of shape "
            f"{list(shape)}, got {axis}. Name the axis that holds the channels."
        )
    if not settings.epsilon >= 0:
        raise InputError(
            f"--epsilon: expected a number that is 0 or greater, got {settings.epsilon:g}. "
            "It is added to the variance before the root is taken: try 0.001."
        )
    if not 0 <= settings.momentum <= 1:
        raise InputError(
            f"--momentum: expected a number from 0 to 1, got {settings.momentum:g}. It is the "
            "share of the old average that is kept: PyTorch's momentum m is 1 - m here."
        )
    for name, values in (("gamma", settings.gamma), ("beta", settings.beta)):
        if len(values) not in (1, shape[axis]):
            raise InputError(
                f"--{name}: expected one number, or {shape[axis]} with commas between them (one "
                f"per channel), got {','.join(f'{value:g}' for value in values)}. The channels "
                "are at --axis."
            )


def explain(values: Values, settings: Settings, decimals: int = 4) -> str:
    """Return a worked example as text: each step in words, its formula in Python, its numbers.

    Args:
        values: what `work_through` returned.
        settings: what it was called with.
        decimals: digits after the point, from 0 to 15.

    Returns:
        Lines of up to 80 characters, with rich's markup for bold titles and colored formulas.
    """
    x = values["x"]
    templates = Environment(
        loader=PackageLoader("bnzoo.reporting", "templates"), trim_blocks=True, lstrip_blocks=True
    )
    return templates.get_template("explanation.txt.j2").render(
        values,
        settings=settings,
        decimals=decimals,
        table=partial(_table, settings.axis),
        shape=np.moveaxis(x, -1, settings.axis).shape,
        n=x[..., 0].size,
        is_whole=np.array_equal(x, x.round()),
        is_new=np.array_equal(values["y"], values["x_hat"]),
    )


def _table(axis: int, digits: int, **rows: np.ndarray) -> str:
    """Lay out numbers with a column per channel.

    Args:
        axis: of the channels in the batch.
        digits: after the point.
        **rows: arrays of shape (channels,), a row each; or of shape (batch, ..., channels), a row
            for each position, named by its index in the batch: `x[0, :, 2, 1]`.
    """
    lines = {"": [f"channel {number}" for number in range(1, MOST_CHANNELS + 1)]}
    for name, values in rows.items():
        channels = values.shape[-1]
        by_position = values.reshape(-1, channels)
        for place, row in zip(np.ndindex(values.shape[:-1]), by_position[:MOST_ROWS], strict=False):
            index = [str(number) for number in place]
            index.insert(axis % values.ndim, ":")
            label = f"{name}[{', '.join(index)}]" if place else name
            # What rounds to zero has no sign.
            lines[label] = [f"{value:z.{digits}f}" for value in row[:MOST_CHANNELS]]
    lead, width = max(map(len, lines)), 2 + max(len(text) for row in lines.values() for text in row)
    fit = min(channels, MOST_CHANNELS, max(1, (WIDTH - 2 - lead) // width))
    printed = [
        f"  {label:<{lead}}" + "".join(f"{text:>{width}}" for text in row[:fit])
        for label, row in lines.items()
    ]
    for count, what in ((len(by_position) - MOST_ROWS, "rows"), (channels - fit, "channels")):
        printed += [f"  ... {count} more {what}"] if count > 0 else []
    return "\n".join(printed)


def read_batch(path: Path) -> np.ndarray:
    """Read a batch from a `.npy` file.

    Returns:
        float64 array of at least 2 dimensions.

    Raises:
        InputError: the file cannot be read, or holds something else than real numbers.
    """
    try:
        with path.open("rb") as file:
            batch = np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:  # also of pickled objects: they could run code
        raise InputError(
            f"--input {path}: cannot be read ({error}); expected a .npy file of numbers. Write one "
            "with numpy.save(path, batch)."
        ) from None
    if batch.dtype.kind not in "fiub" or batch.ndim < 2 or batch.size == 0:
        raise InputError(
            f"--input {path}: expected real numbers of shape (batch, ..., channels), not empty, "
            f"got {batch.dtype} of shape {list(batch.shape)}. Convert or reshape them with NumPy."
        )
    return batch.astype(np.float64)
