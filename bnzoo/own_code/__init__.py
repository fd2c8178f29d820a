"""Functions of the user's own: found without running them, called, named when they fail."""

from bnzoo.own_code.calling import call, load, named, objects, objects_of, running
from bnzoo.own_code.finding import (
    EXAMPLE,
    check,
    check_unchanged,
    digests,
    is_reference,
    remember,
    sources,
)

__all__ = [
    "EXAMPLE",
    "call",
    "check",
    "check_unchanged",
    "digests",
    "is_reference",
    "load",
    "named",
    "objects",
    "objects_of",
    "remember",
    "running",
    "sources",
]
