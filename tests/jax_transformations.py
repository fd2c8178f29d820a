"""What tests/test_layer_jax_transformations.py does in its process: JAX's transformations.

Each transformation is applied to a training or inference call of the layer and to one made of
`keras.layers.BatchNormalization`; both go through `stateless_call`, so that what is compared is
public. For float64 a formula stands in: on JAX, Keras takes its statistics in float32.
"""

import json
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

SHAPE = (6, 5, 4)
MASKED = {"mask": True}
# What the layer is given; "mask" stands for the call's.
KINDS = {
    "plain": {},
    "masked": MASKED,
    "bfloat16": {"dtype": "mixed_bfloat16"},
    "channels_first": {"axis": 1},
    "masked_channels_first": {"axis": 1, **MASKED},
    "nothing_to_learn": {"center": False, "scale": False},
    "renorm": {"renorm": True, "renorm_momentum": 0.7, "renorm_clipping": {"rmax": 1.1}},
    "reference": {"implementation": "reference"},
    "cumulative": {"momentum": None},
    "ghosts": {"virtual_batch_size": 4},
    "masked_ghosts": {"virtual_batch_size": 4, **MASKED},
    "unbiased": {"unbiased_moving_variance": True},
    "float64": {"dtype": "float64"},
}
# Forward over reverse is tried with every kind; others with those that differ most.
CORE = ("jvp_of_grad",)
WIDE = ("grad_of_jit", "jvp", "vmap_of_grad")
WIDELY = ("plain", "masked", "renorm", "bfloat16", "float64")
# These too of a plain layer.
MORE = (
    "value_and_grad_with_statistics",
    "gradient_of_the_new_mean",
    "gradient_of_the_new_variance",
    "gradient_of_old_statistics_in_inference",
    "linearize",
    "jacfwd",
    "hessian",
    "grad_of_grad",
    "cond",
    "checkpoint",
    "vmap_over_weights",
    "vmap_of_jvp",
    "scan",
)
# And these, where the slow tests run.
REST = (
    "jit_of_grad",
    "gradient_of_new_statistics",
    "gradient_of_old_statistics",
    "jvp_in_inference",
    "jacrev",
    "checkpoint_of_jit",
    "vmap",
    "vmap_in_inference",
    "vmap_of_grad_over_weights",
    "vmap_of_jvp_of_grad",
    "jvp_of_vmap",
    "grad_of_scan",
)
CASES = [
    *((kind, name) for kind in KINDS for name in CORE),
    *((kind, name) for kind in WIDELY for name in WIDE),
    *(("plain", name) for name in MORE),
    *((kind, "scan") for kind in ("masked", "cumulative")),
    ("masked", "vmap_over_masks"),
]
SLOW_CASES = [
    (kind, name)
    for kind in KINDS
    for name in WIDE + MORE + REST
    # Two steps of bfloat16 are far apart.
    if (kind, name) not in CASES and (kind == "plain" or kind != "bfloat16")
]
# On two clean batches: what is masked is an ordinary number.
DEBUGGED = ("plain", "masked", "masked_channels_first", "masked_ghosts")
KEPT = ("plain", "masked", "channels_first", "bfloat16", "reference", "nothing_to_learn")


class Data(NamedTuple):
    """Arguments of a call, and directions of the same structure."""

    learned: list
    moving: list
    x: object
    factor: object
    directions: tuple


def make(kind, shape=SHAPE):
    """Return our call, Keras', and data for both."""
    import bnzoo

    options = {"momentum": 0.8, **KINDS[kind]}
    random = np.random.default_rng(3)
    mask = None
    if options.pop("mask", False):
        mask = random.uniform(size=(shape[0], shape[-1] if "axis" in options else shape[1])) < 0.7
        mask[:, 0] = True
    layer = bnzoo.BatchNormalization(**options)
    layer.build(shape)
    expected = _formula(layer) if kind == "float64" else _keras_call(options, mask, shape)
    return _our_call(layer, mask), expected, _data(layer, shape, random)


def _our_call(layer, mask):
    def call(learned, moving, x, training=True, mask=mask):
        return layer.stateless_call(learned, moving, x, training=training, mask=mask)

    return call


def _formula(layer):
    """Return the same function written out, for channels last."""
    import jax.numpy as jnp

    def call(learned, moving, x, training=True, mask=None):
        mean, variance = moving
        if training:
            axes = tuple(range(x.ndim - 1))
            mean, variance = x.mean(axes), x.var(axes)
        kept = layer.momentum if training else 1.0
        pairs = zip(moving, (mean, variance), strict=True)
        new = [kept * old + (1 - kept) * value for old, value in pairs]
        gamma, beta = learned
        return (x - mean) / jnp.sqrt(variance + layer.epsilon) * gamma + beta, new

    return call


def _keras_call(options, mask, shape):
    """Return the same function of a Keras layer, whose arguments do the rest by hand."""
    import jax.numpy as jnp
    import keras

    extras = {"implementation", "virtual_batch_size", "unbiased_moving_variance"}
    known = {key: value for key, value in options.items() if key not in extras}
    momentum, size = options["momentum"], options.get("virtual_batch_size")
    unbiased = options.get("unbiased_moving_variance", False)
    by_hand = momentum is None or size is not None or unbiased
    if by_hand:
        known["momentum"] = 0.0  # the new averages are the batch's own statistics
    # Keras reads a mask as one of channels last.
    turned = mask is not None and known.pop("axis", -1) == 1
    layer = keras.layers.BatchNormalization(**known)
    layer.build((*shape[:1], shape[2], shape[1]) if turned else shape)

    def run(learned, moving, x, training=True, mask=mask):
        x = jnp.moveaxis(x, 1, -1) if turned else x
        y, moving = layer.stateless_call(learned, moving, x, training=training, mask=mask)
        return jnp.moveaxis(y, -1, 1) if turned else y, moving

    def call(learned, moving, x, training=True, mask=mask):
        statistics, counter = moving[:2], moving[2:]
        if not training:
            return run(learned, statistics, x, False)[0], moving
        parts = [slice(0, size), slice(size, None)] if size else [slice(None)]
        outputs, sums, total = [], [0.0, 0.0], 0.0
        for part in parts:
            part_mask = None if mask is None else mask[part]
            y, batch = run(learned, statistics, x[part], True, part_mask)
            count = y.size / shape[-1] if mask is None else part_mask.sum()
            if unbiased:
                batch = [batch[0], batch[1] * count / (count - 1)]
            outputs.append(y)
            sums = [old + count * new for old, new in zip(sums, batch, strict=True)]
            total = total + count
        kept = counter[0] / (counter[0] + 1) if counter else momentum
        pairs = zip(statistics, sums, strict=True)
        new = [old * kept + value / total * (1 - kept) for old, value in pairs]
        return jnp.concatenate(outputs), new + [count + 1 for count in counter]

    return call if by_hand else run


def _data(layer, shape, random):
    import jax
    import jax.numpy as jnp

    def values(variables):
        sizes = [tuple(variable.shape) for variable in variables]
        return [
            jnp.asarray(random.uniform(0.5, 1.5, size) if size else 3.0, layer.variable_dtype)
            for size in sizes
        ]

    learned, moving = values(layer.trainable_variables), values(layer.non_trainable_variables)
    x = jnp.asarray(random.normal(0.5, 2.0, shape), layer.compute_dtype)
    factor = jnp.asarray(random.normal(size=shape), layer.variable_dtype)
    directions = jax.tree.map(
        lambda a: jnp.asarray(random.normal(size=a.shape), a.dtype), (learned, moving, x)
    )
    return Data(learned, moving, x, factor, directions)


def constant_counter(moving):
    """Take no derivative with respect to the number of batches."""
    import jax

    return [value if value.ndim else jax.lax.stop_gradient(value) for value in moving]


def losses(call, data, training=True):
    """Return functions of (learned, moving, x): of the outputs, of the new statistics, of both."""
    import jax.numpy as jnp

    def of_outputs(learned, moving, x):
        y, _ = call(learned, constant_counter(moving), x, training=training)
        return jnp.sum(data.factor * jnp.sin(y.astype(data.factor.dtype)))

    def of_statistics(learned, moving, x):
        _, new = call(learned, constant_counter(moving), x, training=training)
        return sum(jnp.sum(jnp.sin((place + 1) * value)) for place, value in enumerate(new))

    def of_both(*arguments):
        return of_outputs(*arguments) + of_statistics(*arguments)

    return of_outputs, of_statistics, of_both


# --- one function for each transformation: (call, data) -> arrays ---------------------------------


def grad_of_jit(call, data):
    import jax

    jitted = jax.jit(call, static_argnames="training")
    return jax.grad(losses(jitted, data)[2], argnums=(0, 1, 2))(*data[:3])


def jit_of_grad(call, data):
    import jax

    return jax.jit(jax.grad(losses(call, data)[0], argnums=(0, 2)))(*data[:3])


def value_and_grad_with_statistics(call, data):
    import jax
    import jax.numpy as jnp

    def loss(learned, moving, x):
        y, new = call(learned, moving, x)
        return jnp.sum(data.factor * jnp.sin(y)), new

    return jax.jit(jax.value_and_grad(loss, has_aux=True, argnums=(0, 2)))(*data[:3])


def gradient_of_new_statistics(call, data):
    import jax

    return jax.jit(jax.grad(losses(call, data)[1], argnums=2))(*data[:3])


def _gradient_of_statistic(place, call, data):
    import jax

    def loss(x):
        return (call(data.learned, data.moving, x)[1][place] ** 3).sum()

    return jax.jit(jax.grad(loss))(data.x)


gradient_of_the_new_mean = partial(_gradient_of_statistic, 0)
gradient_of_the_new_variance = partial(_gradient_of_statistic, 1)


def gradient_of_old_statistics(call, data):
    import jax

    return jax.jit(jax.grad(losses(call, data)[2], argnums=1))(*data[:3])


def gradient_of_old_statistics_in_inference(call, data):
    import jax

    return jax.jit(jax.grad(losses(call, data, training=False)[2], argnums=1))(*data[:3])


def jvp(call, data, training=True):
    import jax

    def function(learned, moving, x):
        return call(learned, constant_counter(moving), x, training=training)

    return jax.jit(lambda *tangents: jax.jvp(function, data[:3], tangents))(*data.directions)


jvp_in_inference = partial(jvp, training=False)


def linearize(call, data):
    import jax

    value, linear = jax.linearize(jax.jit(call), *data[:3])
    return value, linear(*data.directions)


def jacfwd(call, data):
    import jax

    return jax.jit(jax.jacfwd(call, argnums=(0, 2)))(*data[:3])


def jacrev(call, data):
    import jax

    return jax.jit(jax.jacrev(call, argnums=(0, 2)))(*data[:3])


def hessian(call, data):
    import jax

    return jax.jit(jax.hessian(losses(call, data)[2], argnums=(0, 2)))(*data[:3])


def jvp_of_grad(call, data, x=None):
    import jax

    gradient = jax.grad(losses(call, data)[2], argnums=(0, 2))
    arguments = (*data[:2], data.x if x is None else x)
    return jax.jit(lambda *given: jax.jvp(gradient, given, data.directions))(*arguments)


def grad_of_grad(call, data):
    import jax
    import jax.numpy as jnp

    gradient = jax.grad(losses(call, data)[2], argnums=2)

    def projected(learned, moving, x):
        return jnp.sum(gradient(learned, moving, x) * data.directions[2])

    return jax.jit(jax.grad(projected, argnums=(0, 2)))(*data[:3])


def cond(call, data):
    import jax

    def either(learned, moving, x):
        branches = partial(call, training=True), partial(call, training=False)
        return jax.lax.cond(x[0, 0, 0] < 1e9, *branches, learned, moving, x)

    return jax.jit(jax.grad(losses(_ignoring_training(either), data)[2], argnums=(0, 2)))(*data[:3])


def checkpoint(call, data):
    import jax

    again = _ignoring_training(jax.checkpoint(call))
    return jax.jit(jax.grad(losses(again, data)[2], argnums=(0, 2)))(*data[:3])


def checkpoint_of_jit(call, data):
    import jax

    again = _ignoring_training(jax.checkpoint(jax.jit(call)))
    return jax.grad(losses(again, data)[2], argnums=(0, 2))(*data[:3])


def _ignoring_training(call):
    return lambda learned, moving, x, training=True: call(learned, moving, x)


def _several(data):
    """Return three batches of inputs and three sets of weights."""
    import jax

    def stack(values):
        return jax.numpy.stack([values, 1.2 * values, 0.7 * values**2])

    scalars = jax.tree.map(lambda a: stack(a) if a.ndim else stack(a) * 0 + a, data[:2])
    return stack(data.x), scalars


def vmap(call, data, training=True):
    import jax

    function = jax.vmap(partial(call, data.learned, data.moving, training=training))
    return jax.jit(function)(_several(data)[0])


vmap_in_inference = partial(vmap, training=False)


def vmap_over_weights(call, data):
    import jax

    return jax.jit(jax.vmap(call, in_axes=(0, 0, None)))(*_several(data)[1], data.x)


def vmap_of_grad(call, data):
    import jax

    gradient = jax.grad(losses(call, data)[2], argnums=(0, 2))
    return jax.jit(jax.vmap(partial(gradient, data.learned, data.moving)))(_several(data)[0])


def vmap_of_grad_over_weights(call, data):
    import jax

    gradient = jax.grad(losses(call, data)[2], argnums=(0, 2))
    return jax.jit(jax.vmap(gradient, in_axes=(0, 0, None)))(*_several(data)[1], data.x)


def vmap_of_jvp(call, data):
    import jax

    def along(x):
        return jax.jvp(call, (*data[:2], x), data.directions)

    return jax.jit(jax.vmap(along))(_several(data)[0])


def vmap_of_jvp_of_grad(call, data):
    import jax

    return jax.jit(jax.vmap(partial(jvp_of_grad, call, data)))(_several(data)[0])


def jvp_of_vmap(call, data):
    import jax

    function = jax.vmap(partial(call, data.learned, data.moving))
    x = _several(data)[0]
    return jax.jit(lambda x: jax.jvp(function, (x,), (x * x,)))(x)


def vmap_over_masks(call, data):
    import jax

    masks = np.random.default_rng(8).uniform(size=(3, *SHAPE[:2])) < 0.6
    masks[:, :, 0] = True
    gradients = []
    for training in (True, False):

        def loss(mask, x, training=training):
            masked = partial(call, mask=mask)
            return losses(masked, data, training)[2](*data[:2], x)

        gradients.append(jax.jit(jax.vmap(jax.grad(loss, argnums=1)))(masks, _several(data)[0]))
    return gradients


def _train(call, data, batches):
    """Take a step of gradient descent for each batch; the statistics are a part of the carry."""
    import jax

    def loss(learned, moving, x):
        y, moving = call(learned, moving, x)
        return jax.numpy.sum(data.factor * jax.numpy.sin(y)), moving

    def step(carry, x):
        learned, moving = carry
        gradient = jax.value_and_grad(loss, argnums=(0, 2), has_aux=True)
        (value, moving), (slopes, d_x) = gradient(learned, moving, x)
        learned = jax.tree.map(lambda weight, slope: weight - 0.01 * slope, learned, slopes)
        return (learned, moving), (value, d_x)

    return jax.lax.scan(step, (data.learned, data.moving), batches)


def scan(call, data):
    import jax

    return jax.jit(partial(_train, call, data))(_several(data)[0])


def grad_of_scan(call, data):
    """Differentiate through two training steps, and through the statistics they leave."""
    import jax

    def loss(batches):
        (learned, moving), _ = _train(call, data, batches)
        leaves = [*learned, *moving]
        return sum((leaf**2).sum() for leaf in leaves)

    return jax.jit(jax.grad(loss))(_several(data)[0][:2])


# --- the process ----------------------------------------------------------------------------------


def largest_difference(ours, theirs):
    """Return max |ours - theirs| / (1 + max |theirs|) over the leaves, and the largest value."""
    import jax

    largest, size = 0.0, 0.0
    if jax.tree.structure(ours) != jax.tree.structure(theirs):
        raise AssertionError("the two results differ in structure")
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        one, other = np.asarray(one, "float64"), np.asarray(other, "float64")
        if one.shape != other.shape:
            raise AssertionError(f"shape {one.shape} instead of {other.shape}")
        if not np.isfinite(other).all():
            raise AssertionError("Keras' result is not finite")
        if other.size:
            off = np.abs(one - other).max() / (1 + np.abs(other).max())
            largest = max(largest, off if off == off else np.inf)
            size = max(size, np.abs(other).max())
    return float(largest), float(size)


def attempt(function, *arguments):
    """Return the result and None, or None and the error."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def compare(kind, name):
    """Apply one transformation to both calls."""
    ours, theirs, data = make(kind)
    transform = globals()[name]
    expected, their_error = attempt(transform, theirs, data)
    actual, our_error = attempt(transform, ours, data)
    result = {"theirs": their_error, "ours": our_error}
    if not (their_error or our_error):
        pair, error = attempt(largest_difference, actual, expected)
        result["ours"] = error
        if pair is not None:
            result["difference"], result["size"] = pair
    return result


def debug_nans(kind):
    """Run forward and backward while JAX raises at any NaN; return the error of each, or None."""
    import jax

    ours, theirs, data = make(kind)
    results = []
    jax.config.update("jax_debug_nans", True)
    try:
        for call in (theirs, ours):

            def run(call=call):
                for training in (True, False):
                    call(*data[:3], training=training)
                    gradient = jax.jit(jax.grad(losses(call, data, training)[0], argnums=(0, 2)))
                    jax.block_until_ready(gradient(*data[:3]))

            results.append(attempt(run)[1])
    finally:
        jax.config.update("jax_debug_nans", False)
    return dict(zip(("theirs", "ours"), results, strict=True))


def kept(kind, training, compiled, shape=SHAPE):
    """Return the sizes and dtypes of what waits for the backward pass, and which of it is x."""
    import jax

    ours, _, data = make(kind, shape)

    def pull_back(learned, x):
        return jax.vjp(lambda learned, x: ours(learned, data.moving, x, training)[0], learned, x)[1]

    leaves = jax.tree.leaves((jax.jit(pull_back) if compiled else pull_back)(data.learned, data.x))
    return {
        "x": int(data.x.size),
        "channels": shape[KINDS[kind].get("axis", -1)],
        "leaves": [
            {
                "size": int(leaf.size),
                "bytes": int(leaf.size * leaf.dtype.itemsize),
                "is_x": leaf.size == data.x.size
                and leaf.dtype == data.x.dtype
                # A layout of its own may order them in another way.
                and bool((np.sort(leaf, axis=None) == np.sort(data.x, axis=None)).all()),
            }
            for leaf in leaves
        ],
    }


def main(path, cases):
    """Run everything and write the results as JSON."""
    import jax
    import keras

    # Keras divides masked sums by n + this: without it, both compute the same number.
    keras.config.set_epsilon(1e-30)
    results = {}
    for kind, name in cases:
        if kind != "float64":
            results[f"{kind} {name}"] = compare(kind, name)
    if cases is CASES:
        results["debug_nans"] = {kind: debug_nans(kind) for kind in DEBUGGED}
        results["kept"] = {
            f"{kind} {training} {compiled}": kept(kind, training, compiled)
            for kind in KEPT
            for training in (True, False)
            for compiled in (True, False)
        }
        results["kept"]["large"] = kept("plain", True, True, (64, 256, 32))
    jax.config.update("jax_enable_x64", True)
    for kind, name in cases:
        if kind == "float64":
            results[f"{kind} {name}"] = compare(kind, name)
    Path(path).write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], {"default": CASES, "slow": SLOW_CASES}[sys.argv[2]])
