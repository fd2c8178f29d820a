"""How the inputs of the last hidden activation move while the layers below it train."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnzoo.errors import InputError
from bnzoo.reporting.curves import add_legend
from bnzoo.reporting.style import INK, looks, shortened
from bnzoo.reporting.style import Look as Style
from bnzoo.studies.watching.stateless import part_of, stateless, training_examples
from bnzoo.studies.watching.study import Look, Row, Runs, Study
from bnzoo.versions import private

LINES = {85: ("85th percentile", "--"), 50: ("median", "-"), 15: ("15th percentile", ":")}
PERCENTILES = tuple(sorted(LINES))
ACTIVATIONS = (keras.layers.Activation, keras.layers.ReLU, keras.layers.LeakyReLU)
PANELS = 3  # side by side


class ActivationShift(Study):
    """Percentiles of each unit's input to the last hidden activation, in training mode.

    Where the activation has positions, as in a convolution, a unit is a channel.

    Source:
        Ioffe and Szegedy 2015, section 4.1 and figure 1 (b, c): a network of three sigmoid layers
        on MNIST, one unit of the last. Beside that unit, `median_shift` counts over all of them.
    """

    caption = (
        "15th, 50th and 85th percentile of what one unit of the last hidden layer hands to its "
        "activation, in training mode; of the first seed, as units of other seeds are others."
    )

    def check(self, model, splits, train) -> None:
        """Find the activation, its unit, and enough steps."""
        units, total = _inputs(model).shape[-1], train.epochs * splits.steps_per_epoch
        if self.settings.unit >= units:
            raise InputError(
                f"expected a unit of the last hidden activation, 0 to {units - 1}, got "
                f"{self.settings.unit}. Change compare.study.unit."
            )
        first = -(-self.settings.from_step // self.settings.every)
        if first >= total // self.settings.every:
            raise InputError(
                f"expected two looks from step {self.settings.from_step:,} on, every "
                f"{self.settings.every:,} steps, got a run of {total:,} steps. Lower "
                "compare.study.from_step or compare.study.every, or train longer."
            )

    def is_due(self, step, steps_per_epoch) -> bool:
        """Look every so many steps, and before the first."""
        return step % self.settings.every == 0

    def begin(self, model, splits) -> Look:
        """Compile the part of the model below the activation."""
        part = part_of(model, _inputs(model))
        batches = training_examples(splits, self.settings.examples)
        below = stateless(part, lambda x: part(x, training=True))

        def measure(step: int) -> list[Row]:
            found = [ops.convert_to_numpy(below(x)) for x, *_ in batches]
            values = np.concatenate([one.reshape(-1, one.shape[-1]) for one in found])
            rows = np.percentile(values.astype("float64"), PERCENTILES, axis=0)
            return [dict(zip(columns, map(float, rows.ravel()), strict=True))]

        units = range(part.output.shape[-1])
        columns = [_column(percent, unit) for percent in PERCENTILES for unit in units]
        return Look(columns, measure)

    def count(self, rows: Sequence[Row]) -> dict[str, float]:
        """Sum up the moves of each unit's median, over its mean spread; average over the units.

        Units without a spread (dead ones) do not count.
        """
        rows = [row for row in rows if row["step"] >= self.settings.from_step]
        if len(rows) < 2:
            return {}
        low, median, high = (_table(rows, percent) for percent in PERCENTILES)
        moved, spread = np.abs(np.diff(median, axis=0)).sum(axis=0), (high - low).mean(axis=0)
        alive = spread > 0
        if not alive.any():
            return {}
        return {"median_shift": float((moved[alive] / spread[alive]).mean())}

    def draw(self, variants: dict[str, Runs]) -> Figure:
        """Draw a panel per variant, all of one scale."""
        styles = looks(list(variants))
        shown = {name: runs[0] for name, runs in variants.items() if runs}
        columns = min(len(shown), PANELS)
        lines = -(-len(shown) // columns)
        figure = Figure((0.6 + 2.7 * columns, 0.6 + 2.3 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (name, rows) in zip(panels, shown.items(), strict=False):
            _draw_unit(axes, rows, self.settings.unit, styles[name])
            axes.set_title(shortened(name))
            axes.set_xlabel("step")
        for axes in panels[len(shown) :]:
            axes.set_visible(False)
        panels[0].set_ylabel(f"input of unit {self.settings.unit}'s activation")
        entries = [
            (words, Line2D([], [], color=INK, ls=dashes)) for words, dashes in LINES.values()
        ]
        add_legend(figure, entries, len(entries))
        return figure


def _draw_unit(axes: Axes, rows: Sequence[Row], unit: int, style: Style) -> None:
    steps = [row["step"] for row in rows]
    low, _, high = ([row[_column(percent, unit)] for row in rows] for percent in PERCENTILES)
    axes.fill_between(steps, low, high, color=style.color, alpha=0.14, lw=0)
    for percent, (_, dashes) in LINES.items():
        values = [row[_column(percent, unit)] for row in rows]
        axes.plot(steps, values, color=style.color, ls=dashes, lw=1.8 if percent == 50 else 1.2)
    axes.margins(x=0)
    axes.grid(True, axis="y")


def _inputs(model: keras.Model) -> Any:
    """Return the symbolic input of the last hidden activation, of shape (batch, ..., units)."""
    outputs = {id(one) for one in keras.tree.flatten(getattr(model, "outputs", None) or [])}
    # Not `layer.input`: of an activation that is called again and again that is the first.
    found = [
        one.input_tensors[0]
        for one in _calls(model)
        if isinstance(one.operation, ACTIVATIONS) and id(one.outputs[0]) not in outputs
    ]
    if not found:
        kinds = sorted({type(layer).__name__ for layer in model.layers})
        raise InputError(
            f"no hidden activation in the model {model.name!r}: expected a layer "
            f"{', '.join(kind.__name__ for kind in ACTIVATIONS)} of a functional model, found "
            f"{', '.join(kinds) or 'no layers'}. Give the activation a layer of its own."
        )
    return found[-1]


def _calls(model: keras.Model) -> list:
    """Return the calls of layers of a functional model, in their order; none of another."""
    if not getattr(model, "outputs", None):
        return []
    if isinstance(model, keras.Sequential):
        model = keras.Model(*model.inputs, *model.outputs)
    by_depth = private(model, "_nodes_by_depth", "No hidden activation is found.") or {}
    return [one for depth in sorted(by_depth, reverse=True) for one in by_depth[depth]]


def _column(percent: int, unit: int) -> str:
    return f"p{percent}_{unit}"


def _table(rows: Sequence[Row], percent: int) -> np.ndarray:
    """Return a percentile of shape (looks, units)."""
    names = [name for name in rows[0] if name.startswith(f"p{percent}_")]
    return np.array([[row[name] for name in names] for row in rows])
