"""`train`: one run, shown live."""

from pathlib import Path
from typing import Annotated

import typer

from bnzoo.cli.app import command
from bnzoo.cli.options import OUT_HELP, ConfigPath, Set, command_line, out_folder, read_config

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help=f"Folder of the run. {OUT_HELP}"),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Continue the run in --out at its last complete epoch.")
]


@command("train")
def train(
    config: ConfigPath,
    out: Out = None,
    overrides: Set = None,
    resume: Resume = False,
) -> None:
    """Train the model of a config and keep everything in a run folder."""
    # A study or a sweep is not run here: what --set does to it is no reason to refuse.
    checked = read_config(config, [*(overrides or []), "compare=null", "tune=null"])
    out = out_folder(config, out, resume)

    from bnzoo.data import check_available
    from bnzoo.quiet import start_tensorflow_quietly

    check_available(checked.data.name)
    start_tensorflow_quietly()
    from bnzoo.cli.interruption import Interruption
    from bnzoo.cli.progress import EpochProgress
    from bnzoo.runs import RunFolder
    from bnzoo.training import train as run

    with EpochProgress() as progress:
        callbacks = [Interruption(), progress]
        try:
            summary = run(checked, out, resume, callbacks, announce=progress.line)
        except KeyboardInterrupt:
            if RunFolder(out).config_file.exists():
                again = command_line("train", config, out, overrides)
                progress.line(f"Stopped. Continue with: {again} --resume")
            raise
    _report(summary, config, out)


def _report(summary: dict, config: Path, out: Path) -> None:
    if summary["status"] == "diverged":
        from bnzoo.reporting.formatting import divergence

        where = summary["diverged"]
        print(
            f"Diverged: {divergence(where)} at step {where['step']} "
            f"(epoch {where['epoch']}). Lower train.optimizer.learning_rate. History: {out}"
        )
        raise typer.Exit(1)
    test = summary["test"]
    print(f"Completed {summary['epochs']} epochs in {summary['seconds']:.1f} s.")
    print(f"  test accuracy  {test['accuracy']:.4f}")
    print(f"  test loss      {test['loss']:.4f}")
    print(f"  run folder     {out}")
    print(f"  next           bnzoo export {out} --out served/{out.name}")
