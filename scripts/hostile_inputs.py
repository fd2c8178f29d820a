"""Hostile input for commands: configs, --set, arrays, image folders, models, folders of runs.

Each strategy draws an `Attack`: what is written into an empty folder, and the command that meets
it. What reaches for a pickle, or for code in a model, would make the folder `CODE_RAN`.
"""

import base64
import dataclasses
import io
import json
import marshal
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
from hostile import encoded, mutated, png_with_header
from hypothesis import strategies as st

CODE_RAN = "CODE_RAN"
"""Folder that a payload makes in the working directory."""

NAMES = (
    *("../outside", "/tmp/outside", "a/../../outside", "~/x", "~nobody-knows/x", "a\0b", "a\nb"),
    *("\x1b[31mred", "\ud800", "x" * 5000, "", " ", ".", "..", "/", "/dev/zero", "nul", "-x", "%s"),
    *(
        "folder:../outside",
        "npz:a\0b",
        "npz:" + "x" * 300,
        "folder:~nobody-knows/x",
        "npz:/dev/zero",
    ),
    *(
        "tfds:no_such_set",
        "tfds:../../x",
        "evil.py:run",
        "os:system",
        "os.path:join",
        "{0.__class__}",
    ),
)
YAML_TEXTS = (
    *(
        "!!python/object/apply:os.system ['true']",
        "!!int x",
        "!!float x",
        "!!binary '%'",
        "!!bool x",
    ),
    *("2020-13-45", "!!timestamp x", "!!set {a, b}", "!!omap [a: 1]", "&a [*a]", "*a", "<<: 1"),
    *(
        "9" * 5000,
        "0x" + "f" * 5000,
        "1e999",
        ".nan",
        "-.inf",
        "0o9",
        "1_000",
        "[" * 1200,
        "{a: " * 900,
    ),
    *(
        "{[a]: 1}",
        "{? {a: 1} : 2}",
        "{1: 2, null: 3}",
        '"\\ud800"',
        '"\\0"',
        "%YAML 9.9\n---\n1",
        "---\n---",
    ),
    *(
        "&a [1,1,1,1,1,1,1,1,1]",
        "\t",
        "'",
        "@",
        "`",
        "? ",
        "- - - -",
        "!<x> y",
        "%TAG ! x:\n---\n!y z",
    ),
)
BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
)
"""A billion entries in a few hundred bytes, if aliases are followed."""


@dataclasses.dataclass(frozen=True)
class Link:
    """A symbolic link, or without a target a pipe that nobody writes to."""

    target: str | None


@dataclasses.dataclass(frozen=True)
class Attack:
    """What is written, and the command that meets it.

    Attributes:
        kind: what it is an example of.
        arguments: of `bnzoo`.
        files: contents by path, relative to the working directory; None is an empty folder.
        may_write: folders, relative to it, into which the command may write.
    """

    kind: str
    arguments: tuple[str, ...]
    files: dict[str, bytes | Link | None] = dataclasses.field(repr=False)
    may_write: tuple[str, ...] = ("out",)


def write_files(folder: Path, files: dict[str, bytes | Link | None]) -> None:
    """Write the files of an attack; what the system cannot hold is left out."""
    for name, content in files.items():
        try:
            path = os.path.join(os.fsencode(folder), os.fsencode(name))
            os.makedirs(path if content is None else os.path.dirname(path), exist_ok=True)
            if isinstance(content, bytes):
                with open(path, "wb") as file:
                    file.write(content)
            elif isinstance(content, Link):
                os.symlink(content.target, path) if content.target else os.mkfifo(path)
        except (OSError, ValueError):
            continue


class _Payload:
    def __reduce__(self):
        return os.mkdir, (CODE_RAN,)


PICKLE = pickle.dumps(_Payload())

# --- values, and changes of what was right -------------------------------------------------------

TEXTS = st.sampled_from(NAMES) | st.text(max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-2, 3)
    | st.floats()
    | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def places(tree, path=()):
    """Yield the path of each value in nested mappings and lists."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def changed(draw, tree, values=VALUES, most=3):
    """Draw the tree with one to three values changed, taken out, added or moved."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw(st.integers(1, most))):
        found = list(places(tree))
        if not found:
            return draw(values)
        *way, key = draw(st.sampled_from(found))
        node = tree
        for step in way:
            node = node[step]
        match draw(st.integers(0, 5)):
            case 0:
                del node[key]
            case 1 if isinstance(node, dict):
                node[draw(TEXTS)] = draw(values)
            case 2 if isinstance(node, list):
                node.append(draw(values))
            case 3:
                other = tree
                for step in draw(st.sampled_from(list(places(tree)))):
                    other = other[step]
                node[key] = json.loads(json.dumps(other))
            case _:
                node[key] = draw(values)
    return tree


@st.composite
def changed_bytes(draw, data: bytes):
    """Draw bytes with some changed, cut off or put in."""
    return mutated(data, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))


@st.composite
def changed_json(draw, data: bytes):
    """Draw a JSON file that is another, or none."""
    hopeless = (b"", b"{", b"null", b"[]", b"{}", b"1", b"\xff\xfe", b"[" * 100_000, b"9" * 5000)
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.sampled_from(hopeless))
        case 1:
            return draw(changed_bytes(data))
        case _:
            return json.dumps(draw(changed(json.loads(data)))).encode()


# --- configs --------------------------------------------------------------------------------

CONFIGS = (
    {
        "seed": 0,
        "data": {"name": "digits", "batch_size": 256, "validation": 0.2},
        "model": {"name": "dense", "units": [4], "batch_norm": {"momentum": 0.9}},
        "train": {"epochs": 1, "optimizer": {"name": "adam", "learning_rate": 0.01}},
        "compare": {
            "baseline": {"model.placement": "none"},
            "variants": {"before": {"model.placement": "before"}},
            "seeds": [0, 1],
            "claim": "before < none in test_loss",
        },
    },
    {
        "data": {"name": "folder:images", "image_size": [8, 8], "view": "rows", "min_length": 2},
        "model": {"name": "conv1d", "placement": "after"},
        "train": {
            "early_stopping": {"monitor": "val_loss", "patience": 2},
            "schedule": {"name": "cosine"},
            "follow_weights": [{"layer": "a", "weight": "b", "index": [0]}],
        },
        "tune": {
            "algorithm": "random",
            "max_trials": 2,
            "objective": {"name": "val_loss", "direction": "min"},
            "space": {"train.optimizer.learning_rate": {"min": 1e-4, "max": 0.1, "scale": "log"}},
        },
    },
    {
        "data": {"name": "my_data.py:load", "params": {"size": 3}},
        "model": {"name": "my_data.py:build", "params": {"width": 2}},
        "train": {"loss": "my_data.py:loss", "metrics": ["mae"]},
    },
)
MY_CODE = (
    b"def load(size, seed=0): ...\n"
    b"def build(input_shape, classes, width): ...\n"
    b"def loss(a, b): ...\n"
)
CONFIG_KEYS = sorted({".".join(map(str, path)) for tree in CONFIGS for path in places(tree)})


@st.composite
def configs(draw):
    """Draw a config that `check` meets: a changed one, changed bytes, or hopeless YAML."""
    from bnzoo.config import as_yaml

    tree = draw(st.sampled_from(CONFIGS))
    match draw(st.integers(0, 9)):
        case 0:
            text = draw(st.binary(max_size=200))
        case 1:
            text = draw(changed_bytes(as_yaml(tree).encode()))
        case 2:
            key, value = draw(st.sampled_from(CONFIG_KEYS)), draw(st.sampled_from(YAML_TEXTS))
            text = f"{as_yaml(tree)}\n{key}: {value}".encode("utf-8", "surrogatepass")
        case 3:
            text = f"{BOMB}\ndata: {{name: *a9}}\nmodel: *a9".encode()
        case _:
            text = json.dumps(draw(changed(tree))).encode()  # JSON is YAML
    files = {"c.yaml": text, "my_data.py": draw(st.sampled_from((MY_CODE,) * 8 + HOSTILE_CODE))}
    return Attack("config", ("check", "c.yaml"), files)


HOSTILE_CODE = (
    b"import os\nos.mkdir('CODE_RAN')\ndef load(): ...\n",
    b"def load(x=__import__('os').mkdir('CODE_RAN')): ...",
    b"def load(x: __import__('os').mkdir('CODE_RAN')): ...",
    b"\0",
    b"\xff",
    b"# coding: no-such\n",
    b"(" * 5000,
    b"x = " + b"-" * 20000 + b"1",
    b"9" * 5000,
    b"def load(): return\n\tdef",
)


@st.composite
def overrides(draw):
    """Draw what --set is given, beside a good config."""
    from bnzoo.config import as_yaml

    words = []
    for _ in range(draw(st.integers(1, 3))):
        key = draw(st.sampled_from(CONFIG_KEYS) | TEXTS)
        value = draw(
            st.sampled_from(YAML_TEXTS)
            | TEXTS
            | VALUES.map(lambda value: json.dumps(value))
            | st.just(BOMB)
        )
        text = draw(st.sampled_from((f"{key}={value}",) * 6 + (key, value, f"={value}")))
        words += ["--set", text]
    text = as_yaml(draw(st.sampled_from(CONFIGS))).encode()
    return Attack("override", ("check", "c.yaml", *words), {"c.yaml": text, "my_data.py": MY_CODE})


# --- data --------------------------------------------------------------------------------

SMALL = """
data: {name: "%s", batch_size: 4, validation: none}
model: {name: dense, units: [4]}
train: {epochs: 1, tensorboard: false}
"""


def good_arrays() -> dict[str, np.ndarray]:
    """Return the arrays of a small data set."""
    images = np.arange(8 * 4 * 4, dtype=np.uint8).reshape(8, 4, 4, 1)
    labels = np.arange(8) % 2
    return {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}


def npy(array, allow_pickle=True) -> bytes:
    """Return a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npy_with_header(header: str, data: bytes = b"1234") -> bytes:
    """Return a .npy file of any header."""
    text = header.encode("latin-1", "replace")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def _header(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


HOSTILE_NPY = (
    b"",
    PICKLE,
    npy(np.array([_Payload()], object)),
    npy_with_header(_header("(100000000000,)")),
    npy_with_header(_header("(9223372036854775807, 9223372036854775807)")),
    npy_with_header(_header("(-1, 4, 4, 1)")),
    npy_with_header(_header("(8, 4, 4, 1)", "'|O'"), PICKLE),
    npy_with_header(_header("(8,)", "[('a', '|O')]"), PICKLE),
    npy_with_header(_header("(8,)", "'no'")),
    npy_with_header("__import__('os').mkdir('CODE_RAN')\n"),
    npy_with_header("(" * 5000),
    npy_with_header("{}"),
    npy(np.array("text")),
    npy(np.zeros((8, 4, 4, 1), "c16")),
    npy(np.zeros((8, 4, 4, 1), "M8[s]")),
    npy(np.zeros(8, [("a", "i4")])),
    npy(np.full((8, 4, 4, 1), np.nan)),
    npy(np.full((8, 4, 4, 1), 1e300)),
    npy(np.full(8, 2**63, "u8")),
    npy(np.full(8, -(2**63), "i8")),
    npy(np.zeros((0, 4, 4, 1), "u1")),
    npy(np.zeros((8, 0, 4, 1), "u1")),
    npy(np.zeros((8, 1, 1, 1, 1, 1, 1, 1, 1, 1), "u1")),
    npy(np.array(["a\0b", "../x"] * 4)),
    npy(np.array([b"\xff", b"b"] * 4)),
)


@st.composite
def archives(draw):
    """Draw an npz file that `train` meets."""
    members = {f"{name}.npy": npy(value) for name, value in good_arrays().items()}
    for _ in range(draw(st.integers(1, 2))):
        name = draw(
            st.sampled_from([*members, "class_names.npy", "../x_train.npy", "/tmp/outside.npy"])
        )
        good = members.get(name, npy(np.array(["a", "b"])))
        members[name] = draw(
            st.sampled_from(HOSTILE_NPY)
            | changed_bytes(good)
            | st.builds(npy, st.builds(np.array, st.lists(SCALARS, max_size=8).map(_as_objects)))
        )
    data = zipped(
        list(members.items()), draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    )
    if draw(st.integers(0, 5)) == 0:
        data = draw(
            changed_bytes(data) | st.sampled_from([b"", PICKLE, npy(np.zeros(3)), b"PK\3\4"])
        )
    return _trained("npz", "npz:data.npz", {"data.npz": data})


def _as_objects(values: list) -> np.ndarray:
    return np.array([*values, None], object)[:-1]


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return a zip archive; a name may be there twice."""
    import warnings

    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def _trained(kind: str, name: str, files: dict) -> Attack:
    return Attack(
        kind, ("train", "c.yaml", "--out", "out"), files | {"c.yaml": (SMALL % name).encode()}
    )


IMAGES = (
    b"",
    b"no image",
    encoded("PNG", (6, 6)),
    encoded("PNG", (6, 6), "L"),
    encoded("PNG", (6, 6), "RGBA"),
    encoded("PNG", (6, 6), "LA"),
    encoded("JPEG", (6, 6)),
    encoded("GIF", (6, 6), "L"),
    encoded("BMP", (6, 6)),
    encoded("PNG", (2, 900)),
    png_with_header(100_000, 100_000),
    png_with_header(2**31 - 1, 1),
    png_with_header(0, 0),
    Link("../../../c.yaml"),
    Link("/dev/zero"),
    Link("itself"),
    Link(None),
    None,
)


@st.composite
def image_folders(draw):
    """Draw a folder of images that `train` meets."""
    good, files = encoded("PNG", (6, 6)), {}
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(2):
                files[f"images/{split}/{name}/{number}.png"] = good
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(list(files)))
        match draw(st.integers(0, 4)):
            case 0:
                files.pop(name)
            case 1:
                files[name] = draw(changed_bytes(good))
            case 2:
                parent = name.rpartition("/")[0]
                files[f"{parent}/{draw(TEXTS)}.png"] = draw(st.sampled_from(IMAGES))
            case 3:
                split = name.split("/")[1]
                other = draw(TEXTS)
                files[f"images/{split}/{other}/0.png"] = good
            case _:
                files[name] = draw(st.sampled_from(IMAGES))
        files = files or {"images": None}
    attack = _trained("image folder", "folder:images", files)
    more = {
        0: (),
        1: ("--set", "data.skip_unreadable=true"),
        2: ("--set", "data.image_size=[5, 5]", "--set", "data.color_mode=rgb"),
    }
    return dataclasses.replace(
        attack, arguments=(*attack.arguments, *more[draw(st.integers(0, 2))])
    )


# --- models --------------------------------------------------------------------------------


def _code_of_lambda() -> str:
    source = "lambda x: (__import__('os').mkdir('CODE_RAN'), x)[1]"
    return base64.b64encode(marshal.dumps(eval(source).__code__)).decode()


def _function(module: str, name: str) -> dict:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


LAMBDA = {
    "module": "keras.layers",
    "class_name": "Lambda",
    "config": {
        "name": "evil",
        "function": {
            "class_name": "__lambda__",
            "config": {"code": _code_of_lambda(), "defaults": None, "closure": None},
        },
    },
    "registered_name": None,
}
NODES = (
    LAMBDA,
    LAMBDA["config"]["function"],
    _function("os", "mkdir"),
    _function("builtins", "exec"),
    _function("builtins", "eval"),
    _function("subprocess", "run"),
    _function("evil", "run"),
    _function("keras.utils", "get_file"),
    _function("keras.models", "load_model"),
    _function("keras.src.saving.saving_lib", "load_model"),
    {"module": "evil", "class_name": "Evil", "config": {}, "registered_name": "evil>Evil"},
    {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "../outside"}},
    {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"vocabulary": "/etc/passwd"},
    },
    {"class_name": "__numpy__", "config": {"value": [[1]], "dtype": "object"}},
    {"class_name": "__bytes__", "config": {"value": "x"}},
    {"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []},
)
NPZ_NAMES = ("__root__", "layers/dense", "layers/batch_normalization", "optimizer")
TREE_VALUES = VALUES | st.sampled_from(NODES)
EVIL = b"import os\nos.mkdir('CODE_RAN')\ndef run(*arguments, **more): ...\nclass Evil: ...\n"


@st.composite
def changed_model(draw, data: bytes):
    """Draw a `.keras` file that is another than the given one, or none."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    weights = "model.weights.h5"
    match draw(st.integers(0, 9)):
        case 0:
            return draw(changed_bytes(data) | st.sampled_from([b"", b"PK\3\4", PICKLE]))
        case 1:
            members[weights] = draw(
                changed_bytes(members[weights]) | st.sampled_from([b"", PICKLE])
            )
        case 2:
            del members[draw(st.sampled_from(list(members)))]
        case 3:
            del members[weights]
            arrays = {f"{name}.npy": draw(st.sampled_from(HOSTILE_NPY)) for name in NPZ_NAMES}
            members["model.weights.npz"] = zipped(list(arrays.items()))
        case 4:
            name = draw(st.sampled_from(["../outside", "/tmp/outside", "a/../../outside"]) | TEXTS)
            members |= {name or "a": b"evil", "assets/a": b"", "assets/../../outside": b"evil"}
        case 5:
            members["metadata.json"] = draw(changed_json(members["metadata.json"]))
        case 6:
            members["config.json"] = draw(changed_json(members["config.json"]))
        case _:
            tree = draw(changed(json.loads(members["config.json"]), TREE_VALUES))
            members["config.json"] = json.dumps(tree).encode()
    return zipped(list(members.items()))


# --- folders of runs -----------------------------------------------------------------------------

READERS = {
    "export": ("export", "SOURCE", "--out", "out/m"),
    "diagnose": ("diagnose", "SOURCE"),
    "evaluate": ("evaluate", "SOURCE", "--out", "out/page"),
    "evaluate into the folder": ("evaluate", "SOURCE"),
    "runs": ("runs", "."),
    "train --resume": ("train", "SOURCE", "--resume"),
    "compare --resume": ("compare", "SOURCE", "--resume"),
    "fold": ("fold", "SOURCE", "--out", "out/folded.keras"),
}
WRITES_INTO_SOURCE = ("train --resume", "compare --resume", "evaluate into the folder")


@dataclasses.dataclass(frozen=True, repr=False)
class Templates:
    """What was right, by path: a run, an interrupted run, a study."""

    run: dict[str, bytes]
    interrupted: dict[str, bytes]
    study: dict[str, bytes]


@st.composite
def model_files(draw, templates: Templates):
    """Draw a `.keras` file that a command meets."""
    data = draw(changed_model(templates.run["model.keras"]))
    name = draw(st.sampled_from(["m.keras"] * 8 + ["m.h5", "m"]))
    command = draw(st.sampled_from(["diagnose", "export", "fold"]))
    arguments = tuple(name if word == "SOURCE" else word for word in READERS[command])
    return Attack(f"model file, {command}", arguments, {name: data, "evil.py": EVIL})


@st.composite
def run_folders(draw, templates: Templates):
    """Draw the folder of a run or a study that a command meets."""
    from bnzoo.config import as_yaml
    from bnzoo.config.reading import parse_yaml

    which = draw(st.sampled_from(["run", "interrupted", "study"]))
    files = dict(getattr(templates, which))
    for name in draw(st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=2, unique=True)):
        content = files[name]
        match draw(st.integers(0, 9)):
            case 0:
                del files[name]
            case 1:
                files[name] = draw(changed_bytes(content) | st.sampled_from([b"", PICKLE, b"\0"]))
            case 2:
                target = st.sampled_from(
                    ["../../outside", "/etc/passwd", "/dev/zero", "itself", None]
                )
                files[name] = Link(draw(target))
            case 3:
                files[name] = None
            case 4 if "/" in name:
                folder = draw(st.sampled_from([str(one) for one in Path(name).parents][:-1]))
                files = {
                    key: value for key, value in files.items() if not key.startswith(f"{folder}/")
                }
                files[folder] = Link(draw(st.sampled_from(["../outside", "../../outside", "/tmp"])))
                break
            case _ if name.endswith(".keras"):
                files[name] = draw(changed_model(content))
            case _ if name.endswith(".json"):
                files[name] = draw(changed_json(content))
            case _ if name.endswith(".yaml"):
                tree = draw(changed(parse_yaml(content.decode())))
                files[name] = as_yaml(tree).encode("utf-8", "surrogatepass")
            case _:
                files[name] = draw(changed_bytes(content))
    command = draw(st.sampled_from(sorted(READERS)))
    arguments = tuple("s" if word == "SOURCE" else word for word in READERS[command])
    writes = ("out", "s") if command in WRITES_INTO_SOURCE else ("out",)
    found = {f"s/{name}": content for name, content in files.items()} | {"evil.py": EVIL}
    return Attack(f"{which}, {command}", arguments, found, writes)
