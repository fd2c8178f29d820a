"""Whether a `.keras` file is whole, as the archive that it is."""

import zipfile
import zlib
from pathlib import Path

from bnzoo.environment import memory_bytes
from bnzoo.files import MAX_TEXT


def archive_damage(path: Path) -> str | None:
    """Tell what is wrong with a `.keras` file before Keras reads it; None for nothing."""
    if path.suffix != ".keras" or not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            begins = file.read(4) == b"PK\3\4" and path.suffix == ".keras"
        return "one that is cut short" if begins else "a file that is none"
    try:
        with zipfile.ZipFile(path) as archive:
            if too_large := _too_large(archive.infolist()):
                return too_large
            part = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError):
        part = "an archive that cannot be read"
    return f"a damaged one ({part})" if part else None


def _too_large(members: list[zipfile.ZipInfo]) -> str | None:
    """Tell what would not fit into memory: a small file may hold a thousand times its size."""
    size = sum(member.file_size for member in members)
    if size > memory_bytes():
        return f"one of {size / 2**30:,.1f} GiB, more than the memory here"
    configs = (one.file_size for one in members if one.filename == "config.json")
    largest = max(configs, default=0)
    return f"a config.json of {largest:,} bytes" if largest > MAX_TEXT else None
