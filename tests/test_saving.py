"""`.keras` files that are whole, damaged, of mixed precision or with layers of the user's own."""

import importlib
import sys
import zipfile

import keras
import numpy as np
import pytest
import serving_exports as exports
from keras import layers

import bnzoo
from bnzoo.errors import InputError
from bnzoo.saving import custom_objects_of


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the bytes of a `.keras` file."""
    file = tmp_path_factory.mktemp("whole") / "model.keras"
    keras.Sequential([keras.Input((4,)), layers.Dense(50), layers.Dense(3)]).save(file)
    return file.read_bytes()


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


DAMAGED = {
    "half of it": (lambda whole: whole[: len(whole) // 2], "one that is cut short"),
    "without its end": (lambda whole: whole[:-10], "one that is cut short"),
    "without its beginning": (lambda whole: whole[3000:], "a damaged one (an archive that cannot"),
    "a wrong byte in the weights": (lambda whole: flipped(whole, -5000), "(model.weights.h5)"),
    "a wrong byte in the config": (
        lambda whole: flipped(whole, 300),
        "a damaged one (config.json)",
    ),
    "nothing": (lambda whole: b"", "a file that is none"),
    "text": (lambda whole: b"no model", "a file that is none"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_keras_file_is_one_line(name, whole, call, tmp_path):
    damage, message = DAMAGED[name]
    (tmp_path / "m.keras").write_bytes(damage(whole))
    code, printed, errors = call("export", tmp_path / "m.keras", "--out", tmp_path / "served" / "m")
    assert (code, printed) == (2, "")
    assert errors.startswith(f"bnzoo export: {tmp_path / 'm.keras'}: expected a whole model saved ")
    assert f"got {message}" in errors or message in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "served").exists()


def test_an_archive_without_a_model_is_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("readme.txt", "no model")
    with pytest.raises(InputError, match=r"m\.keras: expected a whole model .*; Keras says: "):
        bnzoo.load_model(tmp_path / "m.keras")


# --- mixed precision -----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("output", [{}, {"dtype": "float32"}], ids=["half", "float32"])
def test_mixed_precision_with_plain_outputs_exports(policy, output, call, tmp_path,
                                                    in_this_process):  # fmt: skip
    """A regression in bfloat16 was off by 2 % once folded; without folding it is exact."""
    keras.utils.set_random_seed(1)
    random = np.random.default_rng(0)
    keras.config.set_dtype_policy(policy)
    try:
        stack = [layers.Dense(8), layers.BatchNormalization(momentum=0.0), layers.Dense(8)]
        stack = [*stack, layers.BatchNormalization(momentum=0.0), layers.Dense(1, **output)]
        model = keras.Sequential([keras.Input((4,)), *stack])
        model.compile("sgd", "mse")
        model.fit(3 + random.random((64, 4)), random.random((64, 1)), verbose=0)
    finally:
        keras.config.set_dtype_policy("float32")
    model.save(tmp_path / "m.keras")
    code, printed, errors = call("export", tmp_path / "m.keras", "--out", tmp_path / "m")
    assert (code, errors) == (0, "")
    facts = exports.facts(tmp_path / "m" / "1")
    assert facts["output"] == "outputs"
    assert facts["parity"]["largest_relative_difference"] <= facts["parity"]["allowed"] == 1e-2
    assert ("batch normalization is kept" in printed) is not facts["folded"]
    if policy == "mixed_bfloat16":
        assert not facts["folded"]


# --- layers of the user's own --------------------------------------------------------------------

LAYERS = """
import keras
import mine_too

def doubled(x):
    return mine_too.TWO * x

class Doubles(keras.layers.Layer):
    def call(self, inputs):
        return doubled(inputs)

@keras.saving.register_keras_serializable("mine")
class Halves(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inside = Doubles()

    def build(self, shape):
        self.inside.build(shape)

    def call(self, inputs):
        return self.inside(inputs) / 4
"""


@pytest.fixture
def own(tmp_path):
    """Save a model of layers, and forget them."""
    (tmp_path / "my_layers.py").write_text(LAYERS)
    (tmp_path / "mine_too.py").write_text("TWO = 2.0\n")
    known = keras.saving.get_custom_objects()
    before = dict(known)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        mine = importlib.import_module("my_layers")
        stack = [layers.Dense(3, mine.doubled), layers.BatchNormalization()]
        stack += [mine.Doubles(), mine.Halves()]
        keras.Sequential([keras.Input((4,)), *stack]).save(tmp_path / "m.keras")
    for name in ("my_layers", "mine_too"):
        del sys.modules[name]
    known.clear()
    known.update(before)
    return tmp_path


def test_layers_of_a_file_are_known_when_it_is_named(own, call, in_this_process):
    arguments = ("export", own / "m.keras", "--out", own / "served" / "m")
    code, printed, errors = call(*arguments)
    assert (code, printed) == (2, "")
    assert errors == (
        f"bnzoo export: {own / 'm.keras'}: expected a model of known classes, got one with the "
        "function 'doubled'. Name the file that defines it: --custom-objects my_layers.py; in "
        "Python, load it within keras.saving.custom_object_scope.\n"
    )
    assert not (own / "served").exists()
    code, printed, errors = call(*arguments, "--custom-objects", own / "my_layers.py")
    assert (code, errors) == (0, "")
    with custom_objects_of(own / "my_layers.py"):
        model = bnzoo.load_model(own / "m.keras")
    x = np.random.default_rng(0).random((5, 4), dtype="float32")
    answer = exports.signature(own / "served" / "m" / "1")(inputs=x)["outputs"]
    np.testing.assert_allclose(answer, model(x), rtol=1e-5)


BROKEN = {
    "an unknown name": ("import keras\n\nx = kers.layers\n", "line 3: NameError: name 'kers' is "),
    "a slip of the pen": ("def f(:\n", "line 1: SyntaxError: "),
    "a missing package": ("\nimport not_installed\n", "line 2: ModuleNotFoundError: No module "),
    "deep inside": (
        "import json\ndef f():\n    json.loads('')\n\nf()\n", "line 3: JSONDecodeError: "),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_an_error_in_the_users_file_names_file_and_line(name, whole, call, tmp_path):
    text, message = BROKEN[name]
    model, file = tmp_path / "m.keras", tmp_path / "broken.py"
    model.write_bytes(whole)
    file.write_text(text)
    code, printed, errors = call("export", model, "--out", tmp_path, "--custom-objects", file)
    assert (code, printed) == (2, "")
    assert errors.startswith(f"bnzoo export: {file}, {message}")
    assert len(errors.splitlines()) == 1


SLIPS = {
    "when loaded": (
        "    def __init__(self, **kwargs):\n        super().__init__(**kwargs)\n        1 / 0\n",
        "line 6: an error in "),
    "when copied": (
        "    def get_config(self):\n        return {}['size']\n", "line 5: an error in "),
}  # fmt: skip


@pytest.mark.parametrize("name", SLIPS)
def test_an_error_in_a_layer_names_file_and_line(name, call, tmp_path, in_this_process):
    text, message = SLIPS[name]
    start = "import keras\n\nclass Own(keras.layers.Layer):\n"
    file, model = tmp_path / "own.py", tmp_path / "m.keras"
    call_it = "    def call(self, inputs):\n        return inputs\n"
    file.write_text(start + call_it)
    with custom_objects_of(file):
        own = keras.saving.get_registered_object("Own")
        keras.Sequential([keras.Input((4,)), own(), layers.BatchNormalization()]).save(model)
    file.write_text(start + text + call_it)
    arguments = ("--out", tmp_path / "served", "--custom-objects", file)
    code, printed, errors = call("export", model, *arguments)
    assert (code, printed) == (2, "")
    assert errors.startswith(f"bnzoo export: {file}, {message}")
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "served").exists()


def test_a_file_of_layers_that_is_none_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for name, found in (("none.py", "no such file"), ("notes.txt", "another kind of file")):
        message = f"{name}: expected a Python file .* found {found}"
        with pytest.raises(InputError, match=message):
            custom_objects_of(tmp_path / name).__enter__()


def test_a_layer_that_cannot_be_copied_is_one_line_and_no_fold_helps(call, tmp_path,
                                                                     in_this_process):  # fmt: skip
    model = keras.Sequential([keras.Input((4,)), Unloadable(), layers.BatchNormalization()])
    model.save(tmp_path / "m.keras")
    arguments = ("export", tmp_path / "m.keras", "--out", tmp_path / "served" / "m")
    code, printed, errors = call(*arguments)
    assert (code, printed) == (2, "")
    assert "an Unloadable cannot be copied" in errors or "a Unloadable cannot be copied" in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "served").exists()
    assert call(*arguments, "--no-fold")[0] == 0


@keras.saving.register_keras_serializable("tests")
class Unloadable(layers.Layer):
    """Can be read from a file, but not copied: another process had its own reasons."""

    def call(self, inputs):
        return inputs * 2.0

    def save_own_variables(self, store):
        store["here"] = np.ones(1)

    def load_own_variables(self, store):
        if isinstance(store, dict):
            raise RuntimeError("only from a file")
