"""Save models so that a crash leaves them whole, and load what was saved."""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import keras

# Keras finds the classes of other packages in a `.keras` file only once they have been imported.
import bnzoo.layers
import bnzoo.models  # noqa: F401
from bnzoo import own_code
from bnzoo.archives import archive_damage
from bnzoo.errors import InputError, first_sentence
from bnzoo.files import replaced
from bnzoo.runs import RunFolder, usable_run


def save_model(
    model: keras.Model, path: Path, finish: Callable[[Path], None] = lambda file: None
) -> None:
    """Save a `.keras` file so that a crash leaves the old file or the new one, never half.

    Args:
        model: the model.
        path: of the file.
        finish: called with the file before it has its name, to add to it.
    """
    with replaced(path) as temporary:
        model.save(temporary)
        finish(temporary)


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
    damage = None if path.suffix in (".h5", ".hdf5") else archive_damage(path)
    if damage:
        raise InputError(
            f"{path}: expected a whole model saved by Keras as .keras, got {damage}. "
            "Save it again with model.save('name.keras'), or name a run folder."
        )
    try:
        with dtype_policy(_policy_of(path)):
            return keras.saving.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # whatever a user's layer raises
        raise InputError(f"{path}: {_why(error)}") from error


def _policy_of(path: Path) -> str:
    """Return the policy to load a file under: a file does not say what the global one was."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if b'"mixed_float16"' in archive.read("config.json"):
                return "mixed_float16"
    return keras.config.dtype_policy().name


@contextmanager
def custom_objects_of(file: Path | None) -> Iterator[None]:
    """Let Keras know the classes and functions that a Python file defines, within a block.

    Args:
        file: is run, as if it were imported; None for none.

    Raises:
        InputError: there is no such file, or an error was raised in it, by importing it or, as the
            cause of an `InputError`, in the block: the line is named.
    """
    if file and (file.suffix != ".py" or not file.is_file()):
        raise InputError(
            f"{file}: expected a Python file that defines the layers of the model, found "
            f"{'another kind of file' if file.exists() else 'no such file'}. Check the path."
        )
    objects = own_code.objects_of(file) if file else {}
    with own_code.named([file] if file else []), keras.saving.custom_object_scope(objects):
        yield


def _why(error: Exception) -> str:
    """Tell why Keras could not load a model, and what to do."""
    missing = re.search(r"Could not locate (class|function) '([^']+)'", str(error))
    if missing:
        return (
            f"expected a model of known classes, got one with the {missing[1]} {missing[2]!r}. "
            "Name the file that defines it: --custom-objects my_layers.py; in Python, load it "
            "within keras.saving.custom_object_scope."
        )
    return (
        "expected a whole model saved by Keras as .keras; Keras says: "
        f"{first_sentence(error)}. Save it again with model.save('name.keras')."
    )
