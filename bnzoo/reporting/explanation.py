"""A worked example as text for the terminal: each step in words, its formula, its numbers."""

from typing import NamedTuple

import numpy as np

from bnzoo.reporting.worked_example import Settings, Values

WIDTH, INDENT, LEAD = 80, 2, 22  # characters: a line, before it, and its name
MOST_CHANNELS, MOST_SAMPLES, MOST_ROWS, MOST_COLUMNS = 4, 2, 4, 6
NO_NUMBERS = np.array([])


class Step(NamedTuple):
    """One step: a title, what happens in words, formulas in Python syntax, lines of numbers."""

    title: str
    words: str
    formulas: tuple[str, ...]
    numbers: tuple[str, ...]


def explain(values: Values, settings: Settings, decimals: int = 4) -> list[Step]:
    """Return the steps of a worked example, in order.

    Args:
        values: what `work_through` returned.
        settings: what it was called with.
        decimals: digits after the point, from 0 to 15.
    """
    batch, channels = values["batch"], len(values["mean"])
    n, kept = batch.size // channels, settings.momentum

    def grid(name: str, digits: int = decimals) -> tuple[str, ...]:
        return _grid(np.moveaxis(values[name], settings.axis, 0), digits)

    def table(*names: str) -> tuple[str, ...]:
        heads = np.array([f"channel {place}" for place in range(1, channels + 1)])
        return _layout([("", heads), *((name, values[name]) for name in names)], decimals)

    is_scaled = not np.array_equal(values["outputs"], values["normalized"])
    same = ("gamma = 1 and beta = 0, as in a new layer: y = x_hat.",)
    unbiased = "unbiased = variance * n / (n - 1)" if n > 1 else "unbiased = variance  # for n = 1"
    followed = "unbiased" if settings.unbiased else "variance"
    return [
        Step(
            "The batch",
            f"x has shape {batch.shape}; its channels are at axis {settings.axis}. Each of its "
            f"{channels} channels has n = {n} values: all that share a channel, over samples and "
            "positions.",
            (),
            grid("batch", 0 if np.array_equal(batch, batch.round()) else decimals),
        ),
        Step(
            "Mean of each channel",
            "Add up the n values of a channel and divide by n.",
            ("mean = sum(x) / n",),
            table("mean"),
        ),
        Step(
            "Variance of each channel",
            "Subtract the mean first, then square, add up and divide by n. (The shortcut "
            "sum(x ** 2) / n - mean ** 2 loses its digits where the mean is large.)",
            ("variance = sum((x - mean) ** 2) / n",),
            table("variance"),
        ),
        Step(
            "Normalize",
            "Subtract the mean and divide by the standard deviation. epsilon = "
            f"{settings.epsilon:g} keeps a constant channel from a division by zero. Each channel "
            "now has mean 0 and variance close to 1.",
            ("x_hat = (x - mean) / sqrt(variance + epsilon)",),
            grid("normalized"),
        ),
        Step(
            "Scale and shift",
            "gamma and beta, one of each per channel, are learned: they let the network choose the "
            "spread and the center. This y is the output in training.",
            ("y = gamma * x_hat + beta",),
            (*table("gamma", "beta"), "", *(grid("outputs") if is_scaled else same)),
        ),
        Step(
            "Moving averages",
            "For inference the layer remembers averages over the batches. They begin at mean 0 and "
            f"variance 1; each training step keeps momentum = {kept:g} of the old value "
            f"(PyTorch's momentum {1 - kept:g}).",
            (
                "moving_mean = moving_mean * momentum + mean * (1 - momentum)",
                *([unbiased] if settings.unbiased else []),
                f"moving_variance = moving_variance * momentum + {followed} * (1 - momentum)",
            ),
            table(*(["unbiased"] if settings.unbiased else []), "moving mean", "moving variance"),
        ),
        Step(
            "Inference",
            "The same formula with the moving averages: the output of a sample no longer depends "
            "on the rest of its batch. After this one step they have not yet reached the batch's "
            "own statistics, so y differs from training; after many steps it comes close.",
            ("y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta",),
            grid("inference"),
        ),
    ]


def fixed(value: float, decimals: int) -> str:
    """Write a number with fixed decimals; what rounds to zero has no sign."""
    return f"{value:z.{decimals}f}"


def _grid(by_channel: np.ndarray, decimals: int) -> tuple[str, ...]:
    """Lay out a batch of shape (channels, batch, ...): the last axis along the line."""
    rows: list[tuple[str, np.ndarray]] = []
    for channel, samples in enumerate(by_channel[:MOST_CHANNELS], start=1):
        if samples.ndim == 1:
            rows.append((f"channel {channel}", samples))
            continue
        rows += [("", NO_NUMBERS)] if rows else []
        for sample, values in enumerate(samples[:MOST_SAMPLES], start=1):
            lines = values.reshape(-1, values.shape[-1])
            names = [f"channel {channel}, sample {sample}", *[""] * (MOST_ROWS - 1)]
            rows += list(zip(names, lines, strict=False))
            rows += _more(len(lines) - MOST_ROWS, "rows")
        rows += _more(len(samples) - MOST_SAMPLES, "samples")
    return _layout(rows + _more(len(by_channel) - MOST_CHANNELS, "channels"), decimals)


def _more(count: int, what: str) -> list[tuple[str, np.ndarray]]:
    return [(f"... {count} more {what}", NO_NUMBERS)] if count > 0 else []


def _layout(rows: list[tuple[str, np.ndarray]], decimals: int) -> tuple[str, ...]:
    """Write rows of a name and numbers in columns, as many as fit the width of a terminal."""
    texts = [
        [str(one) if isinstance(one, str) else fixed(one, decimals) for one in row[:MOST_COLUMNS]]
        for _, row in rows
    ]
    width = max(7, *(len(text) for line in texts for text in line)) + 2
    longest = max(len(row) for _, row in rows)
    fit = min(MOST_COLUMNS, (WIDTH - INDENT - LEAD) // width)
    if longest > fit:
        fit = max(1, min(fit, (WIDTH - INDENT - LEAD - len(f"  ... {longest} more")) // width))
    return tuple(
        f"{name:<{LEAD}}"
        + "".join(f"{text:>{width}}" for text in line[:fit])
        + (f"  ... {len(row) - fit} more" if len(row) > fit else "")
        for (name, row), line in zip(rows, texts, strict=True)
    )
