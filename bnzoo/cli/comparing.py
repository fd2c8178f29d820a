"""`compare`: a study, variants of a config against a baseline, over several seeds."""

from pathlib import Path
from typing import Any

from bnzoo.cli.app import command
from bnzoo.cli.options import (
    ConfigPath,
    Json,
    Out,
    Resume,
    Set,
    begin,
    config_name,
    print_wrapped,
    resumable,
)


@command("compare")
def compare(
    config: ConfigPath,
    out: Out = None,
    overrides: Set = None,
    resume: Resume = False,
    as_json: Json = False,
) -> dict[str, Any]:
    """Compare variants of a config over several seeds, and write a report."""
    from bnzoo.quiet import start_tensorflow_quietly

    checked, out, again = begin("compare", config, out, overrides, resume)
    start_tensorflow_quietly()
    from bnzoo.cli.progress import EpochProgress, Interruption
    from bnzoo.runs import StudyFolder
    from bnzoo.studies import compare as run

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
    return {"folder": str(out), **summary}


def _report(summary: dict, out: Path) -> None:
    from bnzoo.reporting.report import best_run_sentence
    from bnzoo.runs import StudyFolder

    print_wrapped(summary["verdict"])
    if best := best_run_sentence(summary):
        print_wrapped(f"  best run       {best}", indent=17)
    print(f"  report         {StudyFolder(out).report_file}")
    if StudyFolder(out).tensorboard.is_dir():
        print(f"  curves         tensorboard --logdir {out}")
    print(f"  next           bnzoo export {out} --out served/{out.name}")
