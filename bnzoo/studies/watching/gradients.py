"""What gradients and activations are like before the first step."""

import math
from collections.abc import Sequence
from itertools import islice

import keras
import numpy as np
from keras import ops
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from bnzoo.errors import InputError, nearest
from bnzoo.reporting.curves import add_legend, set_log_scales
from bnzoo.reporting.style import looks, shortened
from bnzoo.studies.watching.stateless import (
    check_differentiable,
    loss_and_gradients,
    part_of,
    stateless,
    training_batches,
)
from bnzoo.studies.watching.study import Look, Row, Runs, Study

BINS_OF_A_DECADE, DECADES = 4, 16  # of |gradient|, on both sides of 1
BINS = range(-BINS_OF_A_DECADE * DECADES, BINS_OF_A_DECADE * DECADES)


class Gradients(Study):
    """Gradients for the kernel of one layer, and means and variances of channels over depth.

    Depth is counted in sums of blocks (`Add`); in networks without, in layers with a kernel.
    The mean of a channel is taken by its size, as signs cancel. Kurtosis is the excess over a
    normal distribution's.

    Source:
        Bjorck et al. 2018: gradients of layer 55 of ResNet-110 at initialization, and means and
        variances of channels over depth.
    """

    caption = (
        "Before the first step: sizes of the gradients of the loss for one layer's kernel, and the "
        "variance of a channel over depth, mean over the channels. Thick: the first seed. Thin: "
        "the others."
    )

    def check(self, model, splits, train) -> None:
        """Find the layer."""
        check_differentiable()
        layers = {layer.name: layer for layer in model.layers if hasattr(layer, "kernel")}
        wanted = self.settings.layer
        if wanted not in layers:
            raise InputError(
                f"no layer {wanted} with a kernel in the model {model.name!r}. "
                f"{nearest(wanted, layers)} It has {', '.join(layers) or 'none'}. Change "
                "compare.study.layer."
            )
        if not getattr(model, "outputs", None):
            raise InputError(
                f"expected a functional model, whose layers have outputs, got {model.name!r} of "
                f"{type(model).__name__}. Build it from keras.Input."
            )

    def is_due(self, step, steps_per_epoch) -> bool:
        """Look before the first step."""
        return step == 0

    def begin(self, model, splits) -> Look:
        """Compile the gradient for the kernel, and the moments of channels."""
        batches = list(islice(training_batches(splits), self.settings.batches))
        kernel = model.get_layer(self.settings.layer).kernel
        gradients_at, depths = loss_and_gradients(model, [kernel]), _depths(model)
        part = part_of(model, [layer.output for layer in depths])
        moments = stateless(part, lambda x: [_moments(one) for one in _outputs(part, x)])
        columns = [
            *("std", "kurtosis", "largest"),
            *(f"{moment}_{layer.name}" for layer in depths for moment in ("mean", "variance")),
            *(f"count_{number}" for number in BINS),
        ]

        def measure(step: int) -> list[Row]:
            return [dict(zip(columns, values(batch), strict=True)) for batch in batches]

        def values(batch: tuple) -> list[float]:
            _, (gradient,) = gradients_at([ops.convert_to_tensor(kernel.value)], *batch)
            channels = [float(one) for pair in moments(batch[0]) for one in pair]
            gradient = ops.convert_to_numpy(gradient).astype("float64").ravel()
            return [*_shape(gradient), *channels, *_counts(gradient)]

        return Look(columns, measure)

    def count(self, rows: Sequence[Row]) -> dict[str, float]:
        """Take means over the batches, and decades of what differs by powers of ten.

        Zeros have none, and are left out.
        """
        if not rows:
            return {}
        mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        means, variances = ([mean[name] for name in _names(mean, part)] for part in MOMENTS)
        sizes = {
            "gradient_std": mean["std"],
            "gradient_largest": mean["largest"],
            "channel_mean_last": means[-1],
            "channel_variance_last": variances[-1],
            "channel_variance_growth": variances[-1] / variances[0] if variances[0] else 0.0,
        }
        decades = {f"log10_{name}": math.log10(size) for name, size in sizes.items() if size}
        found = {"gradient_kurtosis": mean["kurtosis"], **decades}
        return {name: found[name] for name in self.numbers if name in found}

    def draw(self, variants: dict[str, Runs]) -> Figure:
        """Draw sizes of gradients on log axes, and the variance of channels over depth."""
        styles = looks(list(variants))
        figure = Figure((7.2, 3.0 + 0.1 * len(variants)), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, runs in variants.items():
            look = {"color": styles[name].color, "ls": styles[name].dashes}
            _draw_seeds(left, [_shares(rows) for rows in runs], look)
            _draw_seeds(right, [_variances(rows) for rows in runs], look)
        for axes in (left, right):
            axes.grid(True, axis="y")
        set_log_scales(left, "x", "y")
        left.xaxis.set_major_locator(LogLocator(numticks=6))  # 1e-12 is a wide label
        set_log_scales(right, "y")
        left.set_xlabel(f"|gradient| in {self.settings.layer}")
        left.set_ylabel("share of the weights")
        right.set_xlabel("depth")
        right.set_ylabel("variance of a channel")
        entries = [
            (shortened(name), Line2D([], [], color=style.color, ls=style.dashes, lw=2))
            for name, style in styles.items()
        ]
        add_legend(figure, entries, 4)
        return figure


MOMENTS = ("mean", "variance")


def _depths(model: keras.Model) -> list[keras.layers.Layer]:
    sums = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    return sums or [layer for layer in model.layers if hasattr(layer, "kernel")]


def _outputs(part: keras.Model, x) -> list:
    found = part(x, training=True)
    return found if isinstance(found, list) else [found]


def _moments(values) -> tuple:
    """Return mean over channels of |mean| and of variance, of shape (batch, ..., channels)."""
    values = ops.cast(values, "float32")
    mean, variance = ops.moments(values, axes=list(range(len(values.shape) - 1)))
    return ops.mean(ops.abs(mean)), ops.mean(variance)


def _shape(gradient: np.ndarray) -> tuple[float, float, float]:
    """Return standard deviation, excess kurtosis and the largest size of gradients."""
    centered, std = gradient - gradient.mean(), gradient.std()
    kurtosis = ((centered / std) ** 4).mean() - 3 if std else 0.0
    return float(std), float(kurtosis), float(np.abs(gradient).max())


def _counts(gradient: np.ndarray) -> list[int]:
    """Count gradients by their size; zeros in no bin, what lies outside in the last ones."""
    sizes = np.log10(np.abs(gradient[gradient != 0]))
    number = np.clip(np.floor(BINS_OF_A_DECADE * sizes), BINS[0], BINS[-1])
    return np.histogram(number, bins=[*BINS, BINS[-1] + 1])[0].tolist()


def _names(row: Row, part: str) -> list[str]:
    return [name for name in row if name.startswith(f"{part}_")]


def _shares(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    """Return sizes (middles of the bins) and shares of the gradients that have them."""
    counts = np.array([sum(row[f"count_{number}"] for row in rows) for number in BINS])
    is_there = counts > 0
    middles = 10 ** ((np.array(BINS) + 0.5) / BINS_OF_A_DECADE)
    return middles[is_there], counts[is_there] / max(counts.sum(), 1)


def _variances(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray]:
    found = [np.mean([row[name] for row in rows]) for name in _names(rows[0], "variance")]
    return np.arange(1, len(found) + 1), np.array(found)


def _draw_seeds(axes: Axes, lines: Sequence[tuple[np.ndarray, np.ndarray]], look: dict) -> None:
    """Draw the first seed thick, the others thin."""
    for number, line in enumerate(lines):
        axes.plot(*line, lw=0.8 if number else 1.8, alpha=0.6 if number else 1, **look)
