"""SavedModels in memory: each is loaded once, warmed up, and let go when nobody serves it."""

import threading
import weakref
from pathlib import Path

import numpy as np
import tensorflow as tf

from bnzoo.serving.layout import GRAPH_FILE
from bnzoo.serving.saved_model import DECODE_BYTES, SERVING_DEFAULT, load_saved_model, read_metadata

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
