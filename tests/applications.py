"""Networks of `keras.applications` with random weights and statistics, and what replacing does.

Float64 tells whose error a difference is: a gradient through so many layers, and ten steps of
training after it, amplify the rounding of float32, Keras' as much as ours.
"""

import keras
import numpy as np

import bnzoo

NAMES = (
    "MobileNetV2",
    "ResNet50",
    "DenseNet121",
    "EfficientNetV2B0",
    "InceptionV3",
    "NASNetMobile",
    "Xception",
)
# Smaller images leave one place a channel in the last layers, whose variance is then chaotic.
SIZE, BATCH, STEPS, CLASSES = 96, 16, 10, 5
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RANDOM = np.random.default_rng(1)
X = RANDOM.uniform(-1, 1, (BATCH * STEPS, SIZE, SIZE, 3)).astype("float32")
Y = RANDOM.integers(0, CLASSES, BATCH * STEPS)


def application(name, policy="float32"):
    """Build a network with weights and statistics as after training, the same in any precision."""
    model = _build(name, policy)
    if policy != "float32":
        for one, other in zip(application(name).variables, model.variables, strict=True):
            other.assign(keras.ops.cast(one, other.dtype))
        return model
    random = np.random.default_rng(0)
    ranges = {"gamma": (0.5, 1.5), "beta": (-0.5, 0.5), "moving_mean": (-0.5, 0.5)}
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for weight in layer.weights:
                low, high = ranges.get(weight.name, (0.5, 1.5))
                weight.assign(random.uniform(low, high, weight.shape))
    return model


def _build(name, policy):
    keras.utils.set_random_seed(0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = getattr(keras.applications, name)(
            weights=None,
            input_shape=(SIZE, SIZE, 3),
            classes=CLASSES,
            classifier_activation=None,
        )
    finally:
        keras.config.set_dtype_policy(before)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.input_mean is None:
            layer.adapt(X[:BATCH])
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0  # other precisions draw other numbers
    return model


def difference(arrays, expected):
    """Return the norm of a difference, by that of what was expected."""
    pairs = [
        [np.asarray(array, "float64").ravel() for array in pair]
        for pair in zip(arrays, expected, strict=True)
    ]
    one, other = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    return np.linalg.norm(one - other) / np.linalg.norm(other)


def answer(model):
    """Return a model's answer to one batch."""
    return [model(X[:BATCH].astype(model.dtype), training=False)]


def learned(model):
    """Return the gradients of a batch, and weights and statistics after ten steps of training.

    The gradients are what a step of rate 1 changes: one compiled step does for both.
    """
    model.compile(keras.optimizers.SGD(1.0), LOSS)
    kept, before = model.get_weights(), [one.numpy() for one in model.trainable_weights]
    step(model, 0)
    after = [one.numpy() for one in model.trainable_weights]
    gradients = [one - other for one, other in zip(before, after, strict=True)]
    model.set_weights(kept)
    model.optimizer.learning_rate = 1e-5
    for number in range(STEPS):
        step(model, number)
    return {"gradients": gradients, "ten steps": model.get_weights()}


def step(model, number):
    """Train on one of the batches."""
    batch = slice(BATCH * number, BATCH * (number + 1))
    model.train_on_batch(X[batch].astype(model.dtype), Y[batch])


def measure(name, folder):
    """Return all differences that replacing and folding a network make."""
    usual, exact, ours, exact_ours = (
        application(name, policy) for policy in ("float32", "float64", "float32", "float64")
    )
    for model in (ours, exact_ours):
        bnzoo.replace_batch_norm(model)
    expected = answer(exact)
    found = {
        "replaced": difference(answer(ours), answer(usual)),
        "folded": difference(answer(bnzoo.fold_batch_norm(ours)), expected),
        "keras by float64": difference(answer(usual), expected),
        "replaced by float64": difference(answer(ours), expected),
    }
    right = learned(exact)
    for who, model in (("keras", usual), ("ours", ours), ("ours in float64", exact_ours)):
        for what, values in learned(model).items():
            found[f"{what}, {who}"] = difference(values, right[what])
    trained = answer(ours)
    ours.save(folder / "ours.keras")
    again = bnzoo.load_model(folder / "ours.keras")
    found["saved as ours"] = difference(answer(again), trained)
    bnzoo.replace_batch_norm(again, to="keras").save(folder / "keras.keras")
    back = keras.models.load_model(folder / "keras.keras")
    kinds = {type(one) for one in back.layers if isinstance(one, keras.layers.BatchNormalization)}
    assert kinds == {keras.layers.BatchNormalization}
    found["saved as Keras'"] = difference(answer(back), trained)
    return found


def check_application(name, folder):
    """Replace, fold, train, save and load a network, and hold all differences to their bounds."""
    found = measure(name, folder)
    print(name, {what: f"{value:.1e}" for what, value in found.items()})
    assert found["replaced"] < 1e-4
    assert found["folded"] < 1e-3
    assert found["replaced by float64"] < 3 * found["keras by float64"] + 1e-6
    for what in ("gradients", "ten steps"):
        assert found[f"{what}, ours in float64"] < 1e-10, what
        # Chance decides which of two roundings a step amplifies more.
        assert found[f"{what}, ours"] < 4 * found[f"{what}, keras"] + 1e-6, what
    assert found["saved as ours"] < 1e-6
    assert found["saved as Keras'"] < 1e-4
