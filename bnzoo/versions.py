"""What versions of Keras and TensorFlow differ in: all of it, and until when.

Older ones lack a feature: each branch names the version from which on it can go. Newer ones may
lose a private name of theirs that we use: `private` finds it, or warns once, and the caller does
without.
"""

import importlib
import inspect
import warnings
from functools import cache
from typing import Any

import keras


def private(owner: object, name: str, without: str) -> Any:
    """Return a private attribute of Keras or TensorFlow, or None where it has none.

    Args:
        owner: what has the attribute, or the name of its module.
        name: of the attribute.
        without: what happens without it, as a sentence for the one warning.

    Returns:
        The attribute, or None.

    Example:
        >>> private(keras.Layer(), "_flatten_layers", "Nested layers are not looked at.") is None
        False
    """
    where = owner if isinstance(owner, str) else type(owner).__name__
    if isinstance(owner, str):
        try:
            owner = importlib.import_module(owner)
        except ImportError:
            owner = None
    found = getattr(owner, name, None)
    if found is None:
        _warn_once(f"{where}.{name}", without)
    return found


@cache
def _warn_once(name: str, without: str) -> None:
    warnings.warn(
        f"bnzoo uses {name}, which this TensorFlow and Keras {keras.version()} do not have. "
        f"{without} A newer bnzoo may know another way.",
        stacklevel=3,
    )


class _WithRenorm(keras.layers.BatchNormalization):
    """Keras' layer before 3.14, with the arguments and weights of batch renormalization."""

    def __init__(self, *args, renorm=False, renorm_clipping=None, renorm_momentum=0.99, **kwargs):
        super().__init__(*args, **kwargs)
        self.renorm = renorm
        self.renorm_clipping = renorm_clipping
        self.renorm_momentum = renorm_momentum

    def build(self, input_shape):
        """Create Keras' weights and, with renorm, those of 3.14 in its order."""
        super().build(input_shape)
        if not self.renorm:
            return
        shape, mean = (input_shape[self.axis],), _cloned(self.moving_mean_initializer)

        def stddev(shape, dtype=None):
            variance = _cloned(self.moving_variance_initializer)
            return keras.ops.sqrt(variance(shape, dtype=dtype))

        for name, initializer in (
            ("moving_stddev", stddev),
            ("renorm_mean", mean),
            ("renorm_stddev", stddev),
        ):
            options = {"name": name, "trainable": False, "autocast": False}
            setattr(self, name, self.add_weight(shape, initializer, **options))

    def get_config(self):
        """Return the arguments of the constructor; without renorm this Keras' layer reads them."""
        names = ("renorm", "renorm_clipping", "renorm_momentum") if self.renorm else ()
        return super().get_config() | {name: getattr(self, name) for name in names}


def _cloned(initializer):
    """Return an initializer that starts again: a seeded one draws the same numbers once more."""
    if not isinstance(initializer, keras.initializers.Initializer):
        return initializer
    return type(initializer).from_config(initializer.get_config())


# Until the floor is Keras 3.14.
_HAS_RENORM = "renorm" in inspect.signature(keras.layers.BatchNormalization).parameters
KerasBatchNormalization = keras.layers.BatchNormalization if _HAS_RENORM else _WithRenorm
"""Keras' layer, or the nearest to 3.14's that an older Keras gives."""
