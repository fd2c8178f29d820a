"""The folder of a sweep: the only file that knows what lies where in it."""

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from bnzoo.config import Config, differences
from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder, write_atomically
from bnzoo.runs.folder import read_json, what_differs
from bnzoo.runs.folder_of_runs import FolderOfRuns
from bnzoo.runs.summaries import SweepSummary

Origin = dict[str, dict[str, Any]]


class SweepFolder(FolderOfRuns):
    """Reads and writes one sweep.

    `config.yaml` (resolved, with its `tune` section), `origin.json` (the data and the versions that
    it began with), `runs/<values>/seed-<n>/` (ordinary run folders), `oracle.json` (what the search
    knows), `trials.csv`, `summary.json`, `best.yaml`, `report.html`, `figures/`, and `logs/` with
    what chief and workers said.
    """

    kind, command, summary_schema = "sweep", "tune", SweepSummary

    def __init__(self, path: str | Path):
        super().__init__(path)
        self.origin_file = self.path / "origin.json"
        self.oracle_file = self.path / "oracle.json"
        self.trials_file = self.path / "trials.csv"
        self.best_file = self.path / "best.yaml"

    # --- opening ---------------------------------------------------------------------------------

    def check(self, config: Config, origin: Origin, resume: bool, fresh: bool) -> None:
        """Check that a sweep can be begun here, continued or begun afresh.

        Args:
            config: of the sweep.
            origin: the data and the versions of now.
            resume: continue the sweep that is here; for another number of trials, too.
            fresh: make room for a new one; `clear` then does.

        Raises:
            InputError: the folder cannot be used, or holds something else; what differs is named.
        """
        if not self.config_file.exists():
            (self.resume if resume else self.start)(config)
            return
        self._refuse_other_kind()
        if fresh:
            self._refuse_strangers(known=self._content())
            return
        changed = self._changed(config, origin, may_differ="tune.max_trials: ")
        if changed:
            raise InputError(
                f"{self.path}: holds a sweep of another space, data, code or version, which cannot "
                f"be continued, as results would not compare. {what_differs(changed)}"
                "Go back to what it holds, choose another folder with --out, or add --fresh, "
                "which removes it and starts over."
            )
        if not resume:
            state = "; ".join(
                [self.status() or "not finished", *differences(self.config(), config)]
            )
            raise InputError(
                f"{self.path}: already holds a sweep of this config ({state}). Add --resume to "
                "continue it with the runs that it has. Or choose another folder with --out, or "
                "add --fresh, which removes it and starts over."
            )

    def check_shared(self, config: Config, origin: Origin) -> None:
        """Check that a worker has the same sweep before it as its chief.

        Raises:
            InputError: the chief's folder is not here, or its sweep is another.
        """
        if not self.config_file.exists():
            raise InputError(
                f"{self.path}: expected the folder of the chief's sweep, found none. Chief and "
                "workers write into one folder: name it with --out, on a disk that they share."
            )
        changed = self._changed(config, origin)
        if changed:
            raise InputError(
                f"{self.path}: expected the sweep of the chief, got another. "
                f"{what_differs(changed)}"
                "Start the worker with the same command, data and versions as the chief."
            )

    def _changed(self, config: Config, origin: Origin, may_differ: str | tuple = ()) -> list[str]:
        self._refuse_other_kind()
        found = self.config()
        changed = [line for line in differences(found, config) if not line.startswith(may_differ)]
        paths, wanted = list(found.tune.space), list(config.tune.space)
        if not changed and paths != wanted:  # it decides the order of trials, and their names
            changed = [f"tune.space: {', '.join(paths)} there, {', '.join(wanted)} here"]
        if changed or not self.origin_file.exists():
            return changed
        before = self._origin()
        return [
            f"{part}.{key}: {before[part].get(key)} there, {now.get(key)} here"
            for part, now in origin.items()
            for key in before.get(part, {})  # an older version may have written fewer
            if before[part][key] != now.get(key)
        ]

    def _origin(self) -> Origin:
        try:
            found = read_json(self.origin_file)
            if not all(isinstance(part, dict) for part in (*found.values(), found.get("data"))):
                raise ValueError("expected mappings, data among them")
            # Sweeps of older versions say it in their runs only.
            for file in self.runs.glob("*/seed-*/data.json"):
                if known := read_json(file).get("preprocessing"):
                    found["data"].setdefault("preprocessing", known)
            return found
        except ValueError as error:
            raise InputError(
                f"{self.origin_file}: expected the data and versions of the sweep, got a corrupt "
                f"file ({error}). Add --fresh to start over, or choose another folder with --out."
            ) from None

    def _content(self) -> list[Path]:
        """Return all that a sweep may write, its configuration last."""
        return [
            self.runs,
            self.figures,
            self.tensorboard,
            self.logs,
            self.oracle_file,
            *self.path.glob(f"{self.oracle_file.name}.corrupt-*"),
            self.origin_file,
            self.trials_file,
            self.best_file,
            self.report_file,
            self.summary_file,
            self.config_file,
        ]

    def clear(self) -> None:
        """Remove the sweep that is here, if there is one, and nothing else."""
        if not self.config_file.exists():
            return
        for path in self._content():  # a sweep that is half removed is still a sweep
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def claim(self, config: Config, origin: Origin) -> None:
        """Write configuration and origin: from now on the folder is this sweep's."""
        make_writable_folder(self.path)
        super().claim(config)
        write_atomically(self.origin_file, json.dumps(origin, indent=2) + "\n")

    def corrupt_oracle(self, error: Exception) -> InputError:
        """Rename a corrupt `oracle.json`, so that it is neither lost nor read again.

        Args:
            error: what came of reading it.

        Returns:
            The error that says so.
        """
        names = (self.path / f"oracle.json.corrupt-{number}" for number in itertools.count(1))
        kept = next(name for name in names if not name.exists())
        self.oracle_file.rename(kept)
        return InputError(
            f"{self.oracle_file}: expected the state of a search, got a corrupt file "
            f"({type(error).__name__}: {error}). It is kept as {kept.name}. Add --resume to build "
            "the state again from the runs, which are not repeated, or --fresh to start over."
        )

    def _best(self, summary: dict[str, Any]) -> dict[str, Any] | None:
        return summary["best"]
