"""Which models and versions there are: folders, looked at anew whenever MLServer asks."""

import asyncio
from pathlib import Path

from mlserver.errors import MLServerError, ModelNotFound
from mlserver.repository import ModelRepository
from mlserver.settings import ModelParameters, ModelSettings

from bnzoo.errors import InputError
from bnzoo.serving.layout import exported_models
from bnzoo.serving.server.loaded import LoadedExport, load_export

RUNTIME = "bnzoo.serving.server.runtime.ExportedModel"
Versions = list[ModelSettings]  # by a name of its own: the class has a method `list`

HOLD_SECONDS = 60.0
"""How long a version stays in memory for MLServer to take it."""


class ExportRepository(ModelRepository):
    """Finds exports below one folder for MLServer's repository API.

    `find`, which MLServer calls when a model is to be loaded, has its versions in memory before it
    returns. MLServer makes a new version the default as soon as it begins to load it; it would
    refuse the requests that come until then, were there anything left to wait for.

    Args:
        root: the folder.
        max_batch_size: see `ServerOptions`.
    """

    def __init__(self, root: str, max_batch_size: int = 1):
        self._root = Path(root)
        # Not MLServer's own setting of that name: with it requests would be joined unchecked.
        self._extra = {"max_batch_size": max_batch_size}
        self._held: dict[str, list[LoadedExport]] = {}

    async def list(self) -> Versions:
        """Return the settings of every version of every model."""
        models = exported_models(self._root)
        return [self._settings(name, path) for name, paths in models.items() for path in paths]

    async def find(self, name: str) -> Versions:
        """Return the settings of every version of a model, which are then in memory.

        Raises:
            MLServerError: there is no such model, or one of its versions cannot be loaded; what is
                served stays as it is.
        """
        settings = [one for one in await self.list() if one.name == name]
        if not settings:
            raise ModelNotFound(name)
        folders = [Path(one.parameters.uri) for one in settings]
        try:
            self._held[name] = await asyncio.to_thread(
                lambda: [load_export(folder) for folder in folders]
            )
            asyncio.get_running_loop().call_later(HOLD_SECONDS, self._held.pop, name, None)
        except InputError as error:
            raise MLServerError(str(error), status_code=422) from error
        return settings

    def _settings(self, name: str, folder: Path) -> ModelSettings:
        number = folder.resolve().name
        return ModelSettings(
            name=name,
            implementation=RUNTIME,
            platform="tensorflow_savedmodel",
            parameters=ModelParameters(uri=str(folder), version=number, extra=self._extra),
        )
