"""A choice that waits for the batch: one way for many elements, another for few.

In `fit` the batch is unknown when the step is traced, and a matrix of 1024 channels is worth the
fused kernel from some 100 rows on.
"""

import math

from keras import ops

from bnzoo.ops.gradient import Way


def by_size(least: int, many: Way, few: Way) -> Way:
    """Join two ways into one that takes the first from `least` elements on (TensorFlow only).

    Args:
        least: number of elements of the inputs.
        many: the way for at least so many; both need their `blank`.
        few: the way for fewer.

    Returns:
        A way whose saved tensors are a bool and those of both, blank for the one not taken.
    """
    import tensorflow as tf

    def forward(inputs, **tensors):
        enough = math.prod(ops.shape(inputs)) >= least

        def run_many():
            results, saved = many.forward(inputs, **tensors)
            return results, saved, few.blank(inputs)

        def run_few():
            results, saved = few.forward(inputs, **tensors)
            return results, many.blank(inputs), saved

        results, *saved = tf.cond(enough, run_many, run_few)
        return results, (enough, *saved)

    def backward(inputs, saved, upstream, **tensors):
        enough, saved_by_many, saved_by_few = saved
        return tf.cond(
            enough,
            lambda: many.backward(inputs, saved_by_many, upstream, **tensors),
            lambda: few.backward(inputs, saved_by_few, upstream, **tensors),
        )

    return Way(forward, backward)
