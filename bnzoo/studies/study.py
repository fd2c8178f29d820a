"""A study: each variant with each seed, then the numbers and the report."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from bnzoo.config import Config, variant_configs
from bnzoo.errors import InputError
from bnzoo.reporting import formatting
from bnzoo.runs import RunFolder, StudyFolder
from bnzoo.studies.estimate import Pace, duration, measure_pace
from bnzoo.studies.summary import summarize
from bnzoo.training import start_afresh, train


def _say_nothing(line: str) -> None:
    pass


def _write_report(path: Path, summary: dict[str, Any]) -> None:
    from bnzoo.reporting.report import write_study_report

    write_study_report(path, summary)


def compare(
    config: Config,
    out: str | Path,
    resume: bool = False,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    announce: Callable[[str], None] = _say_nothing,
    begin_run: Callable[[int, int, str], None] = lambda position, total, label: None,
    name: str | None = None,
    command: str = "",
    write_report: Callable[[Path, dict[str, Any]], None] = _write_report,
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
        write_report: writes the report into the folder that it is given, from the summary.

    Returns:
        The content of `summary.json`.

    Raises:
        InputError: there is nothing to compare, the folder holds something else, or data and model
            do not fit together.
        KeyboardInterrupt: again, after an interrupted study has been recorded.
    """
    if config.compare is None:
        raise InputError(
            "compare: expected this section with the variants to compare, and it is missing. Add, "
            "for example, compare: {baseline: {model.placement: none}, variants: {before: "
            "{model.placement: before}}, seeds: [0, 1, 2]}."
        )
    config = config.study()
    study = _Study(config, StudyFolder(out), announce)
    study.open(resume)

    def record(status: str) -> dict[str, Any]:
        called = name or study.folder.path.name
        study.folder.write_summary(summarize(study.folder, config, status, called, command))
        return study.folder.summary()

    with study.folder.held():
        try:
            study.run(callbacks, begin_run)
        except BaseException:  # whatever stops a study, what it has found so far is kept
            if study.folder.config_file.exists():
                record("interrupted")
            raise
        summary = record("completed")
        write_report(study.folder.path, summary)
    return summary


class _Study:
    """The runs of a study in order, with their configurations and folders."""

    def __init__(self, config: Config, folder: StudyFolder, announce: Callable[[str], None]):
        self.config, self.folder, self.announce = config, folder, announce
        self.runs: list[tuple[str, int, Config, RunFolder]] = [
            (variant, seed, resolved, folder.run(variant, seed))
            for seed in config.compare.seeds
            for variant, resolved in variant_configs(config, seed).items()
        ]

    def open(self, resume: bool) -> None:
        """Check the study's folder, and those of its runs before any of them is touched."""
        if not resume:
            self.folder.start(self.config)
            return
        self.folder.resume(self.config)
        for _, _, resolved, run in self.runs:
            if run.config_file.exists():
                run.resume(resolved)

    def run(self, callbacks: Sequence[keras.callbacks.Callback], begin_run: Callable) -> None:
        """Estimate the time, claim the folder, and run what has not ended."""
        self._say_what_comes()
        self.folder.claim(self.config)
        described = set()
        for position, (variant, seed, resolved, run) in enumerate(self.runs, start=1):
            if run.has_ended():
                continue
            begin_run(position, len(self.runs), formatting.run_name(variant, seed))
            start_afresh()
            # The runs of a variant differ by their seeds: one description is enough.
            announce = _say_nothing if variant in described else self.announce
            described.add(variant)
            train(resolved, run.path, run.config_file.exists(), callbacks, announce)
        start_afresh()

    def _say_what_comes(self) -> None:
        pending = [run for run in self.runs if not run[3].has_ended()]
        done = len(self.runs) - len(pending)
        if done:
            self.announce(f"{done} of {len(self.runs)} runs have ended already.")
        if not pending:
            return
        self.announce("Timing a few steps of each variant ...")
        paces = {name: self._pace(name) for name in dict.fromkeys(run[0] for run in pending)}
        seconds = sum(
            paces[variant].seconds(resolved.train.epochs - len(run.history()))
            for variant, _, resolved, run in pending
        )
        at_most = "at most " if self._may_stop_early(pending) else ""
        self.announce(
            f"Estimate: {at_most}about {duration(seconds)} for {len(pending)} "
            f"run{'s' if len(pending) > 1 else ''} ("
            + ", ".join(f"{name} {duration(pace.epoch)} an epoch" for name, pace in paces.items())
            + ")."
        )

    def _pace(self, variant: str) -> Pace:
        start_afresh()
        return measure_pace(next(run[2] for run in self.runs if run[0] == variant))

    @staticmethod
    def _may_stop_early(pending: list) -> bool:
        return any(resolved.train.early_stopping for _, _, resolved, _ in pending)
