"""TensorFlow without its start-up messages, and processes without a word."""

import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator

from bnzoo.errors import InputError


def start_tensorflow_quietly(compute: bool = True) -> None:
    """Import TensorFlow and find its devices without the messages of its C++ side.

    TensorFlow 2.21 logs them before it reads `TF_CPP_MIN_LOG_LEVEL`, so that the variable alone no
    longer silences them. With a level of 0 the user asks for all of them.

    Args:
        compute: something, so that what it has to say is over. Not before it knows of others
            (`MultiWorkerMirroredStrategy`), which it then would not hear of any more.

    Raises:
        InputError: `KERAS_BACKEND` names a backend that bnzoo does not work on.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax"):
        raise InputError(
            f"KERAS_BACKEND: expected tensorflow or jax, got {backend!r}. Set it to one of them, "
            "or unset it for tensorflow."
        )
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        import tensorflow  # noqa: F401
    else:
        _import_silenced(compute)
    gc.freeze()  # or each run's garbage collection would look at all that was imported: 0.3 s


UNASKED = (
    # Said of the runs of studies and sweeps, each of which is a new model and compiled once.
    "triggered tf.function retracing",
    "not using nccl allreduce",  # of replicas on a CPU
)


def _import_silenced(compute: bool) -> None:
    logging.getLogger("tensorflow").addFilter(
        lambda record: not any(words in record.getMessage() for words in UNASKED)
    )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _silent_stderr():
        import tensorflow as tf

        tf.config.list_physical_devices()
        if compute:
            tf.constant(0.0)


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what is written to file descriptor 2: an error that matters is an exception."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def begin_helper() -> None:
    """Prepare a new process that helps another: silent, and gone when that one is.

    To be called before TensorFlow is imported, which then computes in one thread.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to every process of the terminal
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libjpeg complains there of damaged images
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
