"""Initializers made from initializers."""

from keras import initializers, ops


def copy_of(initializer):
    """Copy an initializer: a seeded one must not be asked twice for the same weight's values."""
    return initializer.clone() if isinstance(initializer, initializers.Initializer) else initializer


def root_of(initializer):
    """Make an initializer whose values are the roots of another's."""

    def root(shape, dtype=None):
        return ops.sqrt(copy_of(initializer)(shape, dtype=dtype))

    return root
