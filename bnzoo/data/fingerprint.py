"""Is this the data that a run began with? A checksum of what a source delivers."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bnzoo.data.examples import ArrayExamples, Examples, FileExamples
from bnzoo.data.source import Source


def fingerprint(source: Source) -> str:
    """Return 8 hexadecimal digits that differ, almost surely, for different data.

    They cover class names, labels and, for arrays, every value; for files that are decoded when
    they are needed, class, name and size; for streamed records the labels alone.
    """
    checksum = zlib.crc32("\n".join(source.class_names).encode())
    for examples in (source.train, source.test):
        for part in _parts(examples):
            checksum = zlib.crc32(part, checksum)
    return f"{checksum:08x}"


def _parts(examples: Examples) -> Iterator[bytes | memoryview]:
    yield np.ascontiguousarray(examples.labels).data.cast("B")
    if isinstance(examples, ArrayExamples):
        yield np.ascontiguousarray(examples.features.numpy()).reshape(-1).view(np.uint8).data
    elif isinstance(examples, FileExamples):
        for path in map(Path, examples.paths):
            yield f"{path.parent.name}/{path.name} {path.stat().st_size}".encode()
