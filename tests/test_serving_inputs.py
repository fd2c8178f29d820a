"""Inputs of every dtype: exported, compared on values that the model can tell apart, or refused."""

import keras
import numpy as np
import pytest
import serving_exports as exports
import tensorflow as tf
from keras import layers
from tensorflow.core.framework import types_pb2

from bnzoo import export_saved_model
from bnzoo.errors import InputError
from bnzoo.serving import parity
from bnzoo.serving.made_up import made_up_inputs
from bnzoo.serving.signature import DATATYPES

TEXTS = np.array(["the cat sat", "a cat, a mat", "the \u00e9l\u00e9phant"], object)


def model_of(*stack, shape=(6,), dtype="int32"):
    return keras.Sequential([keras.Input(shape, dtype=dtype), *stack])


def text_model(**arguments):
    vectors = layers.TextVectorization(**arguments)
    vectors.adapt(TEXTS)
    stack = [layers.Embedding(20, 4), layers.GlobalAveragePooling1D()]
    stack = stack if arguments.get("output_mode", "int") == "int" else []
    last = [layers.BatchNormalization(), layers.Dense(2)]
    return model_of(vectors, *stack, *last, shape=(1,) if stack else (), dtype="string")


def through(*stack, shape=(6,), dtype="int32"):
    """Return inputs made up for a model, and what is said of them."""
    return made_up_inputs(model_of(*stack, shape=shape, dtype=dtype), 200)


# --- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DATATYPES)
def test_every_dtype_of_the_table_exports_and_answers_as_predict(dtype, tmp_path, in_this_process):
    if dtype == "string":
        model = model_of(layers.StringLookup(vocabulary=list("abc")), shape=(4,), dtype=dtype)
    else:
        model = model_of(layers.Dense(3), shape=(4,), dtype=dtype)
    folder = export_saved_model(model, tmp_path / "m")
    facts = exports.facts(folder)
    assert facts["signatures"]["serving_default"]["inputs"]["inputs"]["dtype"] == dtype
    assert facts["parity"]["largest_relative_difference"] <= facts["parity"]["allowed"]
    assert not facts["parity"]["same_answer_to_all"]


def test_the_table_has_every_dtype_of_tensorflow_that_the_protocol_has():
    known = {tf.as_dtype(number) for number in types_pb2.DataType.values() if 0 < number < 100}
    assert {dtype for dtype in known if dtype.name in DATATYPES} == {
        dtype
        for dtype in known - {tf.resource, tf.variant}
        if not (dtype.is_complex or dtype.is_quantized)
        and not dtype.name.startswith(("float8", "int2", "int4", "uint2", "uint4", "float4"))
    }


def test_a_dtype_that_cannot_be_served_is_refused(tmp_path):
    inputs = keras.Input((3,), dtype="complex64")
    model = keras.Model(inputs, layers.Identity(dtype="complex64")(inputs))
    with pytest.raises(InputError, match=r"an input of a dtype .*, string\), got complex64\. Cast"):
        export_saved_model(model, tmp_path / "m")
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.cast(inputs, "complex64"))
    with pytest.raises(InputError, match=r"an output of a dtype .* got complex64"):
        export_saved_model(model, tmp_path / "m")
    inputs = keras.Input((3,), sparse=True)
    with pytest.raises(InputError, match="expected a dense input, got a sparse one"):
        export_saved_model(keras.Model(inputs, layers.Dense(2)(inputs)), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{}, {"output_mode": "tf_idf"}], ids=str)
def test_texts_export_folded_and_are_answered_by_a_new_process(arguments, tmp_path, monkeypatch):
    if arguments:  # a process of its own each time takes seconds
        exports.compare_in_this_process(monkeypatch)
    model = text_model(**arguments)
    folder = export_saved_model(model, tmp_path / "m")
    facts = exports.facts(folder)
    assert facts["folded"]
    assert facts["parity"]["inputs"] == "random words that layer 'text_vectorization' knows" or (
        facts["parity"]["inputs"].startswith("random words that layer 'text_vectorization_")
    )
    assert facts["parity"]["largest_relative_difference"] < 1e-4
    texts = TEXTS.reshape(-1, *model.input_shape[1:])
    answer = exports.signature(folder)(inputs=tf.constant(texts))["outputs"]
    np.testing.assert_allclose(answer, model(tf.constant(texts)), rtol=1e-5, atol=1e-6)
    assert (folder / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 100


def test_a_model_that_answers_strings_is_compared(tmp_path, in_this_process):
    model = model_of(layers.IntegerLookup(vocabulary=[5, 7]), layers.StringLookup(
        vocabulary=["a", "b"], invert=True), shape=(2,), dtype="int64")  # fmt: skip
    folder = export_saved_model(model, tmp_path / "m")
    assert exports.facts(folder)["parity"]["largest_relative_difference"] == 0
    answer = exports.signature(folder)(inputs=np.array([[5, 7]]))["outputs"]
    assert answer.numpy().tolist() == [[b"a", b"b"]]
    wrong = {"outputs": np.full((136, 2), b"c", object)}
    batches = parity.sample_inputs(model)
    assert parity.largest_difference(model, "outputs", batches, wrong) == 1


class Hidden(layers.Layer):
    """Has its table where TensorFlow does not find it."""

    def build(self, shape):
        keys, values = tf.constant(["a", "b"]), tf.constant([1.0, 2.0])
        initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
        self.table = (tf.lookup.StaticHashTable(initializer, 0.0),)

    def call(self, inputs):
        return self.table[0].lookup(inputs)


def test_what_a_saved_model_cannot_hold_is_one_line(tmp_path):
    model = model_of(Hidden(), shape=(2,), dtype="string")
    with pytest.raises(
        InputError, match="expected one that a SavedModel can hold; TensorFlow"
    ) as e:
        export_saved_model(model, tmp_path / "m")
    assert len(str(e.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# --- made up inputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "uint16"])
def test_tokens_take_all_values_that_an_embedding_has(dtype):
    tokens, said = through(layers.Embedding(50, 3, name="tokens"), dtype=dtype)
    assert said == "random whole numbers from 0 to 49 that layer 'tokens' knows"
    assert set(tokens.ravel()) == set(range(50))
    assert tokens.dtype == dtype


def test_what_reads_the_inputs_is_found_behind_reshapes_and_inside_models():
    inner = model_of(layers.Reshape((3, 2)), layers.Embedding(30, 2))
    inputs = keras.Input((8,), dtype="int32")
    first, rest = inputs[:, :6], keras.ops.cast(inputs[:, 6:], "int64")
    model = keras.Model(inputs, layers.Concatenate()([
        layers.Flatten()(inner(first)),
        layers.Flatten()(keras.ops.one_hot(rest, 12)),
        layers.Flatten()(layers.Embedding(4, 2)(keras.ops.arange(6)[None] + 0 * first)),
    ]))  # fmt: skip
    made, said = made_up_inputs(model, 500)
    assert said.startswith("random whole numbers from 0 to 11 that layer 'one_hot")
    assert made.max() == 11


class Tokens(layers.Layer):
    """A user's own layer, as tutorials on transformers have it."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = layers.Embedding(40, 4), layers.Embedding(6, 4)

    def call(self, inputs):
        return self.tokens(inputs) + self.places(keras.ops.arange(6))


def test_what_reads_the_inputs_is_found_inside_a_layer_of_the_users_own():
    made, said = through(Tokens())
    assert made.max() == 5, "the smallest of its tables is safe for all of them"
    assert "from 0 to 5 that layer 'embedding" in said
    assert through(Tokens(), dtype="float32")[1] == "random numbers", "it may read something else"


@pytest.mark.parametrize(
    ("dtype", "said", "values"),
    [
        ("uint8", "random whole numbers from 0 to 255", set(range(256))),
        ("int8", "random whole numbers from -128 to 127", set(range(-128, 128))),
        ("int64", "random whole numbers from 0 to 9", set(range(10))),
        ("bool", "random values", {False, True}),
    ],
)
def test_without_a_reader_the_dtype_tells(dtype, said, values):
    model = model_of(layers.Rescaling(1 / 255), dtype=dtype)
    made, words = made_up_inputs(model, 5000)
    assert (words, set(made.ravel())) == (said, values)


def test_a_lookup_gets_what_it_has_learned():
    made, said = through(layers.IntegerLookup(vocabulary=[7, 90, 4], name="ids"), dtype="int64")
    assert said == "random values that layer 'ids' knows"
    assert set(made.ravel()) == {4, 7, 90}
    made, said = through(layers.StringLookup(vocabulary=["x", "yy"]), dtype="string")
    assert set(made.ravel()) == {"x", "yy"}


def test_a_token_model_is_compared_on_tokens(tmp_path, in_this_process):
    """On zeros alone it `agreed to 0.0`: one row of the table was looked at."""
    model = model_of(layers.Embedding(50, 3), layers.Flatten(), layers.Dense(2))
    facts = exports.facts(export_saved_model(model, tmp_path / "m"))
    assert "random whole numbers from 0 to 49 that layer" in facts["parity"]["inputs"]
    assert facts["parity"]["largest_relative_difference"] < 1e-4
    assert not facts["parity"]["same_answer_to_all"]


def test_the_same_answer_to_all_examples_is_said(call, tmp_path, in_this_process):
    model_of(layers.Dense(2, kernel_initializer="zeros"), dtype="float32").save(
        tmp_path / "m.keras"
    )
    code, printed, _ = call("export", tmp_path / "m.keras", "--out", tmp_path / "m")
    assert code == 0
    assert "all of these have the same answer, which compares little: try --examples" in printed
    assert exports.facts(tmp_path / "m" / "1")["parity"]["same_answer_to_all"]
    card = (tmp_path / "m" / "1" / "MODEL_CARD.md").read_text()
    assert "All of these inputs have the same answer: this compares little." in card


@keras.saving.register_keras_serializable("tests")
class Table(layers.Layer):
    """Looks up what nothing outside can see the size of."""

    def build(self, shape):
        self.table = self.add_weight(shape=(3, 2))

    def call(self, inputs):
        with tf.device("CPU"):
            return tf.gather(self.table, inputs)


def test_a_model_that_cannot_answer_made_up_inputs_wants_examples(call, tmp_path, in_this_process):
    model_of(Table(), layers.Flatten()).save(tmp_path / "m.keras")
    arguments = ("export", tmp_path / "m.keras", "--out", tmp_path / "served" / "m")
    code, printed, errors = call(*arguments)
    assert (code, printed) == (2, "")
    assert "cannot answer the inputs to compare on, such as " in errors
    assert "Give examples of its data (examples=..., --examples FILE.npy)." in errors
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "served").exists(), "a failed export leaves no empty folder"
    np.save(tmp_path / "x.npy", np.array([[0, 1, 2, 0, 1, 2]]))
    code, printed, errors = call(*arguments, "--examples", tmp_path / "x.npy")
    assert code == 0, errors
    assert "compared on real examples" in printed


def test_examples_that_are_none_are_refused(call, tmp_path):
    model_of(layers.Dense(2), dtype="float32").save(tmp_path / "m.keras")
    np.save(tmp_path / "wide.npy", np.ones((3, 7)))
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    for name, message in (
        ("wide.npy", "examples: expected inputs of shape ('n', 6) of 'sequential"),
        ("objects.npy", "objects.npy: expected an array saved by numpy.save"),
        ("none.npy", "none.npy: expected an array saved by numpy.save"),
    ):
        code, _, errors = call(
            "export", tmp_path / "m.keras", "--out", tmp_path / "m", "--examples", tmp_path / name
        )
        assert code == 2
        assert message in errors
        assert len(errors.splitlines()) == 1
    assert not (tmp_path / "m").exists()
