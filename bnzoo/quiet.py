"""TensorFlow without its start-up messages."""

import gc
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep what is written to file descriptor 2 to itself, unless the block fails."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        except BaseException:
            file.seek(0)
            os.write(kept, file.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def start_tensorflow_quietly() -> None:
    """Import TensorFlow and find its devices without the messages of its C++ side.

    TensorFlow 2.21 logs them before it reads `TF_CPP_MIN_LOG_LEVEL`, so that the variable alone no
    longer silences them. Where the user has set it, all is left as TensorFlow does it.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        import tensorflow  # noqa: F401
    else:
        _import_silenced()
    gc.freeze()  # or each run's garbage collection would look at all that was imported: 0.3 s


def _import_silenced() -> None:
    # Said of the runs of studies and sweeps, each of which is a new model and compiled once.
    logging.getLogger("tensorflow").addFilter(
        lambda record: "triggered tf.function retracing" not in record.getMessage()
    )
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _stderr_held_back():
        import tensorflow as tf

        tf.config.list_physical_devices()
        tf.constant(0.0)
