"""What studies of the papers watch while the runs of a comparison train: `compare.study`.

Each study is one file with one class, a `Study`. To add one: its parameters in
`bnzoo/config/study.py`, its file here, and its line in `STUDIES`.
"""

from collections.abc import Sequence

from bnzoo.config import Config
from bnzoo.errors import InputError
from bnzoo.runs import PlannedRun
from bnzoo.studies.watching.activation_shift import ActivationShift
from bnzoo.studies.watching.callback import WatchTraining
from bnzoo.studies.watching.gradients import Gradients
from bnzoo.studies.watching.landscape import Landscape
from bnzoo.studies.watching.study import Study
from bnzoo.studies.watching.train_test_gap import TrainTestGap
from bnzoo.training import start_afresh
from bnzoo.training.building import build_for, load_data
from bnzoo.training.fit import Watch
from bnzoo.training.settings import run_settings

STUDIES: dict[str, type[Study]] = {
    "activation_shift": ActivationShift,
    "gradients": Gradients,
    "landscape": Landscape,
    "train_test_gap": TrainTestGap,
}


def study_of(config: Config) -> Study | None:
    """Return what a comparison watches; None if it is a plain one."""
    settings = config.compare.study
    return settings and STUDIES[settings.name](settings)


def watch_of(config: Config) -> Watch | None:
    """Return what makes the callback that watches a run; None where nothing is watched."""
    study = study_of(config)
    if study is None:
        return None
    return lambda model, splits, folder, epochs_done: WatchTraining(
        study, model, splits, folder, epochs_done
    )


def check_watched(config: Config, runs: Sequence[PlannedRun]) -> None:
    """Check, before anything runs, that a study can watch every variant.

    Args:
        config: of the study.
        runs: those that have not ended.

    Raises:
        InputError: a model lacks what is watched, or a run has begun without being watched.
    """
    study, checked = study_of(config), set()
    for run in runs if study else ():
        if run.folder.history() and not run.folder.watched_file.exists():
            raise InputError(
                f"{run.folder.path}: expected a run that was watched from its first step (study "
                f"{study.name}), got one that began without. Remove this folder and start again."
            )
        if run.variant in checked:
            continue
        checked.add(run.variant)
        start_afresh()
        with run_settings(run.config):
            splits = load_data(run.config)
            try:
                study.check(build_for(run.config, splits), splits, run.config.train)
            except InputError as error:
                raise InputError(f"compare.study {study.name}, {run.variant}: {error}") from None
