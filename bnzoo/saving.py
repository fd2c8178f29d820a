"""Save models so that a crash leaves them whole, and load what was saved."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

# Keras finds the classes of other packages in a `.keras` file only once they have been imported.
import bnzoo.layers
import bnzoo.models  # noqa: F401
from bnzoo.errors import InputError
from bnzoo.files import replaced
from bnzoo.runs import RunFolder, usable_run


def save_model(model: keras.Model, path: Path) -> None:
    """Save a `.keras` file so that a crash leaves the old file or the new one, never half."""
    with replaced(path) as temporary:
        model.save(temporary)


def load_model(path: str | Path, compile: bool = True) -> keras.Model:
    """Load a model with bnzoo's classes known to Keras, safe mode on.

    Args:
        path: a saved `.keras` file, or the folder of a completed run; or of a completed study or
            sweep: then it is its best run (`StudyFolder.best_run` and `SweepFolder.best_run` say
            which one that is).
        compile: load optimizer, loss and metrics too, if they were saved.

    Returns:
        The model as it was saved.

    Raises:
        InputError: there is no such file, it is no model, or the run has none.
    """
    path = usable_run(path)
    if not path.is_dir():
        return load_keras_file(path, compile)
    folder = RunFolder(path)
    file = folder.usable_model()
    with dtype_policy(folder.config().train.precision):
        return load_keras_file(file, compile)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Set Keras' global dtype policy and put the old one back.

    A compiled model of mixed precision must be loaded under its own policy: under another, Keras
    leaves out the loss scaling and cannot read the optimizer's state.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def load_keras_file(path: Path, compile: bool = True) -> keras.Model:
    """Load one `.keras` file, safe mode on.

    Raises:
        InputError: as `load_model`.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: no such file or folder; expected a saved .keras file or a run folder."
        )
    is_keras = path.suffix == ".keras" and zipfile.is_zipfile(path)
    if not is_keras and path.suffix not in (".h5", ".hdf5"):
        raise InputError(
            f"{path}: expected a whole model saved by Keras as .keras, got a file that is none. "
            "Save it again with model.save('name.keras'), or name a run folder."
        )
    try:
        return keras.saving.load_model(path, compile=compile, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise InputError(
            f"{path}: expected a whole model saved by Keras as .keras; Keras says: "
            f"{_first_line(error)}. "
            "Save it again with model.save('name.keras')."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
