"""How the loss and its gradient change along the gradient: how far one can trust a step."""

from collections.abc import Sequence
from itertools import islice

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnzoo.errors import InputError
from bnzoo.reporting.curves import add_legend, set_log_scales
from bnzoo.reporting.style import Look as Style
from bnzoo.reporting.style import looks, shortened
from bnzoo.studies.watching.stateless import (
    check_differentiable,
    loss_and_gradients,
    training_batches,
)
from bnzoo.studies.watching.study import Look, Row, Runs, Study, across_seeds

COLUMNS = ("loss_low", "loss_high", "change_low", "change_high", "smoothness")
PANELS = {
    "loss along the gradient": ("loss_low", "loss_high"),
    "change of the gradient (l2)": ("change_low", "change_high"),
    "effective beta-smoothness": ("smoothness", "smoothness"),
}
ROUNDING = 1e-5
"""Of a gradient's length: smaller changes are those of float32, which were 3e-7 of it."""


class Landscape(Study):
    """The range of the loss, and of the distance of the gradient, some steps along the gradient.

    At weights w with gradient g of a batch they are taken at w - s * g, where s are `factors` of
    the learning rate. The effective smoothness is the largest |g(w - s * g) - g| / |s * g|.

    Source:
        Santurkar et al. 2018, figure 4, with step sizes from half to four times the
        learning rate. Unlike there, the batch is not that of the training step but one of a few
        that all runs of a seed share, and step 0 counts in no number and in no figure.
    """

    caption = (
        "Along the gradient of a batch, at step sizes around the learning rate: between which "
        "values the loss lies, how far the gradient moves, and that distance over the way. Mean "
        "over the seeds; before the first step is left out."
    )

    def check(self, model, splits, train) -> None:
        """Ask for gradients, and for enough steps."""
        check_differentiable()
        total = train.epochs * splits.steps_per_epoch
        if self.settings.every > total:
            raise InputError(
                f"expected a look after the first step, every {self.settings.every:,} steps, got a "
                f"run of {total:,} steps. Lower compare.study.every, or train longer."
            )

    def is_due(self, step, steps_per_epoch) -> bool:
        """Look every so many steps, and before the first."""
        return step % self.settings.every == 0

    def begin(self, model, splits) -> Look:
        """Compile the gradient, taken anywhere along another."""
        import tensorflow as tf

        batches = list(islice(training_batches(splits), self.settings.batches))
        gradients_at = loss_and_gradients(model, model.trainable_variables)

        @tf.function
        def along(values, gradients, size, *batch):
            moved = [value - size * one for value, one in zip(values, gradients, strict=True)]
            loss, there = gradients_at(moved, *batch)
            return loss, there, _distance(there, gradients)

        def measure(step: int) -> list[Row]:
            batch = batches[step // self.settings.every % len(batches)]
            values = [tf.convert_to_tensor(one.value) for one in model.trainable_variables]
            nowhere = [tf.zeros_like(one) for one in values]
            _, gradients, length = along(values, nowhere, tf.constant(0.0), *batch)
            rate = float(model.optimizer.learning_rate)
            sizes = [rate * factor for factor in self.settings.factors]
            found = [along(values, gradients, tf.constant(size), *batch) for size in sizes]
            losses, changes = ([float(one[part]) for one in found] for part in (0, 2))
            least = ROUNDING * float(length)  # so near, as when the rate has decayed, it is noise
            smoothness = max(
                change / (size * float(length)) if change > least else 0.0
                for change, size in zip(changes, sizes, strict=True)
            )
            ends = (min(losses), max(losses), min(changes), max(changes), smoothness)
            return [dict(zip(COLUMNS, ends, strict=True))]

        return Look(COLUMNS, measure)

    def count(self, rows: Sequence[Row]) -> dict[str, float]:
        """Take medians and the maximum over the looks after the first step."""
        rows = [row for row in rows if row["step"] > 0]
        if not rows:
            return {}
        return {
            "loss_range": float(np.median([row["loss_high"] - row["loss_low"] for row in rows])),
            "gradient_change": float(np.median([row["change_high"] for row in rows])),
            "effective_smoothness": max(row["smoothness"] for row in rows),
        }

    def draw(self, variants: dict[str, Runs]) -> Figure:
        """Draw a panel each for loss, gradient and smoothness: a band per variant."""
        styles = looks(list(variants))
        figure = Figure((8.4, 3.0 + 0.1 * len(variants)), layout="constrained")
        for axes, (title, columns) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
            for name, runs in variants.items():
                _draw_band(axes, runs, columns, styles[name])
            axes.set_title(title)
            axes.set_xlabel("step")
            set_log_scales(axes, "y")
            axes.grid(True, axis="y")
        entries = [
            (shortened(name), Line2D([], [], color=style.color, ls=style.dashes, lw=2))
            for name, style in styles.items()
        ]
        add_legend(figure, entries, 4)
        return figure


def _distance(ones, others):
    import tensorflow as tf

    pairs = zip(ones, others, strict=True)
    return tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(one - other)) for one, other in pairs]))


def _draw_band(axes: Axes, runs: Runs, columns: tuple[str, str], style: Style) -> None:
    runs = [[row for row in rows if row["step"] > 0] for rows in runs]
    if not any(runs):
        return
    (steps, low), (_, high) = (across_seeds(runs, column) for column in columns)
    low, high = np.nanmean(low, axis=1), np.nanmean(high, axis=1)
    axes.fill_between(steps, low, high, color=style.color, alpha=0.3, lw=0)
    for edge in (low, high):
        axes.plot(steps, edge, color=style.color, ls=style.dashes, lw=1.2)
