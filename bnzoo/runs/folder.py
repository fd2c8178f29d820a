"""What the folders of runs, studies and sweeps have in common."""

import contextlib
import json
import os
import reprlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import filelock
import pydantic_core
from pydantic import BaseModel

from bnzoo.config import Config, differences, dump_config, load_resolved
from bnzoo.config.problems import check
from bnzoo.errors import InputError
from bnzoo.files import make_writable_folder, read_text, remove_partial, write_atomically


def what_differs(changed: Sequence[str]) -> str:
    """Return the lines of a message that name differences, one each."""
    return "\n".join(["What differs:", *(f"  {line}" for line in changed), ""])


def read_json(path: Path, schema: type[BaseModel] | None = None) -> Any:
    """Return what a JSON file of a folder holds.

    Args:
        path: of the file.
        schema: what of it is read; None takes any mapping.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is damaged, or lacks what is read.
    """
    try:
        tree = json.loads(read_text(path))
    except (RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected JSON, got a damaged file ({error}).") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected a mapping, got {reprlib.repr(tree)}.")
    if schema:
        try:
            check(schema, tree, str(path))
        except InputError as error:
            raise InputError(str(error).splitlines()[0]) from None
    return tree


class FolderHeld(InputError):
    """Another process is at work in the folder."""


class Folder:
    """Whose a folder is, and its summary."""

    kind: ClassVar[str]
    command: ClassVar[str]
    summary_schema: ClassVar[type[BaseModel]]

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.summary_file = self.path / "summary.json"
        self._lock_file = self.path / ".lock"  # there while a process is at work
        self._was_killed = False  # the last process that was at work

    # --- opening ---------------------------------------------------------------------------------

    def start(self, config: Config) -> None:
        """Check that a new run or study of `config` can be written here; `claim` then does.

        Raises:
            InputError: the folder cannot be made or written, or holds a run or other files.
        """
        make_writable_folder(self.path)
        if self.config_file.exists():
            self._refuse_other(config)
            raise InputError(
                f"{self.path}: already holds a {self.kind} of this config "
                f"({self.status() or 'not finished'}). Add --resume to continue it, or choose "
                "another folder with --out."
            )
        self._refuse_strangers()

    def _refuse_strangers(self, known: Collection[Path] = ()) -> None:
        # Hidden: what systems leave in every folder, and a kill in the middle of `claim` in this.
        found = (entry for entry in self.path.iterdir() if entry.name[0] != ".")
        strangers = sorted(entry.name for entry in found if entry not in known)
        if strangers:
            raise InputError(
                f"{self.path}: expected an empty or new folder, found {', '.join(strangers[:3])}"
                f"{' and more' if len(strangers) > 3 else ''}. Choose another folder with --out."
            )

    def claim(self, config: Config) -> None:
        """Write the resolved configuration: from now on the folder is this run's or study's."""
        write_atomically(self.config_file, dump_config(config))
        self.summary_file.unlink(missing_ok=True)  # of an interrupted one that goes on

    def resume(self, config: Config) -> None:
        """Check that the folder holds a run or study of `config` that can be continued.

        One whose process was killed before it had written anything begins.

        Raises:
            InputError: there is none, or it is another config's.
        """
        if self._holds_something():
            self._refuse_other(config)
        elif self._was_killed:
            self._refuse_strangers()
        else:
            raise InputError(
                f"{self.path}: nothing to resume: expected a {self.kind} folder with config.yaml. "
                f"Leave --resume out to start a new {self.kind}, or name the {self.kind}'s folder "
                "with --out."
            )

    def _holds_something(self) -> bool:
        return self.config_file.exists()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing here; a new folder in which nothing is left goes again.

        Raises:
            FolderHeld: another process holds it.
            InputError: it cannot be made or written.
        """
        self.refuse_links()
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        make_writable_folder(self.path)
        self._was_killed = self._lock_file.exists()
        try:
            # A moment longer than somebody's look whether it is held; a lock that a killed process
            # of another user has left can be taken, too.
            with filelock.FileLock(self._lock_file, timeout=0.5, mode=0o666):
                try:
                    remove_partial(self.path)
                    yield
                finally:
                    self._lock_file.unlink(missing_ok=True)
        except filelock.Timeout:
            raise FolderHeld(
                f"{self.path}: another process is at work in this folder. "
                "Wait until it has ended, or choose another folder with --out."
            ) from None
        except PermissionError as error:
            if error.filename != str(self._lock_file):
                raise
            raise InputError(
                f"{self._lock_file}: expected a lock that can be taken, got: {error.strerror}. "
                "Remove this file if no other process is at work in the folder."
            ) from None
        finally:
            for folder in made:
                with contextlib.suppress(OSError):  # something is in it
                    folder.rmdir()

    def refuse_links(self) -> None:
        """Make sure that what is written into the folder stays in it.

        Raises:
            InputError: a link in it leads out of it.
        """
        root = os.path.realpath(self.path)
        for place, folders, files in os.walk(self.path):
            for name in (*folders, *files):
                path = os.path.join(place, name)
                if not os.path.islink(path):
                    continue
                if os.path.commonpath([root, os.path.realpath(path)]) != root:
                    raise InputError(
                        f"{path}: expected what the {self.kind} wrote, got a link that leads out "
                        f"of {self.path}, where nothing is written. Put what it leads to in its "
                        "place, or remove it."
                    )

    def is_held(self) -> bool:
        """Tell whether another process is at work in the folder; nothing is left there for it."""
        if not self._lock_file.exists():
            return False
        try:
            with filelock.FileLock(self._lock_file, timeout=0):
                # Of a process that was killed; or has just ended, and then this look has made it.
                self._lock_file.unlink(missing_ok=True)
        except filelock.Timeout:
            return True
        except OSError:  # it is another user's, or the disk knows no locks
            return False
        return False

    def _refuse_other(self, config: Config) -> None:
        if not self.config_file.exists():
            return
        self._refuse_other_kind()
        # What is expected of a study changes none of its runs.
        found = differences(self.config(), config)
        changed = [line for line in found if not line.startswith("compare.claim")]
        if changed:
            raise InputError(
                f"{self.path}: holds a {self.kind} of another config. {what_differs(changed)}"
                "Choose another folder with --out, or run with the config it holds."
            )

    def _refuse_other_kind(self) -> None:
        kind = self.found_kind()
        if kind != self.kind:
            raise InputError(
                f"{self.path}: holds a {kind}, and a {self.kind} was to be written. "
                "Choose another folder with --out."
            )

    # --- reading and writing ---------------------------------------------------------------------

    def config(self) -> Config:
        """Return the resolved configuration."""
        return load_resolved(self.config_file)

    def found_kind(self) -> str:
        """Return what the folder holds by its configuration: a run, a study or a sweep."""
        found = self.config()
        return "sweep" if found.tune else "study" if found.compare else "run"

    def status(self) -> str | None:
        """Return the status of what has ended, one of `STATUSES`, else None."""
        try:
            return self.summary()["status"]
        except InputError:
            if self.summary_file.exists():
                raise
            return None  # or another process has just gone on with it

    def summary(self) -> dict[str, Any]:
        """Return the content of `summary.json`.

        Raises:
            InputError: there is none that can be read.
        """
        try:
            return read_json(self.summary_file, self.summary_schema)
        except (OSError, InputError) as error:
            said = str(error).removeprefix(f"{self.summary_file}: ").rstrip(".")
            raise InputError(
                f"{self.summary_file}: expected the summary of a {self.kind} that ended, got: "
                f"{said}. Finish the {self.kind} with `bnzoo {self.command} CONFIG --resume`."
            ) from None

    def completed_summary(self) -> dict[str, Any]:
        """Return the content of `summary.json` of what has completed.

        Raises:
            InputError: it has not.
        """
        summary = self.summary()
        if summary["status"] != "completed":
            raise InputError(
                f"{self.path}: expected a completed {self.kind}, got one that is "
                f"{summary['status']}. Finish it with `bnzoo {self.command} CONFIG --out "
                f"{self.path} --resume`."
            )
        return summary

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write `summary.json`; NaN and infinite numbers become null, as JSON has none."""
        text = pydantic_core.to_json(summary, indent=2, inf_nan_mode="null").decode()
        write_atomically(self.summary_file, text + "\n")
