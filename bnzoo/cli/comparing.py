"""`compare`: a study, variants of a config against a baseline, over several seeds."""

from pathlib import Path
from typing import Annotated

import typer

from bnzoo.cli.app import command
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

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help=f"Folder of the study. {OUT_HELP}"),
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Keep the runs in --out that have ended, continue the others."),
]


@command("compare")
def compare(
    config: ConfigPath,
    out: Out = None,
    overrides: Set = None,
    resume: Resume = False,
) -> None:
    """Compare variants of a config over several seeds, and write a report."""
    # A sweep is not run here: what --set does to it is no reason to refuse.
    checked = read_config(config, [*(overrides or []), "tune=null"])
    out = out_folder(config, out, resume)

    from bnzoo.data import check_available
    from bnzoo.quiet import start_tensorflow_quietly

    check_available(checked.data.name)
    start_tensorflow_quietly()
    from bnzoo.cli.progress import EpochProgress, Interruption
    from bnzoo.runs import StudyFolder
    from bnzoo.studies import compare as run

    again = command_line("compare", config, out, overrides)
    with EpochProgress() as progress, resumable(StudyFolder(out).config_file, again, progress.line):
        summary = run(
            checked,
            out,
            resume,
            callbacks=[Interruption(), progress],
            announce=progress.line,
            begin_run=progress.begin_run,
            name=config_name(config),
            command=again,
        )
    _report(summary, out)


def _report(summary: dict, out: Path) -> None:
    from bnzoo.reporting.report import best_run_sentence
    from bnzoo.runs import StudyFolder

    for variant in summary["variants"].values():
        print(variant["verdict"])
    if best := best_run_sentence(summary):
        print(f"  best run       {best}")
    print(f"  report         {StudyFolder(out).report_file}")
    print(f"  next           bnzoo export {out} --out served/{out.name}")
