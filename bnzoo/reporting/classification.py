"""What a classifier gets right and wrong on labeled examples: numbers, figures and a page."""

import dataclasses
import heapq
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder, write_atomically
from bnzoo.reporting import formatting
from bnzoo.reporting.page import drawn, render, save, svg_text
from bnzoo.reporting.style import INK, shortened

MOST_MISTAKES = 20  # in the gallery: the surest ones
MOST_COUNTS = 20  # classes up to which a confusion matrix has its numbers in it
COLORS = colormaps["cividis"]


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Attributes:
        index: of the example, in the order of the data, from 0.
        label: index of its class.
        answer: index of the class that the model saw.
        probability: of that answer, in [0, 1].
        example: the model's input, float32 array of shape `input_shape`; a text where it reads
            texts, and None where it has several inputs.
    """

    index: int
    label: int
    answer: int
    probability: float
    example: Any


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model answered to labeled examples.

    Attributes:
        labels: int array of shape (examples,).
        answers: int array of shape (examples,): the most probable class of each.
        losses: float64 array of shape (examples,): cross entropy in nats.
        mistakes: the surest wrong answers, the surest first.
    """

    labels: np.ndarray
    answers: np.ndarray
    losses: np.ndarray
    mistakes: tuple[Mistake, ...]


# The answers of a model, and `evaluation_record` of them; or None and the loss and metrics of one
# that is no classifier of the zoo's kind.
Evaluation = tuple[Answers | None, dict[str, Any]]


def collect_answers(
    logits_of: Callable[[np.ndarray], np.ndarray], batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> Answers:
    """Ask a model about labeled examples, batch by batch; only the surest mistakes are kept.

    Args:
        logits_of: takes inputs of shape (batch, *input_shape), returns logits of shape
            (batch, classes).
        batches: of inputs and int labels of shape (batch,).
    """
    labels, answers, losses = [], [], []
    mistakes: list[tuple[float, int, Mistake]] = []
    count = 0
    for inputs, expected in batches:
        log_probabilities = log_softmax(np.asarray(logits_of(inputs), np.float64), axis=-1)
        answer = log_probabilities.argmax(-1)
        rows = np.arange(len(expected))
        for row in np.flatnonzero(answer != expected):
            probability = float(np.exp(log_probabilities[row, answer[row]]))
            index = count + int(row)
            example = None if isinstance(inputs, Mapping | tuple | list) else inputs[row]
            one = Mistake(index, int(expected[row]), int(answer[row]), probability, example)
            heapq.heappush(mistakes, (probability, -index, one))
            if len(mistakes) > MOST_MISTAKES:
                heapq.heappop(mistakes)
        labels.append(expected)
        answers.append(answer)
        losses.append(-log_probabilities[rows, expected])
        count += len(expected)
    surest = tuple(one for *_, one in sorted(mistakes, reverse=True))
    return Answers(*map(np.concatenate, (labels, answers, losses)), surest)


def evaluation_record(answers: Answers, class_names: Sequence[str], **about: Any) -> dict[str, Any]:
    """Return the numbers as JSON has them.

    Args:
        answers: of a model.
        class_names: one for each class, in order; answers beyond are called by their numbers.
        **about: what else the record is to say, such as `source` and `data`.

    Returns:
        `loss` and `accuracy` (means over the examples), `examples`, `classes` (by class: `name`,
        `precision`, `recall`, `f1`, `examples`; a precision without answers is null),
        `confusion` (rows: the true class, columns: the answer) and `mistakes`.
    """
    named = len(class_names)
    class_names = [*class_names, *map(str, range(named, int(answers.answers.max()) + 1))]
    classes = range(len(class_names))
    columns = precision_recall_fscore_support(
        answers.labels, answers.answers, labels=classes, zero_division=np.nan
    )
    return {
        **about,
        "examples": len(answers.labels),
        "loss": float(answers.losses.mean()),
        "accuracy": float((answers.labels == answers.answers).mean()),
        "classes": [
            {
                "name": name,
                "precision": _number(precision),
                "recall": _number(recall),
                "f1": _number(f1),
                "examples": int(examples),
            }
            for name, precision, recall, f1, examples in zip(class_names, *columns, strict=True)
        ],
        "confusion": confusion_matrix(answers.labels, answers.answers, labels=classes).tolist(),
        "mistakes": [
            {
                "index": one.index,
                "class": class_names[one.label],
                "answer": class_names[one.answer],
                "probability": round(one.probability, 6),
            }
            for one in answers.mistakes
        ],
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def check_folder(folder: Path) -> None:
    """Make sure that an evaluation can be written into a folder, before it is computed.

    Raises:
        InputError: it is or lies in a file, cannot be written, or holds something else.
    """
    is_new = not folder.exists()
    make_writable_folder(folder)
    if is_new:
        folder.rmdir()  # what fails from here on leaves no empty folder
    elif any(folder.iterdir()) and not (folder / "evaluation.json").exists():
        raise InputError(
            f"{folder}: expected a new folder or one of an evaluation, found other files in it. "
            "Choose another folder with --out."
        )


def write_evaluation(folder: Path, answers: Answers | None, record: dict[str, Any]) -> None:
    """Write `evaluation.json`, `evaluation.html` and the figures as PNG into a folder.

    Args:
        folder: made if missing.
        answers: of a model; None where it is no classifier.
        record: of `evaluation_record`; without answers its `metrics` are shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = evaluation_parts(folder, answers, record) if answers else {"record": record}
    page = render("evaluation.html.j2", evaluation=parts)
    write_atomically(folder / "evaluation.html", page)
    write_atomically(folder / "evaluation.json", json.dumps(record, indent=2) + "\n")


def evaluation_parts(folder: Path, answers: Answers, record: dict[str, Any]) -> dict[str, Any]:
    """Draw the confusion matrix and the surest mistakes, as PNG files and for a page.

    Returns:
        What `evaluation_parts.html.j2` shows: `record`, `rows` of the classes, `confusion` and
        `gallery` as `<svg>` elements; the last is empty where the inputs are no images, or nothing
        was wrong.
    """
    names = [one["name"] for one in record["classes"]]
    figure = drawn(draw_confusion, np.array(record["confusion"]), names)
    save(figure, folder, "confusion_matrix")
    parts = {"record": record, "rows": class_rows(record), "gallery": ""}
    parts["confusion"] = svg_text(figure, "confusion")
    if answers.mistakes and _is_image(answers.mistakes[0].example):
        figure = drawn(draw_gallery, answers.mistakes, names)
        save(figure, folder, "mistakes")
        parts["gallery"] = svg_text(figure, "mistakes")
    return parts


def class_rows(record: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """Return a table's rows: class, precision, recall, F1 and examples; the worst recall first."""
    worst_first = sorted(record["classes"], key=lambda one: (one["recall"] is None, one["recall"]))
    return [
        (
            one["name"],
            *(formatting.percent(one[key], 1) for key in ("precision", "recall", "f1")),
            f"{one['examples']:,}",
        )
        for one in worst_first
    ]


def draw_confusion(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draw how often each class (rows) was answered with each (columns).

    Args:
        counts: int array of shape (classes, classes).
        names: of the classes.
    """
    size = min(6.5, 1.2 + 0.31 * len(names))
    figure = Figure((max(4.5, size + 0.2), max(3.0, size)), layout="constrained")
    axes = figure.add_subplot()
    # The root lets rare mistakes show beside what is right.
    shares = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    # As a picture where there are many cells: each would be a path in the page.
    axes.pcolormesh(shares, cmap=COLORS, vmin=0, vmax=1, rasterized=len(names) > MOST_COUNTS)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    if len(names) <= MOST_COUNTS:
        for (row, column), count in np.ndenumerate(counts):
            color = "#111111" if shares[row, column] > 0.6 else "#fefefe"
            if count:
                place = {"ha": "center", "va": "center", "size": 7}
                axes.text(column + 0.5, row + 0.5, f"{count}", color=color, **place)
    step = -(-len(names) // (2 * MOST_COUNTS))  # of a thousand classes, some names
    ticks = range(0, len(names), step)
    labels = [shortened(names[tick], 14) for tick in ticks]
    places = [tick + 0.5 for tick in ticks]
    axes.set_xticks(places, labels, rotation=90 if max(map(len, labels)) > 2 else 0)
    axes.set_yticks(places, labels)
    axes.tick_params(length=0, labelsize=7 if len(names) > 12 else 8)
    axes.set_xlabel("answer of the model")
    axes.set_ylabel("true class")
    axes.spines[:].set_visible(False)
    axes.set_title("How often: lighter is a larger share of the class", loc="left")
    return figure


def draw_gallery(mistakes: Sequence[Mistake], names: Sequence[str]) -> Figure:
    """Draw the images that a model was surest about and wrong.

    Args:
        mistakes: whose examples have shape (height, width, 1 or 3).
        names: of the classes.
    """
    columns = 4
    rows = -(-len(mistakes) // columns)
    figure = Figure((4.5, 1.45 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    look = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
    for axes, one in zip(grid.flat, mistakes, strict=False):
        low, high = min(0.0, one.example.min()), max(1.0, one.example.max())
        axes.imshow(((one.example - low) / (high - low)).squeeze(), **look)
        axes.set_title(
            f"answer: {shortened(names[one.answer], 12)}, {100 * one.probability:.0f} %\n"
            f"true: {shortened(names[one.label], 16)}",
            size=7,
            weight="normal",
            color=INK,
            pad=3,
        )
    return figure


def _is_image(example: np.ndarray) -> bool:
    return getattr(example, "ndim", 0) == 3 and example.shape[-1] in (1, 3)
