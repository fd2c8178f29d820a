"""`tune`: a sweep over keys of a config, alone, as chief, as worker, or with workers of its own."""

import shutil
from pathlib import Path
from typing import Annotated, NoReturn

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
    from bnzoo.tuning.crew import stop_without_starter
    from bnzoo.tuning.roles import role_of

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

    check_available(checked.data.name)
    if role:
        stop_without_starter()
    again = command_line("tune", config, out, overrides)
    opening = [flag for flag, is_set in (("--resume", resume), ("--fresh", fresh)) if is_set]
    if workers > 1:
        _run_with_workers(checked, config, out, overrides, opening, workers, wait, again)
    elif role and not role.is_chief:
        _work(checked, out, role, wait)
        return
    else:
        _run(checked, config_name(config), out, resume, fresh, role, again)
    _report(out)


def _run(checked, name: str, out: Path, resume: bool, fresh: bool, chief, again: str) -> None:
    """Run a sweep in this process, or be the chief of others."""
    from bnzoo.quiet import start_tensorflow_quietly

    start_tensorflow_quietly()
    from bnzoo.cli.progress import Interruption, SweepProgress
    from bnzoo.cli.sweep_table import SweepTable
    from bnzoo.runs import SweepFolder
    from bnzoo.tuning.roles import CrewError
    from bnzoo.tuning.sweep import tune as run
    from bnzoo.tuning.watching import Watcher

    watcher = Watcher(SweepFolder(out), checked)
    ended = sum(line.has_ended for line in watcher.lines()) if resume else 0
    display = SweepTable(watcher) if chief else SweepProgress(checked, ended=ended)
    watching = (
        {"chief": chief, "look": display.look}
        if chief
        else {
            "callbacks": [Interruption(), display],
            "begin_run": display.begin_trial,
            "end_trial": display.end_trial,
        }
    )
    with display, resumable(SweepFolder(out).config_file, again, display.line):
        try:
            run(checked, out, resume, fresh, announce=display.line, name=name, command=again,
                **watching)  # fmt: skip
        except CrewError as error:
            _end_with(error, display.line)


def _work(checked, out: Path, role, wait: float) -> None:
    """Run the trials of a chief that was started elsewhere."""
    from bnzoo.quiet import start_tensorflow_quietly

    start_tensorflow_quietly()
    from bnzoo.cli.progress import Interruption, SweepProgress
    from bnzoo.tuning.sweep import work

    with SweepProgress(checked, is_alone=False) as progress:
        work(
            checked,
            out,
            role,
            wait,
            callbacks=[Interruption(), progress],
            announce=progress.line,
            begin_run=progress.begin_trial,
            end_trial=progress.end_trial,
        )
    print("The chief has no more trials.")


def _run_with_workers(
    checked, config: Path, out: Path, overrides, opening: list[str], workers: int, wait, again: str
) -> None:
    """Start a chief and workers on this machine, and show what they do. Starts no TensorFlow."""
    from bnzoo.cli.sweep_table import SweepTable
    from bnzoo.runs import SweepFolder
    from bnzoo.tuning.crew import run_crew
    from bnzoo.tuning.roles import CrewError
    from bnzoo.tuning.watching import Watcher

    folder = SweepFolder(out)

    def keep_logs(logs: Path) -> None:
        if folder.config_file.exists():
            shutil.copytree(logs, folder.logs, dirs_exist_ok=True)

    sets = [word for text in overrides or [] for word in ("--set", text)]
    arguments = ["tune", str(config), "--out", str(out), *sets, "--wait", str(wait)]
    table = SweepTable(Watcher(folder, checked))
    with table, resumable(folder.config_file, again, table.line):
        table.line(f"Starting a chief and {workers} workers ...")
        try:
            run_crew(workers, arguments, opening, keep_logs, table.line, table.look, wait)
        except CrewError as error:
            _end_with(error, table.line)


def _end_with(error: Exception, announce) -> NoReturn:
    announce(f"bnzoo tune: {error}")
    raise typer.Exit(FAILED)


def _report(out: Path) -> None:
    from bnzoo.runs import SweepFolder

    folder = SweepFolder(out)
    summary = folder.summary()
    print(summary["verdict"])
    print(f"  report         {folder.report_file}")
    if summary["best"]:
        print(f"  best           bnzoo train {folder.best_file}")
        print(f"  next           bnzoo export {out} --out served/{out.name}")
