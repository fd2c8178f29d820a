"""`compare`: a study, variants of a config against a baseline, over several seeds."""

import shlex
import socket
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
from bnzoo.workers import WorkerPool, stop_without_starter

Join = Annotated[
    bool,
    typer.Option("--join", help="Take part in the study that another process has opened in --out."),
]


@command("compare")
def compare(
    config: ConfigPath,
    out: Out = None,
    overrides: Set = None,
    workers: Workers = 1,
    join: Join = False,
    wait: Wait = 300.0,
    resume: Resume = False,
    as_json: Json = False,
) -> dict[str, Any]:
    """Compare variants of a config over several seeds, and write a report.

    On several machines: start the same command on each, on a shared disk, with --join on all but
    one.
    """
    if join and resume:
        raise InputError(
            "expected at most one of --join and --resume, got both. Leave --resume to the process "
            "that opens the study."
        )
    from bnzoo.runs import StudyFolder

    checked, out, again = begin("compare", config, out, overrides, resume or join)
    checked, folder = checked.study(), StudyFolder(out)
    runs = folder.planned(checked)
    # A worker without a run would hold cores that the others can use.
    count = min(workers, sum(not run.folder.has_ended() for run in runs))
    words = [*shlex.split(again)[1:], "--join", "--wait", str(wait)]
    if join:
        _join(checked, folder, runs, count, words, wait)
        return {"folder": str(out)}
    arguments = {"resume": resume, "name": config_name(config), "command": again}
    if count > 1:
        _open(checked, folder, runs, count, words, arguments)
    else:
        _run_alone(checked, folder, arguments)
    _report(folder)
    return {"folder": str(out), **folder.summary()}


def _run_alone(checked, folder, arguments: dict[str, Any]) -> None:
    """Run in this process what nobody else has joined for."""
    start_tensorflow_quietly()
    from bnzoo.cli.progress import EpochProgress, Interruption
    from bnzoo.studies import compare as run

    command = arguments["command"]
    with EpochProgress() as progress, resumable(folder.config_file, command, progress.line):
        run(
            checked,
            folder.path,
            callbacks=[Interruption(), progress],
            announce=progress.line,
            begin_run=progress.begin_run,
            **arguments,
        )


def _open(checked, folder, runs, count: int, words: list[str], arguments: dict[str, Any]) -> None:
    """Open the study for workers of this machine and whoever joins, until all runs have ended."""
    from bnzoo.cli.study_progress import StudyProgress

    with (
        StudyProgress(runs) as progress,
        resumable(folder.config_file, arguments["command"], progress.line),
        WorkerPool(count, words, folder.logs, progress.line) as pool,
    ):
        start_tensorflow_quietly()
        from bnzoo.studies import compare as run

        run(checked, folder.path, workers=pool, poll=progress.poll, **arguments)


def _join(checked, folder, runs, count: int, words: list[str], wait: float) -> None:
    """Take part in a study that another process has opened, here or with workers."""
    if count > 1:
        from bnzoo.cli.study_progress import StudyProgress

        logs = folder.logs / socket.gethostname()  # those of the other machine have the same names
        with StudyProgress(runs) as progress, WorkerPool(count, words, logs, progress.line) as pool:
            pool.wait(progress.poll)
    else:
        stop_without_starter()
        start_tensorflow_quietly()
        from bnzoo.cli.progress import EpochProgress, Interruption
        from bnzoo.studies.running import join

        with EpochProgress() as progress:
            hooks = [Interruption(), progress]
            join(checked, folder.path, wait, hooks, progress.line, progress.begin_run)
    print("All runs of the study have ended.")


def _report(folder) -> None:
    from bnzoo.reporting.report import best_run_sentence

    summary, out = folder.summary(), folder.path
    print_wrapped(summary["verdict"])
    if best := best_run_sentence(summary):
        print_wrapped(f"  best run       {best}", indent=17)
    print(f"  report         {folder.report_file}")
    if folder.tensorboard.is_dir():
        print(f"  curves         tensorboard --logdir {out}")
    print(f"  next           bnzoo export {out} --out served/{out.name}")
