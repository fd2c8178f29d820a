"""`models`, `datasets`, `configs`, `check`: what there is, and whether a config is right."""

from pathlib import Path
from typing import Annotated

import typer

from bnzoo.cli.app import BAD_INPUT, command
from bnzoo.cli.options import CONFIG_HELP, Set, read_config
from bnzoo.errors import InputError, plural


@command("models")
def list_models() -> None:
    """List the models that a config can name."""
    from bnzoo.config.models import MODEL_SCHEMAS
    from bnzoo.config.own import OwnModel

    zoo = [(name, schema.headline()) for name, schema in MODEL_SCHEMAS.items()]
    _print_table([*zoo, ("<file.py>:<function>", OwnModel.headline())])


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


def _print_table(rows) -> None:
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        print(f"{name:<{width}}  {text}")
