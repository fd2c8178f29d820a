"""What a sweep is doing, read from its folder: for whoever does not run the trials itself."""

import dataclasses

from bnzoo.config import Config, expected_trials
from bnzoo.errors import InputError
from bnzoo.runs import SweepFolder
from bnzoo.tuning.score import score_text
from bnzoo.tuning.trial import COMPLETED, RUNNING, Trial, TrialState, read_trials


@dataclasses.dataclass(frozen=True)
class Line:
    """One trial as a table shows it.

    Attributes:
        trial: the trial.
        worker: who runs it, or "" once it has ended.
        progress: the run and epoch that it has come to, or what it reached.
        has_ended: whether it has.
    """

    trial: Trial
    worker: str
    progress: str
    has_ended: bool


class Watcher:
    """Look at a sweep from outside.

    Args:
        folder: the sweep's.
        config: its configuration.
    """

    def __init__(self, folder: SweepFolder, config: Config):
        self._folder, self._config = folder, config
        self._objective, self.seeds = config.tune.objective, config.tune.seeds_from(config.seed)
        self.total = expected_trials(config)
        self._told: set[str] = set()
        self._read_at, self._states = None, []

    def lines(self) -> list[Line]:
        """Return the trials that have been started, in order."""
        return [self._line(state) for state in self._trials()]

    def news(self) -> list[str]:
        """Return a line of text for each trial that has ended since the last time."""
        ended = [line for line in self.lines() if line.has_ended]
        new = [line for line in ended if line.trial.number not in self._told]
        texts = []
        for line in new:
            self._told.add(line.trial.number)
            place = f"trial {len(self._told)}/{self.total}"
            texts.append(f"{place}  {line.trial.label}  {line.progress}")
        return texts

    def _trials(self) -> list[TrialState]:
        """Read the state when it has changed; it is written whole, so it can always be read."""
        try:
            written = self._folder.oracle_file.stat().st_mtime_ns
            if written != self._read_at:
                self._states = read_trials(self._folder, self._config)
                self._read_at = written
        except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
            pass  # not there yet, corrupt or of another space: whoever runs the search says so
        return self._states

    def _line(self, state: TrialState) -> Line:
        if state.status == COMPLETED:
            return Line(state.trial, "", score_text(state.score, self._objective), True)
        progress = self._progress(state.trial) if state.status == RUNNING else state.status.lower()
        return Line(state.trial, state.worker or "", progress, False)

    def _progress(self, trial: Trial) -> str:
        """Say which run of a trial is under way, and which epoch it has done."""
        for seed in self.seeds:
            run = self._folder.run(trial.name, seed)
            try:
                if run.has_ended():
                    continue
            except InputError:
                pass  # its summary is being written
            epochs = trial.epochs or self._config.train.epochs
            return f"seed {seed}, epoch {len(run.history())}/{epochs}"
        return "ending"
