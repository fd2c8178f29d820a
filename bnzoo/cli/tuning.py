"""`tune`: a sweep over keys of a config, alone, as chief, as worker, or with workers of its own."""

import contextlib
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from bnzoo.cli.app import command
from bnzoo.cli.options import (
    ConfigPath,
    Json,
    Out,
    Resume,
    Set,
    Wait,
    Workers,
    begin,
    config_name,
    print_wrapped,
    resumable,
)
from bnzoo.errors import InputError
from bnzoo.quiet import start_tensorflow_quietly

Fresh = Annotated[
    bool, typer.Option("--fresh", help="Remove the sweep in --out and start it over.")
]


@command("tune")
def tune(
    config: ConfigPath,
    out: Out = None,
    overrides: Set = None,
    workers: Workers = 1,
    wait: Wait = 300.0,
    resume: Resume = False,
    fresh: Fresh = False,
    as_json: Json = False,
) -> dict[str, Any]:
    """Search keys of a config for the best values, and write a report.

    On several machines: start the same command on each, on a shared disk, one with
    KERASTUNER_TUNER_ID=chief and the others with names of their own, all with
    KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT of the chief.
    """
    from bnzoo.tuning.workers import role_of

    role = role_of()
    if role and config.is_dir() and out is None:
        raise InputError(
            "expected --out where CONFIG is a folder and KERASTUNER_TUNER_ID is set, got none. "
            "Name the same --out for the chief and its workers."
        )
    if resume and fresh:
        raise InputError("expected at most one of --resume and --fresh, got both. Leave one out.")
    if role and workers > 1:
        raise InputError(
            f"expected no --workers where KERASTUNER_TUNER_ID is {role.name!r}, got --workers "
            f"{workers}. Unset the variable, or start the workers by hand."
        )

    from bnzoo.runs import SweepFolder

    checked, out, again = begin("tune", config, out, overrides, resume)
    checked, folder = checked.sweep(), SweepFolder(out)
    if role and not role.is_chief:
        return _work(checked, out, role, wait)
    arguments = {"resume": resume, "fresh": fresh, "name": config_name(config), "command": again}
    with resumable(folder.config_file, again, print):
        if role or workers > 1:
            words = [*shlex.split(again)[1:], "--wait", str(wait)]
            _run_as_chief(checked, folder, role, workers, words, wait, arguments)
        else:
            _run_alone(checked, out, arguments)
    _report(folder)
    return {"folder": str(out), **folder.summary()}


@contextlib.contextmanager
def _shown(checked):
    """Start TensorFlow, and show the trials that this process runs; gives what is told of them."""
    start_tensorflow_quietly()
    from bnzoo.cli.progress import Interruption, SweepProgress
    from bnzoo.tuning.sweep import Hooks

    with SweepProgress(checked) as progress:
        callbacks = [Interruption(), progress]
        yield Hooks(callbacks, progress.line, progress.begin_trial, progress.end_trial)


def _run_alone(checked, out: Path, arguments: dict[str, Any]) -> None:
    """Run all trials in this process."""
    with _shown(checked) as hooks:
        from bnzoo.tuning.sweep import tune as run

        run(checked, out, hooks=hooks, **arguments)


def _work(checked, out: Path, role, wait: float) -> dict[str, Any]:
    """Run the trials of a chief that was started elsewhere."""
    from bnzoo.workers import stop_without_starter

    stop_without_starter()
    with _shown(checked) as hooks:
        from bnzoo.tuning.sweep import work

        work(checked, out, role, wait, hooks)
    print("The chief has no more trials.")
    return {"folder": str(out), "worker": role.name}


def _run_as_chief(
    checked, folder, role, count: int, words: list[str], wait: float, arguments: dict[str, Any]
) -> None:
    """Give out trials to workers that were started elsewhere, or else start some here."""
    from bnzoo.cli.sweep_table import SweepTable
    from bnzoo.tuning.workers import SweepWorkers

    with contextlib.ExitStack() as stack:
        table, workers = stack.enter_context(SweepTable(folder, checked)), None
        if not role:
            pool = SweepWorkers(count, words, wait, folder.logs, table.line)
            workers = stack.enter_context(pool)
        start_tensorflow_quietly()
        from bnzoo.tuning.sweep import Hooks
        from bnzoo.tuning.sweep import tune as run

        hooks = Hooks(log=table.line)
        arguments |= {"chief": role, "workers": workers, "poll": table.poll}
        run(checked, folder.path, hooks=hooks, **arguments)


def _report(folder) -> None:
    summary = folder.summary()
    print_wrapped(summary["verdict"])
    if summary["best"]:
        print_wrapped(f"  chosen by      {summary['chosen_by']}", indent=17)
    print(f"  report         {folder.report_file}")
    if folder.tensorboard.is_dir():
        print(f"  curves         tensorboard --logdir {folder.path}")
    if summary["importance"] and summary["importance"]["keys"]:
        print(f"  importance     {folder.figures / 'importance.png'}")
    if summary["best"]:
        print(f"  best           bnzoo train {folder.best_file}")
        print(f"  next           bnzoo export {folder.path} --out served/{folder.path.name}")
