"""The one exception for what a person typed wrong, and words for messages."""

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input: the message says what was received, what was expected and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def close_words(name: str, known: Iterable[str]) -> list[str]:
    """Return the at most three known words that are close to `name`, the closest first."""
    close = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    ratios = [difflib.SequenceMatcher(None, word, str(name)).ratio() for word in close]
    # Beside a near one, a far one only confuses: 'momentum', not 'implementation', for 'momentun'.
    return [word for word, ratio in zip(close, ratios, strict=True) if ratio > ratios[0] - 0.3]


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the known words close to `name`.

    Args:
        name: the word as the user typed it.
        known: the words that would have been accepted.

    Returns:
        `"Did you mean 'three_conv'?"`, or `""` when nothing is close.
    """
    close = close_words(name, known)
    return f"Did you mean {' or '.join(repr(word) for word in close)}?" if close else ""


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of what another library's error says, on one line, no full stop."""
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    # TensorFlow puts a traceback before what an operation says, and its node behind it.
    text = re.sub(r"(?s)^Graph execution error:.*\n(?=[^\n]+\n\s*\[\[\{\{node)", "", text)
    words = " ".join(re.sub(r"(?s)\s*\[\[\{\{node.*", "", text).split())
    words = re.sub(r"^Exception encountered when calling \S+ ", "", words)  # as Keras begins
    return re.split(r"\.(?: |$)", words)[0] or type(error).__name__


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: `1 seed`, `3 seeds`, `1,200 steps`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
