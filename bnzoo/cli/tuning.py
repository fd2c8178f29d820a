"""`tune`: a sweep over keys of a config, alone, as chief, as worker, or with workers of its own."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from bnzoo.cli.app import FAILED, command
from bnzoo.cli.options import (
    OUT_HELP,
    ConfigPath,
    Set,
    command_line,
    config_name,
    out_folder,
    read_config,
    resumable,
)
from bnzoo.errors import InputError
from bnzoo.quiet import start_tensorflow_quietly

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help=f"Folder of the sweep. {OUT_HELP}"),
]
Workers = Annotated[
    int, typer.Option("--workers", min=1, metavar="N", help="Processes that run trials.")
]
Wait = Annotated[
    float,
    typer.Option("--wait", min=1, metavar="SECONDS", help="How long a worker seeks its chief."),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Keep the runs in --out that have ended, continue the search."),
]
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
) -> None:
    """Search keys of a config for the best values, and write a report.

    On several machines: start the same command on each, on a shared disk, one with
    KERASTUNER_TUNER_ID=chief and the others with names of their own, all with
    KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT of the chief.
    """
    from bnzoo.tuning.workers import WorkerError, role_of

    # A study is not run here: what --set does to it is no reason to refuse.
    checked = read_config(config, [*(overrides or []), "compare=null"]).sweep()
    role = role_of()
    if role and config.is_dir() and out is None:
        raise InputError(
            "expected --out where CONFIG is a folder and KERASTUNER_TUNER_ID is set, got none. "
            "Name the same --out for the chief and its workers."
        )
    out = out_folder(config, out, resume)
    if resume and fresh:
        raise InputError("expected at most one of --resume and --fresh, got both. Leave one out.")
    if role and workers > 1:
        raise InputError(
            f"expected no --workers where KERASTUNER_TUNER_ID is {role.name!r}, got --workers "
            f"{workers}. Unset the variable, or start the workers by hand."
        )

    from bnzoo.data import check_available
    from bnzoo.runs import SweepFolder

    check_available(checked.data.name)
    if role and not role.is_chief:
        _work(checked, out, role, wait)
        return
    folder, again = SweepFolder(out), command_line("tune", config, out, overrides)
    arguments = {"resume": resume, "fresh": fresh, "name": config_name(config), "command": again}
    with resumable(folder.config_file, again, print):
        try:
            if workers > 1:
                words = [*shlex.split(again)[1:], "--wait", str(wait)]
                _run_with_workers(checked, folder, workers, words, wait, arguments)
            elif role:
                _run_as_chief(checked, folder, role, arguments)
            else:
                _run_alone(checked, folder, arguments)
        except WorkerError as error:
            print(f"bnzoo tune: {error}")
            raise typer.Exit(FAILED) from None
    _report(folder)


def _run_alone(checked, folder, arguments: dict[str, Any]) -> None:
    """Run all trials in this process."""
    start_tensorflow_quietly()
    from bnzoo.cli.progress import SweepProgress
    from bnzoo.tuning.sweep import tune as run

    with SweepProgress(checked) as progress:
        run(checked, folder.path, hooks=_hooks(progress), **arguments)


def _work(checked, out: Path, role, wait: float) -> None:
    """Run the trials of a chief that was started elsewhere."""
    from bnzoo.tuning.workers import stop_without_starter

    stop_without_starter()
    start_tensorflow_quietly()
    from bnzoo.cli.progress import SweepProgress
    from bnzoo.tuning.sweep import work

    with SweepProgress(checked) as progress:
        work(checked, out, role, wait, _hooks(progress))
    print("The chief has no more trials.")


def _hooks(progress):
    from bnzoo.cli.progress import Interruption
    from bnzoo.tuning.sweep import Hooks

    callbacks = [Interruption(), progress]
    return Hooks(callbacks, progress.line, progress.begin_trial, progress.end_trial)


def _run_as_chief(checked, folder, role, arguments: dict[str, Any]) -> None:
    """Give out trials to workers that were started elsewhere."""
    from bnzoo.cli.sweep_table import SweepTable

    start_tensorflow_quietly()
    from bnzoo.tuning.sweep import Hooks
    from bnzoo.tuning.sweep import tune as run

    with SweepTable(folder, checked) as table:
        hooks = Hooks(log=table.line)
        run(checked, folder.path, hooks=hooks, chief=role, poll=table.poll, **arguments)


def _run_with_workers(
    checked, folder, count: int, words: list[str], wait: float, arguments: dict[str, Any]
) -> None:
    """Start workers on this machine, and be their chief."""
    from bnzoo.cli.sweep_table import SweepTable
    from bnzoo.tuning.workers import WorkerPool

    with SweepTable(folder, checked) as table:
        table.line(f"Starting {count} workers ...")
        with WorkerPool(count, words, wait, folder.logs, table.line) as workers:
            start_tensorflow_quietly()
            from bnzoo.tuning.sweep import tune as run

            def poll() -> None:
                workers.poll()
                table.poll()

            run(checked, folder.path, workers=workers, poll=poll, **arguments)


def _report(folder) -> None:
    summary = folder.summary()
    print(summary["verdict"])
    if summary["best"]:
        print(f"  chosen by      {summary['chosen_by']}")
    print(f"  report         {folder.report_file}")
    if summary["best"]:
        print(f"  best           bnzoo train {folder.best_file}")
        print(f"  next           bnzoo export {folder.path} --out served/{folder.path.name}")
