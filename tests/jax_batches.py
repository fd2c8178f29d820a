"""What tests/test_layer_jax.py does in its process with whole batches of the layer."""

import exactness
import numpy as np

EXACT_WAYS = [("auto", False), ("auto", True), ("reference", True), ("gpu", True)]
EXACT_LAYOUTS = {
    name: layout
    for name, layout in (exactness.LAYOUTS | exactness.ODD_LAYOUTS).items()
    if name in ("131072 x 1", "131072 x 4, sequences", "100 x 3", "images", "channels first")
}
GUARDED = {
    "auto": {},
    "reference": {"implementation": "reference"},
    "xla": {"implementation": "xla"},
    "ghosts": {"virtual_batch_size": 4},
    "cumulative": {"momentum": None},
    "renorm": {"renorm": True},
}


def beyond_the_bounds():
    """Return, for every way, the layouts and data whose errors are larger than they may be."""
    import jax
    from calls import normalize_batch

    from bnzoo.ops import kernels

    found, on_gpu = {}, kernels.on_gpu
    for implementation, compile_it in EXACT_WAYS:
        # The sums that a GPU would take, here on a CPU.
        kernels.on_gpu = on_gpu if implementation != "gpu" else lambda: True
        implementation = implementation.replace("gpu", "auto")
        for name, (shape, axis) in EXACT_LAYOUTS.items():

            def compute(x, axis=axis, implementation=implementation):
                options = {"axis": axis, "implementation": implementation}
                outputs, _, variance, _ = normalize_batch(x, **options)
                return outputs, variance

            run = jax.jit(compute) if compile_it else compute
            for make in (exactness.noise, exactness.blank_borders, *exactness.ODD):
                beyond = exactness.too_large(run, make, shape, axis)
                if beyond:
                    key = f"{implementation} {compile_it} {name} {make.__name__}"
                    found[key] = str(beyond)
    kernels.on_gpu = on_gpu
    return found


def ghosts_and_cumulative():
    """Return the largest differences of ghosts and of cumulative averages from plain layers'."""
    from bnzoo.layers import BatchNormalization

    random = np.random.default_rng(0)
    x = random.normal(2.0, 3.0, (7, 3, 4)).astype("float32")
    mask = random.uniform(size=(7, 3)) < 0.7
    mask[:, 0] = True
    differences = {}
    for given in (None, mask):
        layer = BatchNormalization(virtual_batch_size=3, momentum=0.0)
        outputs = layer(x, training=True, mask=given)
        parts, means, counts = [], [], []
        for start in (0, 3, 6):
            part = np.s_[start : start + 3]
            alone = BatchNormalization(momentum=0.0)
            counted = None if given is None else given[part]
            parts.append(np.asarray(alone(x[part], training=True, mask=counted)))
            means.append(np.asarray(alone.moving_mean))
            counts.append(x[part].size if given is None else counted.sum())
        expected = np.concatenate(parts), np.average(means, 0, counts)
        pairs = zip((outputs, layer.moving_mean), expected, strict=True)
        off = [float(np.abs(np.asarray(one) - other).max()) for one, other in pairs]
        differences["ghosts" if given is None else "masked ghosts"] = max(off)
    layer = BatchNormalization(momentum=None)
    for part in (x[:4], x[4:]):
        layer(part, training=True)
    expected = (x[:4].mean((0, 1)) + x[4:].mean((0, 1))) / 2
    differences["cumulative"] = float(np.abs(np.asarray(layer.moving_mean) - expected).max())
    differences["counted"] = abs(float(layer.num_batches) - 2)
    return differences


def moved_by_bad_batches():
    """Return whose moving statistics a bad batch moved; the bad value must show in the output."""
    from bnzoo.layers import BatchNormalization

    good = np.random.default_rng(0).normal(1.0, 2.0, (6, 3, 4)).astype("float32")
    moved = []
    for name, arguments in GUARDED.items():
        layer = BatchNormalization(**arguments)
        layer(good, training=True)
        before = [np.asarray(weight).tobytes() for weight in layer.non_trainable_variables]
        for value in (np.nan, np.inf):
            x = good.copy()
            x[1, 1, 1] = value
            shows = np.isnan(np.asarray(layer(x, training=True))).any()
            after = [np.asarray(weight).tobytes() for weight in layer.non_trainable_variables]
            if after != before or not shows:
                moved.append(f"{name} {value}")
        layer(good, training=True, mask=np.zeros((6, 3), bool))
        layer(good[:0], training=True)
        after = [np.asarray(weight).tobytes() for weight in layer.non_trainable_variables]
        if after != before:
            moved.append(f"{name} nothing counts")
    return moved


def count_bad_batches():
    """Fit with the callback: what it counted in two runs, and the weights' names."""
    import warnings

    import keras

    from bnzoo import BadBatches
    from bnzoo.layers import BatchNormalization

    x = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
    x[20] = np.nan
    model = keras.Sequential([keras.Input((4,)), BatchNormalization()])
    model.compile("sgd", "mse")
    names = [weight.path for weight in model.weights]
    counts = []
    for _ in range(2):
        bad = BadBatches()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.fit(x, x, batch_size=8, shuffle=False, verbose=0, callbacks=[bad])
        counts.append(
            [bad.total, sum("bad" in str(w.message) or "met" in str(w.message) for w in caught)]
        )
    return {"counts": counts, "same": names == [weight.path for weight in model.weights]}
