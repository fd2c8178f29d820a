"""`diagnose`: what is wrong with the batch normalization of a saved model, and what repairs it."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnzoo.cli.app import command
from bnzoo.cli.options import DATA_HELP, BatchSize, CustomObjects, Json, ModelSource, NumSamples
from bnzoo.errors import InputError

if TYPE_CHECKING:
    import keras

    from bnzoo.diagnosis import Diagnosis
    from bnzoo.studies.model_data import TrainingData


@command("diagnose")
def diagnose(
    source: ModelSource,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help=DATA_HELP)] = None,
    num_samples: NumSamples = 4096,
    batch_size: BatchSize = None,
    page: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE.html", help="Write a page with figures too."),
    ] = None,
    custom_objects: CustomObjects = None,
    as_json: Json = False,
) -> dict[str, Any]:
    """Find what is wrong with the batch normalization of a saved model, and what repairs it.

    Without data, only the weights are looked at. With data, every layer is measured in training
    mode and in inference; labels and a compiled loss tell what each problem costs.
    """
    from bnzoo.files import no_empty_folder
    from bnzoo.quiet import start_tensorflow_quietly
    from bnzoo.reporting.diagnosis import check_page

    with no_empty_folder(page.parent if page else Path()):
        if page:
            check_page(page)
        start_tensorflow_quietly()
        found = _diagnosis(source, data, num_samples, batch_size, custom_objects)
        if page:
            found.save_html(page)
    print(found)
    if page:
        print(f"\n  page  {page}")
    return found.record


def _diagnosis(
    source: Path,
    data: str | None,
    num_samples: int,
    batch_size: int | None,
    custom_objects: Path | None,
) -> "Diagnosis":
    from bnzoo.cli.progress import ExampleProgress
    from bnzoo.diagnosis import diagnose
    from bnzoo.saving import custom_objects_of, load_model

    with custom_objects_of(custom_objects), ExampleProgress() as progress:
        model = load_model(source)
        given = _data(model, source, data, batch_size)
        batches = given.batches if given else None
        found = diagnose(model, batches, num_samples, progress=progress.show)
    named = [data] if data else [] if given else ["DATA"]
    options = {
        "--batch-size": batch_size,
        "--custom-objects": custom_objects,
        "--out": "recalibrated.keras",
    }
    named += [str(word) for pair in options.items() if pair[1] for word in pair]
    command = shlex.join(["bnzoo", "recalibrate", str(source), *named])
    return found.named(str(source), given.name if given else None, command)


def _data(
    model: "keras.Model", source: Path, data: str | None, batch_size: int | None
) -> "TrainingData | None":
    """Open what is named, or the data of a run; where these cannot be had, say so."""
    from bnzoo.layers.finding import batch_norm_layers
    from bnzoo.studies.model_data import training_data

    if not any(batch_norm_layers(model)) or not (data or source.is_dir()):
        return None
    try:
        return training_data(model, source, data, batch_size)
    except InputError as error:
        if data:
            raise
        print(f"Only the weights are looked at. {error}")
        return None
