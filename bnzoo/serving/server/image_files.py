"""What encoded images cost to decode, read from their bytes, and what only adds to it.

A few kilobytes can take a minute, whatever number of pixels they announce: a JPEG of a thousand
scans, a PNG with compressed texts, or with compressed pixels that it does not have.
"""

import math
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"

SCANS = 16
"""Each is a pass over all pixels, and so many count as one: a progressive JPEG has 10, its preview
one more."""

MAX_SEGMENTS = 10_000
"""Parts of a file that are looked at: a photograph has hundreds at most."""

_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Chunks of a PNG that pixels come from. The others, such as texts, may be compressed too."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a PNG, by its color type."""

_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_ALONE = (0x01, *range(0xD0, 0xD8))
_BEFORE_SIZE = (0xC4, 0xCC, 0xDB, 0xDC, 0xDD, *range(0xE0, 0xF0), 0xFE)


@dataclass(frozen=True)
class ImageFile:
    """An encoded image.

    Attributes:
        contents: its bytes, without what its pixels do not need.
        width, height: in pixels.
        passes: how often its pixels are gone through to decode it.
    """

    contents: bytes
    width: int
    height: int
    passes: int = 1


def read_image_file(image: bytes) -> ImageFile:
    """Return what an encoded image announces.

    Raises:
        ValueError: it is no PNG or JPEG.
    """
    try:
        if image.startswith(_PNG):
            return _read_png(image)
        if image.startswith(_JPEG):
            return _read_jpeg(image)
    except struct.error:
        pass
    raise ValueError("expected a PNG or JPEG")


def inflates_too_far(contents: bytes) -> bool:
    """Tell whether a PNG holds far more compressed pixels than it has; False for other images."""
    if not contents.startswith(_PNG):
        return False
    width, height, depth, color = struct.unpack_from(">IIBB", contents, 16)
    row = 1 + math.ceil(width * depth * _CHANNELS.get(color, 4) / 8)
    limit = 2 * height * row + 2**16  # interlaced ones have more rows, of fewer pixels
    inflate, inflated = zlib.decompressobj(), 0
    for name, begin, end in _chunks(contents):
        if name == b"IDAT" and inflated <= limit:
            try:
                inflated += len(inflate.decompress(contents[begin:end], limit + 1 - inflated))
            except zlib.error:
                return False  # for the decoder to say
    return inflated > limit


def _read_png(image: bytes) -> ImageFile:
    if len(image) < 33 or image[8:16] != b"\0\0\0\rIHDR":
        raise ValueError("expected the size first, 13 bytes and what goes with them")
    kept = [_PNG]
    for name, begin, end in _chunks(image):
        if name in _NEEDED:
            kept.append(image[begin - 8 : end + 4])
    return ImageFile(b"".join(kept), *struct.unpack_from(">II", image, 16))


def _chunks(image: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk of a PNG, and where its data begins and ends."""
    begin = len(_PNG) + 8
    for _ in range(MAX_SEGMENTS):
        if begin > len(image):
            return
        size, name = struct.unpack_from(">I4s", image, begin - 8)
        yield name, begin, begin + size
        if name == b"IEND":
            return
        begin += size + 12
    raise ValueError("expected fewer chunks")


def _read_jpeg(image: bytes) -> ImageFile:
    # As libjpeg does: bytes between segments are passed over, unknown markers refused.
    place = len(_JPEG)
    for _ in range(MAX_SEGMENTS):
        found = _MARKER.search(image, place)
        if found is None:
            break
        marker, place = found[0][1], found.end()
        if marker in _BEFORE_SIZE:
            place += max(2, struct.unpack_from(">H", image, place)[0])
        elif 0xC0 <= marker <= 0xCF:
            height, width = struct.unpack_from(">HH", image, place + 3)
            scans = image.count(b"\xff\xda")
            return ImageFile(image, width, height, max(1, math.ceil(scans / SCANS)))
        elif marker not in _ALONE:
            break
    raise ValueError("expected the size of the image")
