"""The configurations that come with bnzoo."""

from pathlib import Path

from bnzoo.errors import InputError, nearest

_PACKAGE = Path(__file__).parent.parent
# In the wheel they lie inside the package; in a checkout, at the top of the repository.
_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parent / "configs")


def starter_configs() -> dict[str, Path]:
    """Return the file of each starter configuration by name, sorted."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def starter_text(name: str) -> str:
    """Return the text of one starter configuration.

    Raises:
        InputError: there is none of that name.
    """
    known = starter_configs()
    if name not in known:
        raise InputError(
            f"No starter config named {name!r}; expected one of {', '.join(known)}. "
            f"{nearest(name, known)}".rstrip()
        )
    return known[name].read_text(encoding="utf-8")


def starter_summary(path: Path) -> str:
    """Return what a starter is about: its first comment line."""
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()
