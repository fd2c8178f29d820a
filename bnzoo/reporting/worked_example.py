"""Batch normalization of one small batch, with every step kept: float64 NumPy, no TensorFlow.

The layer's formulas live in `ops/`, on Keras' backend, which takes seconds to start. They are
repeated here so that `bnzoo explain` answers at once; tests hold both to the same numbers.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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


@dataclass(frozen=True)
class Settings:
    """What the batch is normalized with.

    axis: the channel axis, in [-ndim, ndim).
    epsilon: at least 0, in the unit of the variance; the default is PyTorch's, as in the source.
    momentum: share of the old moving average that is kept, in [0, 1]; PyTorch's 0.1 is 0.9 here.
    gamma, beta: one number for all channels, or one per channel.
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
        Every intermediate value in float64: `batch`, `normalized`, `outputs` and `inference` in the
        batch's shape, the others of shape (channels,).

    Raises:
        InputError: the settings do not fit the batch, or a value leaves the range of float64.

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
    moving_scale = gamma / np.sqrt(moving_variance + settings.epsilon)
    large = {
        "batch": x,
        "normalized": (x - mean) * scale,
        "outputs": (x - mean) * (gamma * scale) + beta,
        "inference": (x - moving_mean) * moving_scale + beta,
    }
    values = {
        "mean": mean,
        "variance": variance,
        "gamma": gamma,
        "beta": beta,
        "unbiased": followed,
        "moving mean": moving_mean,
        "moving variance": moving_variance,
        **{name: np.moveaxis(one, -1, settings.axis) for name, one in large.items()},
    }
    if not all(np.isfinite(one).all() for one in values.values()):
        raise InputError(
            f"expected finite results, got infinite or undefined ones with "
            f"epsilon={settings.epsilon:g}. A constant channel needs an epsilon above 0; very "
            "large values need to be scaled down."
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
    if not 0 <= settings.epsilon < math.inf:
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
        if len(values) not in (1, shape[axis]) or not np.isfinite(values).all():
            raise InputError(
                f"--{name}: expected one finite number, or {shape[axis]} with commas between them "
                f"(one per channel), got {','.join(f'{value:g}' for value in values)}. The "
                "channels are at --axis."
            )


def read_batch(path: Path) -> np.ndarray:
    """Read a batch from a `.npy` file.

    Returns:
        float64 array of at least 2 dimensions.

    Raises:
        InputError: the file cannot be read, or holds something else than finite real numbers.
    """
    advice = "Write one with numpy.save(path, batch)."
    try:
        with path.open("rb") as file:
            batch = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--input {path}: cannot be read: {reason}. {advice}") from None
    except (ValueError, EOFError):  # also of pickled objects, which could run code
        raise InputError(
            f"--input {path}: expected a .npy file of numbers, got something else. {advice}"
        ) from None
    where = f"--input {path}: expected"
    if batch.dtype.kind not in "fiub":
        raise InputError(f"{where} real numbers, got {batch.dtype}. Convert them to float32.")
    if batch.ndim < 2 or batch.size == 0:
        raise InputError(
            f"{where} an array of shape (batch, ..., channels) that is not empty, got shape "
            f"{list(batch.shape)}. Add the missing axes with numpy.reshape."
        )
    batch = batch.astype(np.float64)
    if not np.isfinite(batch).all():
        count = int((~np.isfinite(batch)).sum())
        raise InputError(
            f"{where} finite numbers, got {count} that are infinite or missing. Replace them, "
            "for example with numpy.nan_to_num."
        )
    return batch
