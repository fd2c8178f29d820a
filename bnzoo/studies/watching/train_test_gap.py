"""What inference with moving statistics loses against training mode, while a network trains."""

import math
from collections.abc import Sequence

import numpy as np
from keras import ops
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bnzoo.errors import InputError
from bnzoo.reporting.curves import add_legend, percent_ticks
from bnzoo.reporting.style import INK, looks, shortened
from bnzoo.studies.watching.stateless import stateless, training_examples
from bnzoo.studies.watching.study import Look, Row, Runs, Study, across_seeds

MODES = {"training_accuracy": "-", "inference_accuracy": (0, (4, 1.6))}


class TrainTestGap(Study):
    """Accuracy by the statistics of each batch, and by the moving ones, on the same batches.

    As the examples are the same in both modes, and those of the training data, what differs is
    the statistics (and dropout, where there is any). Variants of `model.batch_norm.momentum` train
    alike with one seed: of them only inference differs.

    Source:
        Wu and Johnson 2021, on why moving averages lag behind the weights.
    """

    caption = (
        "Accuracy after each epoch on the same training examples, batch by batch: normalized by "
        "the statistics of the batch (training mode), or by the moving statistics (inference mode)."
        " Line: mean over the seeds. Band: from the lowest to the highest seed."
    )

    def check(self, model, splits, train) -> None:
        """Ask for classes: without there is no accuracy."""
        if train.loss is not None or splits.num_classes is None:
            raise InputError(
                "expected a classifier (data with classes, and no train.loss), got "
                f"{'train.loss' if train.loss is not None else 'data without classes'}. Leave "
                "train.loss out, or choose another study."
            )

    def is_due(self, step, steps_per_epoch) -> bool:
        """Look after each epoch."""
        return step > 0 and step % steps_per_epoch == 0

    def begin(self, model, splits) -> Look:
        """Compile both modes."""
        batches = training_examples(splits, self.settings.examples)
        labels = np.concatenate([y for _, y, *_ in batches])
        calls = [
            stateless(model, lambda x, training=training: model(x, training=training))
            for training in (True, False)
        ]

        def accuracy(call) -> float:
            logits = np.concatenate([ops.convert_to_numpy(call(x)) for x, *_ in batches])
            is_right = logits.argmax(axis=-1) == labels.reshape(logits.shape[:-1])  # or (n, 1)
            return float(is_right.mean()) if np.isfinite(logits).all() else math.nan

        return Look(list(MODES), lambda step: [dict(zip(MODES, map(accuracy, calls), strict=True))])

    def count(self, rows: Sequence[Row]) -> dict[str, float]:
        """Take the difference after each epoch."""
        gaps = [row["training_accuracy"] - row["inference_accuracy"] for row in rows]
        return {"phase_gap": float(np.mean(gaps)), "last_phase_gap": gaps[-1]} if gaps else {}

    def draw(self, variants: dict[str, Runs]) -> Figure:
        """Draw two lines per variant, training mode solid and inference mode dashed."""
        figure = Figure((5.6, 3.6 + 0.12 * len(variants)), layout="constrained")
        axes, styles = figure.add_subplot(), looks(list(variants))
        for name, runs in variants.items():
            for column, dashes in MODES.items():
                steps, values = across_seeds(runs, column)
                if len(steps):
                    ends = np.nanmin(values, axis=1), np.nanmax(values, axis=1)
                    color = styles[name].color
                    axes.fill_between(steps, *ends, color=color, alpha=0.14, lw=0)
                    mean, marker = np.nanmean(values, axis=1), styles[name].marker
                    axes.plot(steps, mean, color=color, ls=dashes, lw=1.6, marker=marker, ms=3.5)
        axes.yaxis.set_major_formatter(percent_ticks())
        axes.set_xlabel("step")
        axes.set_ylabel("accuracy")
        axes.grid(True, axis="y")
        kinds = zip(("training mode", "inference mode"), MODES.values(), strict=True)
        entries = [(words, Line2D([], [], color=INK, ls=dashes)) for words, dashes in kinds]
        entries += [
            (shortened(name), Line2D([], [], color=style.color, marker=style.marker, ms=4))
            for name, style in styles.items()
        ]
        add_legend(figure, entries, 3)
        return figure
