"""What is known of the zoo's models: measured accuracies, and the trained weights that ship.

Both are JSON that scripts write. No Keras here, so that `bnzoo models` is quick.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from bnzoo.config.loading import flat
from bnzoo.config.models import ModelParameters, model_parameters
from bnzoo.errors import InputError, nearest

MEASURED_FILE = Path(__file__).with_name("measured.json")
WEIGHTS_FOLDER = Path(__file__).parents[2] / "models" / "weights"


def measured_accuracies() -> list[dict[str, Any]]:
    """Return a row per recorded study: model, data, seeds, and test accuracy by placement."""
    return json.loads(MEASURED_FILE.read_text(encoding="utf-8"))


@cache
def weight_cards() -> tuple[dict[str, Any], ...]:
    """Return the cards of all trained models that ship, by name and placement.

    `scripts/make_weights.py` writes them: `model`, `weights` and `placement`, by which `build`
    finds one; `file` beside the card, its `sha256`; the whole `config` and the `command` of its
    run; `data` with input shape, class names, preprocessing, license and attribution; `test`.
    """
    files = sorted(WEIGHTS_FOLDER.glob("*.json"))
    return tuple(json.loads(file.read_text(encoding="utf-8")) for file in files)


def trained(given: ModelParameters, weights: str) -> tuple[ModelParameters, Path]:
    """Find the trained model that was asked for.

    Args:
        given: its name and placement; whatever else is set has to be as it was trained.
        weights: name of the weights: that of the data they were trained on.

    Returns:
        All parameters of the trained model, resolved, and the file of its weights.

    Raises:
        InputError: there are no such weights, or a parameter is not as it was trained.
    """
    placements = {
        card["placement"]: card
        for card in weight_cards()
        if (card["model"], card["weights"]) == (given.name, weights)
    }
    if not placements:
        raise InputError(_unknown(given.name, weights))
    if given.placement not in placements:
        raise InputError(
            f"{given.name}: weights {weights!r}: expected placement "
            f"{' or '.join(map(repr, placements))}, got {given.placement!r}. "
            "Choose one of these, or build without weights."
        )
    card = placements[given.placement]
    parameters = card_parameters(card)
    _check_same(given, parameters, weights)
    return parameters, WEIGHTS_FOLDER / card["file"]


def card_parameters(card: dict[str, Any]) -> ModelParameters:
    """Return the parameters of a card's model, with the sizes of the data it was trained on."""
    data = card["data"]
    shape, classes = tuple(data["input_shape"]), len(data["class_names"])
    return model_parameters(**card["config"]["model"]).resolved(shape, classes)


def _check_same(given: ModelParameters, parameters: ModelParameters, weights: str) -> None:
    """Refuse what is set otherwise than trained: the weights would not fit, or answer wrongly."""
    there, now = flat(parameters.model_dump()), flat(given.model_dump(exclude_unset=True))
    wrong = [key for key, value in now.items() if value != there.get(key)]
    if wrong:
        differences = "; ".join(f"{key} {there.get(key)!r}, got {now[key]!r}" for key in wrong)
        raise InputError(
            f"{given.name}: weights {weights!r} were trained with {differences}. Leave out what "
            "is to be as trained, or build without weights."
        )


def _unknown(name: str, weights: str) -> str:
    """Say that a model has no such weights, and which there are."""
    there = sorted({(card["model"], card["weights"]) for card in weight_cards()})
    known = ", ".join(f"{found!r} of {model}" for model, found in there)
    close = nearest(weights, [found for model, found in there if model == name])
    hint = f"{close} There are {known}.".strip()
    return f"{name}: expected the name of trained weights, got {weights!r}. {hint}"
