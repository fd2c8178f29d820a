"""A worked example as text for the terminal: each step in words, its formula, its numbers."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from bnzoo.reporting.worked_example import Worked

WIDTH, INDENT, LEAD = 80, 2, 22  # characters: a line, before it, and its heading
MOST_CHANNELS, MOST_SAMPLES, MOST_ROWS, MOST_COLUMNS = 4, 2, 4, 6


class Step(NamedTuple):
    """One step: a title, what happens in words, formulas in Python syntax, lines of numbers."""

    title: str
    words: str
    formulas: tuple[str, ...]
    numbers: tuple[str, ...]


def explain(worked: Worked, decimals: int = 4) -> list[Step]:
    """Return the steps of a worked example, in order.

    Args:
        worked: all intermediate values.
        decimals: digits after the point, from 0 to 15.
    """

    def number(value: float) -> str:
        return fixed(value, decimals)

    return [
        _batch_step(worked, number),
        _mean_step(worked, number),
        _variance_step(worked, number),
        _normalize_step(worked, number),
        _scale_step(worked, number),
        _moving_step(worked, number),
        _inference_step(worked, number),
    ]


def fixed(value: float, decimals: int) -> str:
    """Write a number with fixed decimals; what rounds to zero has no sign."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _whole(value: float) -> str:
    return fixed(value, 0)


def _batch_step(worked: Worked, number: Callable) -> Step:
    batch, axis = worked.batch, worked.settings.axis
    words = (
        f"x has shape {batch.shape}; its channels are at axis {axis}. Each of its "
        f"{worked.mean.size} channels has n = {worked.count} values: all that share a channel, "
        "over samples and positions."
    )
    whole = np.array_equal(batch, np.round(batch))
    return Step("The batch", words, (), _grids(worked, batch, _whole if whole else number))


def _mean_step(worked: Worked, number: Callable) -> Step:
    rows = {"mean": worked.mean}
    return Step(
        "Mean of each channel",
        "Add up the n values of a channel and divide by n.",
        ("mean = sum(x) / n",),
        _channel_table(rows, number),
    )


def _variance_step(worked: Worked, number: Callable) -> Step:
    return Step(
        "Variance of each channel",
        "Subtract the mean first, then square, add up and divide by n. (The shortcut "
        "sum(x ** 2) / n - mean ** 2 loses its digits where the mean is large.)",
        ("variance = sum((x - mean) ** 2) / n",),
        _channel_table({"variance": worked.variance}, number),
    )


def _normalize_step(worked: Worked, number: Callable) -> Step:
    words = (
        "Subtract the mean and divide by the standard deviation. epsilon = "
        f"{worked.settings.epsilon:g} keeps a constant channel from a division by zero. Each "
        "channel now has mean 0 and variance close to 1."
    )
    formula = "x_hat = (x - mean) / sqrt(variance + epsilon)"
    numbers = _grids(worked, worked.normalized, number)
    return Step("Normalise", words, (formula,), numbers)


def _scale_step(worked: Worked, number: Callable) -> Step:
    words = (
        "gamma and beta, one of each per channel, are learned: they let the network choose the "
        "spread and the centre. This y is the output in training."
    )
    numbers = _channel_table({"gamma": worked.gamma, "beta": worked.beta}, number)
    if np.array_equal(worked.outputs, worked.normalized):
        numbers = (*numbers, "", "gamma = 1 and beta = 0, as in a new layer: y = x_hat.")
    else:
        numbers = (*numbers, "", *_grids(worked, worked.outputs, number))
    return Step("Scale and shift", words, ("y = gamma * x_hat + beta",), numbers)


def _moving_step(worked: Worked, number: Callable) -> Step:
    momentum = worked.settings.momentum
    words = (
        "For inference the layer remembers averages over the batches. They begin at mean 0 and "
        f"variance 1; each training step keeps momentum = {momentum:g} of the old value "
        f"(PyTorch's momentum {1 - momentum:g})."
    )
    formulas = ["moving_mean = moving_mean * momentum + mean * (1 - momentum)"]
    rows = {}
    if worked.settings.unbiased:
        formulas.append("unbiased = variance * n / (n - 1)" + (" # n = 1: the variance itself"
                        if worked.count == 1 else ""))  # fmt: skip
        rows["unbiased"] = worked.followed_variance
    followed = "unbiased" if worked.settings.unbiased else "variance"
    formulas += [
        f"moving_variance = moving_variance * momentum + {followed} * (1 - momentum)",
    ]
    rows |= {"moving mean": worked.moving_mean, "moving variance": worked.moving_variance}
    return Step("Moving averages", words, tuple(formulas), _channel_table(rows, number))


def _inference_step(worked: Worked, number: Callable) -> Step:
    words = (
        "The same formula with the moving averages: the output of a sample no longer depends on "
        "the rest of its batch. After this one step they have not yet reached the batch's own "
        "statistics, so y differs from training; after many steps it comes close."
    )
    formulas = ("y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta",)
    return Step("Inference", words, formulas, _grids(worked, worked.inference, number))


def _channel_table(rows: dict[str, np.ndarray], number: Callable) -> tuple[str, ...]:
    """Lay out values of shape (channels,): a column per channel, as many as fit the width."""
    texts = {name: [number(value) for value in values] for name, values in rows.items()}
    total = len(next(iter(texts.values())))
    label = max(map(len, texts)) + 2
    width = max(len(text) for values in texts.values() for text in values)
    width = max(width, len(f"channel {total}")) + 2
    shown = max(1, min(total, (WIDTH - INDENT - label) // width))
    heads = [f"channel {place + 1}" for place in range(shown)]
    lines = [" " * label + "".join(f"{head:>{width}}" for head in heads)]
    for name, values in texts.items():
        lines.append(f"{name:<{label}}" + "".join(f"{text:>{width}}" for text in values[:shown]))
    if shown < total:
        lines.append(f"... {total - shown} more channels")
    return tuple(lines)


def _grids(worked: Worked, values: np.ndarray, number: Callable) -> tuple[str, ...]:
    """Lay out a batch: for each channel its samples, the last axis along the line."""
    by_channel = np.moveaxis(values, worked.settings.axis, 0)
    number = _aligned(by_channel[:MOST_CHANNELS, :MOST_COLUMNS], number)
    lines: list[str] = []
    for channel in range(min(len(by_channel), MOST_CHANNELS)):
        if lines and by_channel.ndim > 2:
            lines.append("")
        lines += _channel_lines(by_channel[channel], f"channel {channel + 1}", number)
    if len(by_channel) > MOST_CHANNELS:
        lines.append(f"... {len(by_channel) - MOST_CHANNELS} more channels")
    return tuple(lines)


def _channel_lines(samples: np.ndarray, heading: str, number: Callable) -> Iterator[str]:
    """Lay out one channel, of shape (batch, ...): a vector on one line, samples one by one."""
    if samples.ndim == 1:
        yield f"{heading:<{LEAD}}{_vector(samples, number, MOST_COLUMNS)}"
        return
    for place in range(min(len(samples), MOST_SAMPLES)):
        rows = samples[place].reshape(-1, samples.shape[-1])
        for line, row in enumerate(rows[:MOST_ROWS]):
            lead = f"{heading}, sample {place + 1}" if line == 0 else ""
            yield f"{lead:<{LEAD}}{_vector(row, number, MOST_COLUMNS)}"
        if len(rows) > MOST_ROWS:
            yield f"{'':<{LEAD}}... {len(rows) - MOST_ROWS} more rows"
    if len(samples) > MOST_SAMPLES:
        yield f"... {len(samples) - MOST_SAMPLES} more samples"


def _aligned(values: np.ndarray, number: Callable) -> Callable:
    """Pad numbers to one width, so that the columns of all channels and samples align."""
    shown = values[..., :MOST_COLUMNS] if values.ndim > 2 else values
    width = max(8, *(len(number(value)) for value in (shown.min(), shown.max()))) + 1
    return lambda value: f"{number(value):>{width}}"


def _vector(values: np.ndarray, number: Callable, most: int) -> str:
    texts = [number(value) for value in values[:most]]
    total, width, room = len(values), len(texts[0]), WIDTH - INDENT - LEAD
    fit = min(most, room // width)
    if total > fit:
        fit = max(1, min(fit, (room - len(f"  ... {total} more")) // width))
    shown = "".join(texts[:fit])
    return shown if total <= fit else f"{shown}  ... {total - fit} more"
