"""Ctrl-C, SIGTERM and SIGHUP stop a run, wherever they find it."""

import keras

from bnzoo.cli.signals import on_stop


class Interruption(keras.callbacks.Callback):
    """Turn these signals into one `KeyboardInterrupt`, and see to it that it arrives.

    Python raises it wherever the main thread happens to be, and an exception inside a destructor
    or a callback from C is swallowed; so the next batch looks whether one was asked for. A
    scheduler's SIGTERM is treated as Ctrl-C: the run is recorded and can be resumed.
    """

    def __init__(self):
        super().__init__()
        self._asked = False
        on_stop(self._ask)

    def _ask(self, number, frame):
        self._asked = True
        raise KeyboardInterrupt

    def _look(self):
        if self._asked:
            raise KeyboardInterrupt

    def on_train_batch_begin(self, batch, logs=None):
        """Stop before the next step."""
        self._look()

    def on_test_batch_begin(self, batch, logs=None):
        """Stop before the next step of a validation."""
        self._look()
