"""Which models and versions there are, and those that are in memory.

Folders are looked at anew whenever MLServer asks. Each SavedModel is loaded once, warmed up, and
let go when nobody serves it.
"""

import asyncio
import threading
import weakref
from pathlib import Path

import numpy as np
import tensorflow as tf
from mlserver.errors import MLServerError, ModelNotFound
from mlserver.repository import ModelRepository
from mlserver.settings import ModelParameters, ModelSettings

from bnzoo.errors import InputError
from bnzoo.serving.layout import GRAPH_FILE, exported_models
from bnzoo.serving.saved_model import (
    DECODE_BYTES,
    SERVING_DEFAULT,
    load_saved_model,
    read_metadata,
)

RUNTIME = "bnzoo.serving.server.runtime.ExportedModel"
Versions = list[ModelSettings]  # by a name of its own: the class has a method `list`

HOLD_SECONDS = 60.0
"""How long a version stays in memory for MLServer to take it."""

_lock = threading.Lock()
_loaded: "weakref.WeakValueDictionary[tuple, LoadedExport]" = weakref.WeakValueDictionary()


class LoadedExport:
    """One version of an exported model, ready to compute.

    Attributes:
        input_spec: of `serving_default`: float tensor with an open batch.
        output_specs: of its outputs by name.
        takes_images: whether encoded images can be decoded.
        class_names: in the order of the labels, or None.
    """

    def __init__(self, folder: Path):
        loaded = load_saved_model(folder)
        serve = loaded.signatures[SERVING_DEFAULT]
        self._model = loaded  # signatures do not keep their variables alive
        self._serve = serve
        (self.input_spec,) = serve.structured_input_signature[1].values()
        outputs = serve.structured_outputs
        self.output_specs = {name: outputs[name] for name in sorted(outputs, key=_place)}
        self._decode = dict(loaded.signatures).get(DECODE_BYTES)
        self.takes_images = self._decode is not None
        self.class_names = read_metadata(folder).get("class_names")

    def compute(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the answers to a batch of model inputs."""
        answers = self._serve(**{self.input_spec.name: tf.constant(inputs)})
        return {name: answers[name].numpy() for name in self.output_specs}

    def answer_to_nothing(self) -> dict[str, np.ndarray]:
        """Return the answers to a batch of no rows."""
        return {
            name: np.zeros([size or 0 for size in spec.shape], spec.dtype.as_numpy_dtype)
            for name, spec in self.output_specs.items()
        }

    def decode(self, images: list[bytes]) -> np.ndarray:
        """Return the model inputs that encoded images make.

        Raises:
            tf.errors.InvalidArgumentError: one of them cannot be decoded.
        """
        return self._decode(image_bytes=tf.constant(images, tf.string))["inputs"].numpy()

    def warm_up(self) -> None:
        """Compute once: the first call of a graph takes many times as long as the others."""
        shape = [size or 1 for size in self.input_spec.shape]
        self.compute(np.zeros(shape, self.input_spec.dtype.as_numpy_dtype))


def _place(name: str) -> tuple[int, str]:
    """Order outputs as they are documented: TensorFlow keeps them in no order."""
    known = ("logits", "probabilities", "class_id")
    return (known.index(name) if name in known else len(known)), name


def load_export(folder: Path) -> LoadedExport:
    """Load an export, or return the one that is in memory already.

    Raises:
        InputError: TensorFlow cannot load it.
    """
    stamp = (folder / GRAPH_FILE).stat() if (folder / GRAPH_FILE).exists() else None
    key = (str(folder.resolve()), stamp and stamp.st_mtime_ns, stamp and stamp.st_ino)
    with _lock:
        export = _loaded.get(key)
        if export is None:
            export = LoadedExport(folder)
            export.warm_up()
            _loaded[key] = export
        return export


class ExportRepository(ModelRepository):
    """Finds exports below one folder for MLServer's repository API.

    `find`, which MLServer calls when a model is to be loaded, has its versions in memory before it
    returns. MLServer makes a new version the default as soon as it begins to load it; it would
    refuse the requests that come until then, were there anything left to wait for.

    Args:
        root: the folder.
        max_batch_size: see `run_server`.
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
