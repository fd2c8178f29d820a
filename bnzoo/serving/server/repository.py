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
from bnzoo.serving.saved_model import DECODE_BYTES, SERVING_DEFAULT, load_saved_model, read_metadata

RUNTIME = "bnzoo.serving.server.runtime.ExportedModel"
Versions = list[ModelSettings]  # by a name of its own: the class has a method `list`

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
        self._model = load_saved_model(folder)  # signatures do not keep their variables alive
        self._serve = self._model.signatures[SERVING_DEFAULT]
        (self.input_spec,) = self._serve.structured_input_signature[1].values()
        outputs = self._serve.structured_outputs
        self.output_specs = {name: outputs[name] for name in sorted(outputs, key=_place)}
        self._decode = dict(self._model.signatures).get(DECODE_BYTES)
        self.takes_images = self._decode is not None
        self.class_names = read_metadata(folder).get("class_names")
        # The first call of a graph takes many times as long as the others.
        shape = [size or 1 for size in self.input_spec.shape]
        self.compute(np.zeros(shape, self.input_spec.dtype.as_numpy_dtype))

    def compute(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the answers to a batch of model inputs."""
        # Some of TensorFlow's fused kernels fail on no rows.
        rows = inputs if len(inputs) else np.zeros((1, *inputs.shape[1:]), inputs.dtype)
        answers = self._serve(**{self.input_spec.name: tf.constant(rows)})
        return {name: answers[name].numpy()[: len(inputs)] for name in self.output_specs}

    def decode(self, images: list[bytes]) -> np.ndarray:
        """Return the model inputs that encoded images make.

        Raises:
            tf.errors.InvalidArgumentError: one of them cannot be decoded.
        """
        return self._decode(image_bytes=tf.constant(images, tf.string))["inputs"].numpy()


def _place(name: str) -> tuple[int, str]:
    """Order outputs as they are documented: TensorFlow keeps them in no order."""
    known = ("logits", "probabilities", "class_id")
    return (known.index(name) if name in known else len(known)), name


def load_export(folder: Path) -> LoadedExport:
    """Load an export, or return the one that is in memory already.

    Raises:
        InputError: TensorFlow cannot load it.
    """
    graph = folder.resolve() / GRAPH_FILE
    key = (graph, graph.stat().st_mtime_ns)
    with _lock:
        export = _loaded.get(key)
        if export is None:
            export = _loaded[key] = LoadedExport(folder)
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
        self._root, self._max_batch_size = Path(root), max_batch_size

    async def list(self) -> Versions:
        """Return the settings of every version of every model."""
        models = exported_models(self._root)
        return [self._settings(name, path) for name, paths in models.items() for path in paths]

    async def find(self, name: str) -> Versions:
        """Return what `load` does.

        Raises:
            MLServerError: there is no such model, or one of its versions cannot be loaded; what is
                served stays as it is.
        """
        try:
            settings = await asyncio.to_thread(self.load, name)
        except (InputError, OSError) as error:
            raise MLServerError(str(error), status_code=422) from error
        if not settings:
            raise ModelNotFound(name)
        return settings

    def load(self, name: str) -> Versions:
        """Return the settings of every version of a model, each with its export in memory.

        Raises:
            InputError: one of them cannot be loaded.
        """
        folders = exported_models(self._root).get(name, [])
        return [self._settings(name, folder, load_export(folder)) for folder in folders]

    def _settings(
        self, name: str, folder: Path, export: LoadedExport | None = None
    ) -> ModelSettings:
        # Not MLServer's own setting of that name: with it requests would be joined unchecked.
        extra = {"max_batch_size": self._max_batch_size, "export": export}
        return ModelSettings(
            name=name,
            implementation=RUNTIME,
            platform="tensorflow_savedmodel",
            parameters=ModelParameters(uri=str(folder), version=folder.resolve().name, extra=extra),
        )
