"""`train`: one run, shown live."""

from pathlib import Path
from typing import Any

from bnzoo.cli.app import command
from bnzoo.cli.options import ConfigPath, Json, Out, Resume, Set, begin, resumable
from bnzoo.errors import plural
from bnzoo.workers.cluster import cluster_for


@command("train")
def train(
    config: ConfigPath,
    out: Out = None,
    overrides: Set = None,
    resume: Resume = False,
    as_json: Json = False,
) -> dict[str, Any]:
    """Train the model of a config and keep everything in a run folder.

    Its model.keras, which is tested and exported, has the weights of the last epoch; with
    train.early_stopping those of the best epoch (unless restore_best_weights is false). The "best"
    of summary.json is the epoch with the highest val_accuracy (where no accuracy is measured, the
    lowest val_loss), for information only.
    """
    from bnzoo.quiet import start_tensorflow_quietly

    checked, out, again = begin("train", config, out, overrides, resume)
    cluster = cluster_for(checked.train.distribute)
    if cluster.num_workers > 1:
        print(f"Worker {cluster.worker} of {cluster.num_workers}: waiting for the others ...")
    start_tensorflow_quietly(compute=checked.train.distribute != "multi_worker")
    from bnzoo.cli.progress import EpochProgress, Interruption
    from bnzoo.runs import RunFolder
    from bnzoo.training import train as run

    if not cluster.is_chief:
        summary = run(checked, out, resume, [Interruption()])
        print(f"Worker {cluster.worker}: {summary['status']}; worker 0 has the rest in {out}.")
        return {"folder": str(out), **summary}
    with EpochProgress() as progress, resumable(RunFolder(out).config_file, again, progress.line):
        summary = run(checked, out, resume, [Interruption(), progress], progress.line)
    _report(summary, out)
    return {"folder": str(out), **summary}


def _report(summary: dict, out: Path) -> None:
    from bnzoo.runs import RunFolder

    if summary["status"] == "diverged":
        from bnzoo.reporting.formatting import divergence

        print(
            f"Diverged: {divergence(summary['diverged'])}. "
            f"Lower train.optimizer.learning_rate. History: {out}"
        )
        return
    test = summary["test"]
    print(f"Completed {plural(summary['epochs'], 'epoch')} in {summary['seconds']:.1f} s.")
    for name in sorted(test):  # the accuracy before the loss
        print(f"  {'test ' + name:<13}  {test[name]:.4f}")
    print(f"  run folder     {out}")
    if RunFolder(out).tensorboard.is_dir():
        print(f"  curves         tensorboard --logdir {out}")
    print(f"  next           bnzoo export {out} --out served/{out.name}")
