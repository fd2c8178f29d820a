"""Which models and versions there are below a folder, and those that are in memory."""

import asyncio
import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bnzoo.errors import InputError, first_sentence
from bnzoo.serving.layout import exported_models
from bnzoo.serving.server.limits import Refused
from bnzoo.serving.server.model import ServedModel

logger = logging.getLogger(__name__)

Load = Callable[[str, str, Path], ServedModel]


@dataclass
class Version:
    """A version of a model.

    Attributes:
        content: what its files looked like when it was loaded, None after it was unloaded.
        model: None if it could not be loaded.
        reason: why not.
    """

    content: tuple | None = None
    model: ServedModel | None = None
    reason: str = ""


class Repository:
    """Finds exports below one folder and keeps them in memory.

    A version is loaded and warmed up before it answers. One that cannot be loaded, such as a copy
    that is not complete yet, is tried again when its files have changed; the others are served
    meanwhile.

    Args:
        root: one exported model (with versions in it), one version, or a folder of models.
        load: makes a model of a name, a version and its folder.
    """

    def __init__(self, root: Path, load: Load):
        self._root, self._load, self._lock = root, load, asyncio.Lock()
        self._versions: dict[str, dict[str, Version]] = {}
        self._unloaded: set[str] = set()

    def get(self, name: str, version: str | None = None) -> tuple[str, ServedModel]:
        """Return a version and what answers for it; the newest that is loaded if none is named.

        Raises:
            Refused: with 404, there is none.
        """
        loaded = self.loaded(name)
        number = version or (loaded[-1] if loaded else None)
        if number not in loaded:
            what = f"model {name!r:.80}" + (f", version {version!r:.80}" if version else "")
            raise Refused(404, f"{what}: not served here. POST /v2/repository/index lists what is.")
        return number, self._versions[name][number].model

    def loaded(self, name: str | None = None) -> list[str]:
        """Return the versions of a model that are loaded, rising; or the names of such models."""
        if name is None:
            return [one for one in self._versions if self.loaded(one)]
        versions = self._versions.get(name, {})
        return [number for number, one in versions.items() if one.model]

    def index(self, only_ready: bool = False) -> list[dict[str, str]]:
        """Return every version, whether it is loaded, and if not why, as the protocol has it."""
        return [
            {
                "name": name,
                "version": number,
                "state": "READY" if one.model else "UNAVAILABLE",
                "reason": one.reason,
            }
            for name, versions in self._versions.items()
            for number, one in versions.items()
            if one.model or not only_ready
        ]

    async def watch(self, seconds: float) -> None:
        """Look for new and removed versions, again and again; 0: never."""
        told = ""
        while seconds:
            await asyncio.sleep(seconds)
            try:
                await self.scan()
                told = ""
            except Exception as error:  # whatever it is, what is loaded goes on
                if str(error) != told:  # not every few seconds
                    logger.error("%s: cannot be looked at: %s", self._root, error)
                told = str(error)

    async def scan(self) -> None:
        """Bring what is served in line with the folder."""
        async with self._lock:
            found = await asyncio.to_thread(self._found)
            before = self._models()
            for name in [name for name in self._versions if name not in found]:
                logger.info("%s: gone", name)
                del self._versions[name]
            for name, folders in found.items():
                if name not in self._unloaded:
                    await self._update(name, folders)
            if before - self._models():
                gc.collect()

    async def load(self, name: str) -> None:
        """Load what there is of a model now, also if it was unloaded.

        Raises:
            Refused: with 404, there is no such model; with 422, one of its versions cannot be
                loaded: the others are served.
        """
        self._unloaded.discard(name)
        await self.scan()
        failed = [one.reason for one in self._versions.get(name, {}).values() if one.reason]
        if failed:
            raise Refused(422, failed[-1])
        self.get(name)

    async def unload(self, name: str) -> None:
        """Serve a model no more, until it is loaded again.

        Raises:
            Refused: with 404, there is no such model.
        """
        async with self._lock:
            self.get(name)
            self._unloaded.add(name)
            unloaded = Version(reason="unloaded")
            self._versions[name] = dict.fromkeys(self._versions[name], unloaded)
            gc.collect()  # a model refers to itself, and such garbage is seldom looked for
        logger.info("%s: unloaded", name)

    def _found(self) -> dict[str, list[Path]]:
        self._root.stat()  # raises if it is not there, as when a network's disk is away
        return {_text(name): folders for name, folders in exported_models(self._root).items()}

    def _models(self) -> set[int]:
        return {id(one.model) for versions in self._versions.values() for one in versions.values()}

    async def _update(self, name: str, folders: list[Path]) -> None:
        old, new = self._versions.get(name, {}), {}
        for folder in folders:
            number, content = folder.name, await asyncio.to_thread(_content, folder)
            if number in old and old[number].content == content:
                new[number] = old[number]
            else:
                new[number] = await self._loaded(name, folder, content)
                if number in old and not new[number].model:
                    new[number].model = old[number].model
                    logger.error("%s, version %s: goes on as it was before", name, number)
        for number in old.keys() - new.keys():
            logger.info("%s, version %s: gone", name, number)
        self._versions[name] = new  # at once: requests see the old ones or the new ones

    async def _loaded(self, name: str, folder: Path, content: tuple) -> Version:
        version = Version(content)
        try:
            version.model = await asyncio.to_thread(self._load, name, folder.name, folder)
            logger.info("%s, version %s: loaded from %s", name, folder.name, folder.resolve())
        except Exception as error:  # TensorFlow has many, and the other versions are to be served
            is_told = isinstance(error, InputError | OSError)
            reason = error if is_told else f"{type(error).__name__}: {first_sentence(error)}"
            version.reason = _text(reason)
            logger.error("%s, version %s: not loaded: %s", name, folder.name, version.reason)
        return version


def _text(value: object) -> str:
    """Return text that answers can hold: names of files may be any bytes."""
    return str(value).encode(errors="replace").decode()


def _content(folder: Path) -> tuple[Any, ...]:
    """Return what tells a version from another in its place, or from itself once it is whole."""
    try:
        files = sorted(path for path in folder.resolve().rglob("*") if path.is_file())
        stats = [(str(path), path.stat()) for path in files]
    except OSError:  # files come and go, or may not be read: it is tried again once they may
        return ()
    return tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
