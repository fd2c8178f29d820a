"""What is wrong with the batch normalization of a model that has just been trained."""

from collections.abc import Callable
from typing import Any

import keras

from bnzoo.diagnosis import diagnose
from bnzoo.diagnosis.record import problem_lines
from bnzoo.errors import first_sentence
from bnzoo.layers.finding import batch_norm_layers

NUM_SAMPLES = 256
"""Training examples to look at: seconds beside a training, and enough for what matters."""


def find_problems(
    model: keras.Model, batches: Any, announce: Callable[[str], None], num_replicas: int = 1
) -> list[dict[str, str]]:
    """Diagnose a trained model on a few of its training examples.

    Args:
        model: compiled; it is left as it was.
        batches: of the training data.
        announce: called with the line that says why it could not be done: a training that has come
            to its end does not fail because of this.
        num_replicas: among which each batch was divided in training.

    Returns:
        Of each kind of finding of level `problem` its `kind`, its `title` and, in one `line`, what
        is wrong with the worst layer and what to do. Without batch normalization nothing is done.
    """
    if not any(batch_norm_layers(model)):
        return []
    try:
        problems = diagnose(model, batches, NUM_SAMPLES, num_replicas=num_replicas).problems
    except Exception as error:  # whatever a user's layer, data or loss raises
        announce(f"Batch normalization could not be diagnosed: {first_sentence(error)}.")
        return []
    worst = list({one.kind: one for one in reversed(problems)}.values())[::-1]
    return [
        {"kind": one.kind, "title": one.title, "line": line}
        for one, line in zip(worst, problem_lines(problems), strict=True)
    ]
