"""An exported model answers as the trained one, refuses what does not fit, and lands whole."""

import functools
import itertools
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import serving_exports as exports
import tensorflow as tf
from calls import largest_file
from cases import MODELS
from serving_exports import hostile_shapes, signature
from tensorflow.core.protobuf import saved_model_pb2

from bnzoo import config, export_saved_model, models
from bnzoo.errors import InputError
from bnzoo.serving import export_source, layout, parity
from bnzoo.training import train


@pytest.fixture(scope="module")
def model():
    return models.build("one_conv", input_shape=(8, 8, 1), filters=[4])


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return export_saved_model(model, tmp_path_factory.mktemp("served") / "one_conv")


@pytest.fixture(scope="module")
def export_of(tmp_path_factory):
    """Export each model of the list with each placement once: (input shape, folder)."""
    every = tmp_path_factory.mktemp("every")

    @functools.cache
    def export_of(number, placement):
        name, params = MODELS[number]
        model = models.build(name, placement, **params)
        with pytest.MonkeyPatch.context() as patch:
            exports.compare_in_this_process(patch)
            folder = export_saved_model(model, every / f"{number}_{placement}")
        return model.input_shape, folder

    return export_of


def test_the_signature_names_its_input_and_outputs_and_leaves_the_batch_open(exported):
    serve = signature(exported)
    (spec,) = serve.structured_input_signature[1].values()
    assert (spec.name, spec.shape.as_list(), spec.dtype) == ("inputs", [None, 8, 8, 1], tf.float32)
    outputs = {name: spec.shape.as_list() for name, spec in serve.structured_outputs.items()}
    assert outputs == {"logits": [None, 10], "probabilities": [None, 10], "class_id": [None]}


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_answers_equal_predict_at_any_batch_size(model, exported, batch):
    images = np.random.default_rng(batch).random((batch, 8, 8, 1), dtype="float32")
    logits = model.predict(images, verbose=0)
    answers = signature(exported)(inputs=images)
    # The same float32 arithmetic in another graph: a few units in the last place.
    np.testing.assert_allclose(answers["logits"], logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        answers["probabilities"], keras.ops.softmax(logits), rtol=1e-5, atol=1e-6
    )
    assert list(answers["class_id"]) == list(logits.argmax(-1))


def test_an_empty_batch_has_empty_answers(exported):
    assert signature(exported)(inputs=tf.zeros((0, 8, 8, 1)))["logits"].shape == (0, 10)


@pytest.fixture(scope="module", params=["none", "before", "after"])
def placed(request, tmp_path_factory):
    """A model with a placement, and its export."""
    model = models.build("one_conv", request.param, input_shape=(8, 8, 1), filters=[4])
    with pytest.MonkeyPatch.context() as patch:
        exports.compare_in_this_process(patch)
        return model, export_saved_model(model, tmp_path_factory.mktemp("placed"))


@pytest.mark.parametrize("place", ["first", "last", "one", "all"])
def test_nan_in_gives_nan_out_for_that_row_only(place, placed):
    """ReLU and max-pooling on the CPU drop a NaN: without the check the answer looks normal."""
    model, exported = placed
    images = np.random.default_rng(0).random((3, 8, 8, 1), dtype="float32")
    clean = images.copy()
    where = {"first": (0, 0), "last": (7, 7), "one": (3, 4), "all": (slice(None),)}[place]
    images[1][where] = np.nan
    answer = signature(exported)(inputs=images)
    expected = model(clean, training=False).numpy()
    np.testing.assert_allclose(answer["logits"].numpy()[[0, 2]], expected[[0, 2]], rtol=1e-5)
    for name in ("logits", "probabilities"):
        assert np.isnan(answer[name].numpy()[1]).all()
    assert answer["class_id"].numpy()[1] == -1
    assert list(answer["class_id"].numpy()[[0, 2]]) == list(expected[[0, 2]].argmax(-1))


def test_metadata_says_what_it_is_and_how_exact(exported):
    facts = exports.facts(exported)
    assert facts["input_shape"] == [8, 8, 1]
    assert facts["parity"]["batch_sizes"] == [1, 7, 128]
    assert facts["parity"]["largest_relative_difference"] <= facts["parity"]["allowed"] == 1e-4
    assert facts["versions"]["tensorflow"] == tf.__version__


def test_versions_rise_and_a_taken_one_is_refused(model, tmp_path, in_this_process):
    name = tmp_path / "one_conv"
    assert export_saved_model(model, name).name == "1"
    assert export_saved_model(model, name).name == "2"
    assert export_saved_model(model, name, version=20).name == "20"
    assert export_saved_model(model, name).name == "21"
    with pytest.raises(InputError, match="version 20 exists already"):
        export_saved_model(model, name, version=20)
    assert sorted(entry.name for entry in name.iterdir()) == ["1", "2", "20", "21"]


@pytest.mark.parametrize("version", [0, -1, 1.5, True])
def test_a_version_that_is_none_is_refused(model, tmp_path, version):
    with pytest.raises(InputError, match=f"version: expected a whole number .*got {version!r}"):
        export_saved_model(model, tmp_path, version=version)


def test_a_target_that_is_a_file_is_refused(model, tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(InputError, match="expected a folder, got a file"):
        export_saved_model(model, tmp_path / "taken")


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path):
    def write(folder):
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        layout.publish(tmp_path, None, write)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_answers_otherwise_is_refused(model, tmp_path, monkeypatch):
    zeros = dict.fromkeys(("logits", "probabilities"), 0.0)
    monkeypatch.setattr(parity, "ask_new_process", lambda export, batches: zeros)
    with pytest.raises(RuntimeError, match=r"differs from model\.predict by 1 of the largest"):
        export_saved_model(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_an_export_that_no_process_can_load_is_refused(tmp_path, model):
    (tmp_path / "1").mkdir()
    # One line, without what TensorFlow logs when it starts.
    with pytest.raises(RuntimeError, match=r"^A new process could not use .* does not exist.*$"):
        parity.ask_new_process(tmp_path / "1", parity.sample_inputs(model))


def test_a_full_disk_leaves_nothing_half_done(tmp_path):
    """A limit on the size of files stands in for it; the graph is larger, its variables are not."""
    exports.small_classifier().save(tmp_path / "model.keras")
    with largest_file(10_000), pytest.raises((OSError, tf.errors.OpError), match="File too large"):
        export_source(tmp_path / "model.keras", tmp_path / "served")
    assert not (tmp_path / "served").exists()


def test_a_number_taken_meanwhile_is_skipped(tmp_path):
    def write(folder):
        (folder / "mine").write_text("mine")
        (tmp_path / "1").mkdir(exist_ok=True)
        (tmp_path / "1" / "theirs").write_text("theirs")

    assert layout.publish(tmp_path, None, write) == tmp_path / "2"


def graph_of(folder):
    """Return the operations in the functions of a SavedModel."""
    saved = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    return {node.op for function in functions for node in function.node_def}


def variables_in(folder):
    names = tf.train.list_variables(str(folder / "variables" / "variables"))
    return [name for name, _ in names if "CHECKPOINTABLE" not in name]


@pytest.mark.parametrize("placement", ["none", "before", "after"])
@pytest.mark.parametrize("number", range(len(MODELS)), ids=[name for name, _ in MODELS])
def test_every_model_exports_agrees_and_has_no_batch_norm_left(number, placement, export_of):
    _, folder = export_of(number, placement)
    assert exports.facts(folder)["parity"]["largest_relative_difference"] <= 1e-4
    assert exports.facts(folder)["folded"] == (placement != "none")
    found = graph_of(folder)
    assert {"MatMul", "Conv2D"} & found, "the graph was not found"
    assert not [op for op in found if op == "Rsqrt" or "BatchNorm" in op]
    used = signature(folder).variables
    assert len(variables_in(folder)) == len(used)


MALFORMED = [(2, 3), (), (8, 8, 1), (1, 2, 8, 8, 1), (2, 8, 8, 3), (2, 9, 8, 1), (2, 0, 8, 1)]
HOSTILE = """
import json, sys
import tensorflow as tf
for folder, shapes in json.loads(sys.argv[1]):
    serve = tf.saved_model.load(folder).signatures["serving_default"]
    (spec,) = serve.structured_input_signature[1].values()
    expected = ",".join("?" if size is None else str(size) for size in spec.shape)
    for shape in shapes:
        try:
            serve(inputs=tf.zeros(shape))
        except tf.errors.InvalidArgumentError as error:
            reasons = f"not compatible with expected shape [{expected}]", "inputs has no steps"
            assert any(reason in str(error) for reason in reasons), error
        else:
            raise SystemExit(f"{folder}: {shape} was accepted")
    whole = [size or 5 for size in spec.shape[1:]]
    try:
        assert all(len(value) == 0 for value in serve(inputs=tf.zeros([0, *whole])).values())
    except tf.errors.InvalidArgumentError:
        pass
    assert all(len(value) == 2 for value in serve(inputs=tf.zeros([2, *whole])).values())
print("alive")
"""


def test_every_model_and_placement_survives_every_hostile_shape(exported, export_of):
    """In a process of its own: what is tested is that it does not die."""
    asked = [(str(exported), MALFORMED)]
    for number, placement in itertools.product(range(len(MODELS)), ("none", "before", "after")):
        shape, folder = export_of(number, placement)
        asked.append((str(folder), hostile_shapes(list(shape))))
    command = [sys.executable, "-c", HOSTILE, json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.strip() == "alive", done.stderr[-2000:]


def test_without_folding_the_layers_stay(tmp_path, in_this_process):
    folder = export_saved_model(exports.small_classifier(), tmp_path, fold=False)
    assert exports.facts(folder)["folded"] is False
    assert "Rsqrt" in graph_of(folder)


def test_what_only_training_needs_stays_behind(tmp_path, in_this_process):
    """A dropout layer has a variable, the state of its random numbers."""
    stack = [keras.layers.Dense(4), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    folder = export_saved_model(small_model(*stack, loss=LOGITS_LOSS), tmp_path)
    assert len(variables_in(folder)) == 4


def test_mixed_precision_stays_within_one_percent(tmp_path, in_this_process):
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = exports.small_classifier()
        finally:
            keras.config.set_dtype_policy("float32")
        parity_found = exports.facts(export_saved_model(model, tmp_path))["parity"]
        assert parity_found["largest_relative_difference"] <= parity_found["allowed"] == 1e-2


def test_a_model_that_ends_in_a_softmax_answers_probabilities(tmp_path, in_this_process):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    serve = signature(export_saved_model(model, tmp_path))
    answers = serve(inputs=np.ones((2, 4), "float32"))
    assert set(answers) == {"probabilities", "class_id"}
    np.testing.assert_allclose(answers["probabilities"].numpy().sum(-1), 1, rtol=1e-6)


def small_model(*layers, loss=None):
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(loss=loss)
    return model


SOFTMAX = keras.layers.Softmax
LOGITS_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: small_model(keras.layers.Dense(3), SOFTMAX()), "probabilities"),
        (
            lambda: small_model(keras.Sequential([keras.layers.Dense(3), SOFTMAX()])),
            "probabilities",
        ),
        (lambda: small_model(keras.layers.Dense(3), loss=LOGITS_LOSS), "logits"),
        (lambda: small_model(keras.layers.Dense(3, name="logits")), "logits"),
        (lambda: small_model(keras.layers.Dense(3)), "outputs"),
        (lambda: small_model(keras.layers.Dense(1)), "outputs"),
        (lambda: small_model(keras.layers.Dense(1, activation="sigmoid")), "outputs"),
        (lambda: small_model(keras.layers.Dense(3, "sigmoid"), loss="binary_crossentropy"),
         "outputs"),
    ],
)  # fmt: skip
def test_only_what_is_known_to_be_logits_is_turned_into_probabilities(
    make, kind, tmp_path, in_this_process
):
    model = make()
    folder = export_saved_model(model, tmp_path)
    assert json.loads((folder / "bnzoo.json").read_text())["output"] == kind
    inputs = np.random.default_rng(0).random((5, 4), dtype="float32")
    answers = signature(folder)(inputs=inputs)
    np.testing.assert_allclose(answers[kind], model.predict(inputs, verbose=0), rtol=1e-5)
    if kind != "outputs":
        np.testing.assert_allclose(answers["probabilities"].numpy().sum(-1), 1, rtol=1e-5)


def test_the_kind_of_output_can_be_given(tmp_path, in_this_process):
    model = small_model(keras.layers.Dense(3))
    answers = signature(export_saved_model(model, tmp_path, output="logits"))(
        inputs=np.ones((1, 4), "float32")
    )
    assert set(answers) == {"logits", "probabilities", "class_id"}
    with pytest.raises(InputError, match=r"got 'logit'\. Did you mean 'logits'"):
        export_saved_model(model, tmp_path, output="logit")
    with pytest.raises(InputError, match=r"shape \(batch, classes\).* got shape \(None, 1\)"):
        export_saved_model(small_model(keras.layers.Dense(1)), tmp_path, output="logits")


def test_several_inputs_or_outputs_are_refused(tmp_path):
    one, two = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([one, two], keras.layers.Add()([one, two]))
    with pytest.raises(InputError, match="one input and one output, got 2 of its inputs"):
        export_saved_model(model, tmp_path)
    dense = keras.layers.Dense(2)
    with pytest.raises(InputError, match="got 2 of its outputs"):
        export_saved_model(keras.Model(one, [dense(one), dense(one)]), tmp_path)


def test_a_file_with_a_versions_name_is_not_overwritten(tmp_path, model, in_this_process):
    (tmp_path / "1").write_text("mine")
    assert export_saved_model(model, tmp_path).name == "2"
    assert (tmp_path / "1").read_text() == "mine"


def test_a_run_folder_and_a_keras_file_export(tmp_path, in_this_process):
    tree = {
        "data": {"name": "digits", "batch_size": 256},
        "model": {"name": "dense", "units": [4]},
        "train": {"epochs": 1, "tensorboard": False},
    }
    summary = train(config.validate(tree, "test"), tmp_path / "run")
    facts = json.loads((export_source(tmp_path / "run", tmp_path / "a") / "bnzoo.json").read_text())
    assert facts["config"]["model"]["units"] == [4]
    assert facts["data"]["class_names"] == [str(digit) for digit in range(10)]
    assert facts["test"] == summary["test"]
    assert export_source(tmp_path / "run" / "model.keras", tmp_path / "b").name == "1"


def test_a_source_that_is_none_is_refused(tmp_path):
    for source, message in (
        ("none", "no such file or folder"),
        (".", "expected a run folder with config.yaml"),
    ):
        with pytest.raises(InputError, match=message):
            export_source(tmp_path / source, tmp_path / "out")
    for name in ("broken.keras", "image.png"):
        (tmp_path / name).write_text("no zip")
        with pytest.raises(InputError) as error:
            export_source(tmp_path / name, tmp_path / "out")
        assert str(error.value) == (
            f"{tmp_path / name}: expected a whole model saved by Keras as .keras, got a file that "
            "is none. Save it again with model.save('name.keras'), or name a run folder."
        )
    assert not (tmp_path / "out").exists()
