"""`models`, `datasets`, `configs`, `check`, `claims`: what there is, and if a config is right."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bnzoo.cli.app import BAD_INPUT, command
from bnzoo.cli.options import CONFIG_HELP, Json, Set, read_config
from bnzoo.errors import InputError, plural

PLACEMENTS = ("none", "before", "after")


LISTING_WIDTH = 140  # columns of text where there is no terminal


@command("models")
def list_models() -> None:
    """List the models that a config can name, with shapes and parameters as published.

    Below: measured accuracy with and without batch normalization, and trained weights.
    """
    from bnzoo.config.models import MODEL_SCHEMAS, model_parameters
    from bnzoo.config.own import OwnModel

    rows = [("model", "input", "outputs", "parameters", "")]
    for name, schema in MODEL_SCHEMAS.items():
        sizes = model_parameters(name).resolved()
        shape = " x ".join(map(str, sizes.input_shape))
        count = f"{schema.published_count:>10,}"
        rows.append((name, shape, str(sizes.classes or "-"), count, schema.headline()))
    _print_table([*rows, ("<file.py>:<function>", "any", "any", "", OwnModel.headline())])
    _print_accuracies()


def _print_accuracies() -> None:
    """Print what was measured on real data, and which trained models `build` gives."""
    from bnzoo.config.models.trained import measured_accuracies, weight_cards
    from bnzoo.reporting.formatting import percent_spread

    rows = [("model", "data", "without", "before", "after", "seeds", "weights")]
    for row in measured_accuracies():
        placements = [
            card["placement"]
            for card in weight_cards()
            if (card["model"], card["weights"]) == (row["model"], row["data"])
        ]
        spreads = (percent_spread(row["test_accuracy"][key], 1) for key in PLACEMENTS)
        seeds, weights = str(len(row["seeds"])), " and ".join(placements)
        rows.append((row["model"], row["data"], *spreads, seeds, weights))
    print("\nTest accuracy without batch normalization, with it before and after the activation:\n")
    _print_table(rows)
    print("\nWeights, by placement: bnzoo.models.build(model, placement, weights=data)")


@command("datasets")
def list_datasets() -> None:
    """List the data sets that a config can name."""
    from bnzoo.config.data import DATASETS

    _print_table(DATASETS.items())


@command("configs")
def list_configs(
    name: Annotated[str | None, typer.Argument(help="Print this starter config.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of all configs.")
    ] = False,
) -> None:
    """List the starter configs, or print one: bnzoo configs quickstart > mine.yaml.

    With a JSON Schema an editor completes keys, explains them and underlines mistakes:
    bnzoo configs --schema > bnzoo.schema.json, and as first line of a config
    # yaml-language-server: $schema=bnzoo.schema.json
    """
    from bnzoo.config import Config, starter_configs, starter_summary, starter_text

    if schema:
        import json

        print(json.dumps(Config.model_json_schema(), indent=2))
    elif name:
        print(starter_text(name), end="")
    else:
        _print_table((stem, starter_summary(path)) for stem, path in starter_configs().items())


@command("check")
def check(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help=CONFIG_HELP)],
    overrides: Set = None,
) -> None:
    """Check configs and report every problem; nothing is run."""
    bad = False
    for config in configs:
        try:
            read_config(config, overrides)
        except InputError as error:
            print(error)
            bad = True
    if bad:
        raise typer.Exit(BAD_INPUT)
    print(f"{plural(len(configs), 'config')} checked, no problems.")


@command("claims")
def list_claims(as_json: Json = False) -> dict[str, Any]:
    """Show what papers claim of batch normalization, and what came out here.

    Each is a config: bnzoo compare learning_rate --workers 2 runs it again.
    """
    from rich.console import Console
    from rich.table import Table

    from bnzoo.reporting.claims import claim_row, recorded_claims

    found = recorded_claims()
    table = Table(show_lines=True, expand=True)
    table.add_column("config", no_wrap=True)
    for heading, ratio in {"claim": 4, "published": 5, "measured": 6, "here": 2}.items():
        table.add_column(heading, ratio=ratio)
    for one in found:
        table.add_row(one["name"], *claim_row(one).values())
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = LISTING_WIDTH
    console.print(table)
    return {"claims": [{"name": one["name"], **one["summary"]["claim"]} for one in found]}


def _print_table(rows) -> None:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
