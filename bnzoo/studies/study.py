"""A study: each variant with each seed, then the numbers and the report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras

from bnzoo import data, own_code
from bnzoo.config import Config, variant_configs
from bnzoo.errors import InputError
from bnzoo.reporting import formatting
from bnzoo.reporting.classification import Evaluation
from bnzoo.reporting.report import write_study_report
from bnzoo.runs import RunFolder, StudyFolder
from bnzoo.studies.duration import measure_seconds
from bnzoo.studies.evaluation import evaluate_run
from bnzoo.studies.summary import summarize
from bnzoo.training import start_afresh, train, write_experiment
from bnzoo.training.fit import describe_splits

Announce = Callable[[str], None]


class _Run(NamedTuple):
    variant: str
    seed: int
    config: Config
    folder: RunFolder


def compare(
    config: Config,
    out: str | Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Announce = lambda line: None,
    begin_run: Callable[[int, int, str], None] = lambda position, total, label: None,
    name: str | None = None,
    command: str = "",
    write_report: Callable[[Path, dict[str, Any], Evaluation | None], None] = write_study_report,
) -> dict[str, Any]:
    """Run every variant of a config with every seed, and return the summary of the study.

    All variants are run with one seed before the next seed, so that a study that is cut off has
    pairs to compare. Keras' global state is cleared before each run: models made earlier in this
    process should be saved first.

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
        write_report: writes the report into the folder that it is given, from the summary and the
            evaluation of the best run, if there is one.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: there is nothing to compare, the folder holds something else, or data and model
            do not fit together.
        KeyboardInterrupt: again, after an interrupted study has been recorded.
    """
    config, folder = config.study(), StudyFolder(out)
    runs = [
        _Run(variant, seed, resolved, folder.run(variant, seed))
        for seed in config.compare.seeds
        for variant, resolved in variant_configs(config, seed).items()
    ]

    def record(status: str) -> dict[str, Any]:
        folder.write_summary(summarize(folder, config, status, name or folder.path.name, command))
        return folder.summary()

    with folder.held():
        _open(folder, config, runs, resume)
        try:
            _announce_time([run for run in runs if not run.folder.has_ended()], len(runs), announce)
            folder.claim(config)
            varied = [key for keys in config.compare.overrides().values() for key in keys]
            write_experiment(config, folder.tensorboard, [*varied, "seed"])
            _train_all(runs, callbacks, announce, begin_run)
        except BaseException:  # whatever stops a study, what it has found so far is kept
            if folder.config_file.exists():
                record("interrupted")
            raise
        summary = record("completed")
        write_report(folder.path, summary, _evaluate_best(folder, config))
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


def _open(folder: StudyFolder, config: Config, runs: list[_Run], resume: bool) -> None:
    """Check the study's folder, and those of its runs before any of them is touched."""
    if not resume:
        folder.start(config)
        return
    folder.resume(config)
    for run in runs:
        if run.folder.config_file.exists():
            run.folder.resume(run.config)
            if run.config.data.is_own:  # nothing else would notice where all runs have ended
                splits = data.load(**run.config.data.model_dump(), seed=run.seed)
                run.folder.check_data(describe_splits(splits))


def _announce_time(pending: list[_Run], total: int, announce: Announce) -> None:
    """Say how long the runs that have not ended will take, from a few steps of each variant."""
    if len(pending) < total:
        announce(f"{total - len(pending)} of {total} runs have ended already.")
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
    each = (f"{name} {formatting.duration(one)} an epoch" for name, one in epochs.items())
    announce(
        f"Estimate: {at_most}about {formatting.duration(total_seconds)} for "
        f"{formatting.plural(len(pending), 'run')} ({', '.join(each)})."
    )


def _train_all(
    runs: list[_Run],
    callbacks: Sequence[keras.callbacks.Callback],
    announce: Announce,
    begin_run: Callable[[int, int, str], None],
) -> None:
    """Run what has not ended."""
    described = set()
    code = {run.variant: own_code.digests(run.config.own_functions()) for run in runs}
    for position, run in enumerate(runs, start=1):
        if run.folder.has_ended():
            continue
        own_code.check_unchanged(code[run.variant], run.config.own_functions())
        begin_run(position, len(runs), formatting.run_name(run.variant, run.seed))
        start_afresh()
        # The runs of a variant differ by their seeds: one description is enough.
        say = announce if run.variant not in described else lambda line: None
        described.add(run.variant)
        train(run.config, run.folder.path, run.folder.config_file.exists(), callbacks, say)
    start_afresh()
