"""`replace`, `fold`, `recalibrate`: a saved model in, one with other batch normalization out."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnzoo.cli.app import command
from bnzoo.cli.options import DATA_HELP, BatchSize, CustomObjects, Json, ModelSource, NumSamples
from bnzoo.errors import InputError, plural

if TYPE_CHECKING:
    import keras

Out = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="The new .keras file. None is overwritten.")
]


@command("replace")
def replace(
    source: ModelSource,
    out: Out,
    to: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="bnzoo, keras, group_norm (does not depend on the batch), or none (taken out).",
        ),
    ] = "bnzoo",
    momentum: Annotated[
        float | None, typer.Option(help="For bnzoo and keras: another momentum, from 0 to 1.")
    ] = None,
    virtual_batch_size: Annotated[
        int | None,
        typer.Option(metavar="N", help="For bnzoo: examples that are normalized together."),
    ] = None,
    synchronized: Annotated[
        bool, typer.Option("--synchronized", help="For bnzoo and keras: one batch of all replicas.")
    ] = False,
    groups: Annotated[
        int | None, typer.Option(metavar="N", help="For group_norm: groups of channels. [32]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="For keras: go on without what its layer lacks.")
    ] = False,
    custom_objects: CustomObjects = None,
    as_json: Json = False,
) -> dict[str, Any]:
    """Replace the batch normalization layers of a saved model by another kind.

    Weights stay; between bnzoo's and Keras' layers the state of the optimizer stays too. The other
    two kinds give a model that is not compiled, and answers rightly only once it is trained again.
    """
    given = {
        "momentum": momentum,
        "virtual_batch_size": virtual_batch_size,
        "synchronized": synchronized or None,
        "groups": groups,
    }
    arguments = {name: value for name, value in given.items() if value is not None}

    with _opened(source, out, custom_objects, compile=True) as model:
        from bnzoo.surgery import replace_batch_norm

        count = _count(model)
        kind = None if to == "none" else to
        _save(replace_batch_norm(model, kind, force=force, **arguments), out)
    print(f"Replaced {plural(count, 'layer')} of batch normalization by {to}: {out}")
    return {"file": str(out), "replaced": count, "to": to}


@command("fold")
def fold(
    source: ModelSource, out: Out, custom_objects: CustomObjects = None, as_json: Json = False
) -> dict[str, Any]:
    """Merge the batch normalization of a saved model into its neighbors, for inference.

    Layers that only training needs are left out too. `export` does the same by itself. It
    tells what is not merged, and why.
    """
    with _opened(source, out, custom_objects, compile=False) as model:
        from bnzoo.surgery import fold_batch_norm

        if not _count(model):
            raise InputError(f"{source}: found no batch normalization. There is nothing to fold.")
        folded, report = fold_batch_norm(model, report=True)
        left = _count(folded)
        count = _count(model) - left
        _save(folded, out)
    print(f"Folded {plural(count, 'layer')} of batch normalization: {out}")
    not_merged = {one.path: one.text for one in report if not one.merged}
    for path, text in not_merged.items():
        print(f"  {path}: {text}")
    return {"file": str(out), "folded": count, "left": left, "not_merged": not_merged}


@command("recalibrate")
def recalibrate(
    source: ModelSource,
    out: Out,
    data: Annotated[str | None, typer.Argument(metavar="DATA", help=DATA_HELP)] = None,
    num_samples: NumSamples = 4096,
    batch_size: BatchSize = None,
    layer_by_layer: Annotated[
        bool,
        typer.Option(
            "--layer-by-layer",
            help="Statistics of inference instead of training mode, in several passes.",
        ),
    ] = False,
    custom_objects: CustomObjects = None,
    as_json: Json = False,
) -> dict[str, Any]:
    """Replace the moving statistics of a saved model by those of data ("precise BN").

    Nothing is trained, and labels are not needed. `bnzoo diagnose` tells whether it helps.
    """
    with _opened(source, out, custom_objects, compile=True) as model:
        from bnzoo.cli.progress import ExampleProgress
        from bnzoo.studies.model_data import training_data
        from bnzoo.surgery import recalibrate as run
        from bnzoo.surgery.population import is_frozen, watchable_layers

        given = training_data(model, source, data, batch_size)
        with ExampleProgress() as progress:
            run(
                model,
                given.batches,
                num_samples,
                layer_by_layer=layer_by_layer,
                progress=lambda number, examples: progress.show(f"pass {number + 1}", examples),
            )
        _save(model, out)
        layers = watchable_layers(model)
        left = sum(map(is_frozen, layers))
        count = len(layers) - left
    examples = progress.examples
    print(f"Recalibrated {plural(count, 'layer')} of batch normalization: {out}")
    print(f"  data  {given.name}: {examples:,} examples")
    if left:
        print(f"  left as they are, frozen: {left}")
    return {
        "file": str(out),
        "recalibrated": count,
        "left": left,
        "data": given.name,
        "examples": examples,
    }


@contextlib.contextmanager
def _opened(
    source: Path, out: Path, custom_objects: Path | None, compile: bool
) -> Iterator["keras.Model"]:
    """Load a model, once it is sure that nothing stands where its successor is to be written."""
    if out.suffix != ".keras":
        raise InputError(f"--out: expected the name of a file that ends in .keras, got {out}.")
    if out.exists():
        raise InputError(f"{out}: exists already, and is not overwritten. Choose another --out.")
    from bnzoo.quiet import start_tensorflow_quietly

    start_tensorflow_quietly()
    from bnzoo.saving import custom_objects_of, load_model

    with custom_objects_of(custom_objects):
        yield load_model(source, compile)


def _count(model: "keras.Model") -> int:
    from bnzoo.layers.finding import batch_norm_layers
    from bnzoo.surgery.affine import is_batch_norm

    return sum(is_batch_norm(layer) for layer in batch_norm_layers(model))


def _save(model: "keras.Model", out: Path) -> None:
    from bnzoo.files import make_writable_folder
    from bnzoo.saving import save_model

    make_writable_folder(out.parent)
    save_model(model, out)
