"""The signals that stop a command."""

import signal
from collections.abc import Callable


def on_stop(handler: Callable) -> None:
    """Call a handler for Ctrl-C, a scheduler's SIGTERM, and a terminal that is closed.

    Ctrl-C also in what a script started with `&`, where shells have it ignored; a closed terminal
    not where it is ignored, as `nohup` has it. Windows does not know that one.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up and signal.getsignal(hang_up) != signal.SIG_IGN:
        signal.signal(hang_up, handler)
