"""A study: each variant with each seed, then the numbers and the report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from bnzoo import own_code
from bnzoo.config import Config
from bnzoo.errors import InputError
from bnzoo.reporting import formatting
from bnzoo.reporting.classification import Evaluation
from bnzoo.reporting.page import Picture
from bnzoo.reporting.report import write_study_report
from bnzoo.runs import PlannedRun, StudyFolder
from bnzoo.studies.duration import measure_seconds
from bnzoo.studies.evaluation import evaluate_run
from bnzoo.studies.running import Announce, BeginRun, check_resumable, train_all
from bnzoo.studies.summary import summarize
from bnzoo.studies.watching import check_watched, watch_of
from bnzoo.studies.watching.results import study_pictures
from bnzoo.training import start_afresh, write_experiment
from bnzoo.workers import WorkerPool

WriteReport = Callable[[Path, dict[str, Any], Evaluation | None, Sequence[Picture]], None]


def compare(
    config: Config,
    out: str | Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Announce = lambda line: None,
    begin_run: BeginRun = lambda position, total, label: None,
    name: str | None = None,
    command: str = "",
    write_report: WriteReport = write_study_report,
    workers: WorkerPool | None = None,
    poll: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run every variant of a config with every seed, and return the summary of the study.

    All variants are run with one seed before the next seed, so that a study that is cut off has
    pairs to compare. Runs that processes which joined are at work on are left to them. Keras'
    global state is cleared before each run: models made earlier in this process should be saved
    first.

    Args:
        config: the checked configuration, with a `compare` section.
        out: the study's folder; made if missing.
        resume: keep the runs in `out` that have ended, and continue the others.
        callbacks: more Keras callbacks for every run, such as a progress display.
        announce: called with lines that say what is about to happen.
        begin_run: called before each run with its position from 1, the number of runs and its
            label, such as `"before seed 1"`.
        name: what the study is called; by default as its folder.
        command: the command that runs it again, for the report.
        write_report: writes the report into the folder that it is given, from the summary, the
            evaluation of the best run, if there is one, and pictures of what the study watched.
        workers: processes that join the study and run it instead of this one.
        poll: called twice a second while they do.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: there is nothing to compare, the folder holds something else, data and model
            do not fit together, or a model lacks what the study watches.
        WorkerError: the work of a worker failed.
        KeyboardInterrupt: again, after an interrupted study has been recorded.
    """
    config, folder = config.study(), StudyFolder(out)
    runs = folder.planned(config)

    def record(status: str) -> dict[str, Any]:
        folder.write_summary(summarize(folder, config, status, name or folder.path.name, command))
        return folder.summary()

    with folder.held():
        if resume:
            check_resumable(folder, config, runs, announce)
        else:
            folder.start(config)
        try:
            check_watched(config, [run for run in runs if not run.folder.has_ended()])
            if not workers:  # or it would measure beside them, and on other cores
                _announce_time(runs, announce, config.compare.study is not None)
            folder.claim(config)
            varied = [key for keys in config.compare.overrides().values() for key in keys]
            write_experiment(config, folder.tensorboard, [*varied, "seed"])
            if workers:
                with workers:  # ended before the results are written
                    workers.wait(poll)
            else:
                train_all(runs, callbacks, announce, begin_run, watch=watch_of(config))
        except BaseException:  # whatever stops a study, what it has found so far is kept
            if folder.config_file.exists():
                record("interrupted")
            raise
        summary = record("completed")
        pictures = study_pictures(config, folder, summary)
        write_report(folder.path, summary, _evaluate_best(folder, config), pictures)
    return summary


def _evaluate_best(folder: StudyFolder, config: Config) -> Evaluation | None:
    """Return what the best run gets right and wrong; None if all diverged, or without classes."""
    if config.train.loss is not None:
        return None
    start_afresh()
    own = config.data.name if config.data.is_own else None
    try:
        with keras.saving.custom_object_scope(own_code.objects(config.own_functions())):
            return evaluate_run(folder.path, own)
    except InputError:
        return None


def _announce_time(runs: list[PlannedRun], announce: Announce, is_watched: bool) -> None:
    """Say how long the runs that have not ended will take, from a few steps of each variant."""
    pending = [run for run in runs if not run.folder.has_ended()]
    if len(pending) < len(runs):
        announce(f"{len(runs) - len(pending)} of {len(runs)} runs have ended already.")
    if not pending:
        return
    announce("Timing a few steps of each variant ...")
    starts, epochs, total_seconds = {}, {}, 0.0
    for run in pending:
        if run.variant not in epochs:
            start_afresh()
            starts[run.variant], epochs[run.variant] = measure_seconds(run.config)
        left = run.config.train.epochs - len(run.folder.history())
        total_seconds += starts[run.variant] + left * epochs[run.variant]
    at_most = "at most " if any(run.config.train.early_stopping for run in pending) else ""
    unwatched = ", without the time for what the study watches" if is_watched else ""
    each = (f"{name} {formatting.duration(one)} an epoch" for name, one in epochs.items())
    announce(
        f"Estimate: {at_most}about {formatting.duration(total_seconds)} for "
        f"{formatting.plural(len(pending), 'run')} ({', '.join(each)}){unwatched}."
    )
