"""Ask an exported model, in a process of its own: `ask_saved_model.py EXPORT IN.npz OUT.npz`.

It needs TensorFlow and NumPy only, as any server does, and must import nothing of bnzoo.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# The process that waits for this one may hold the same GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import numpy as np
import tensorflow as tf


def main() -> None:
    """Answer each array `N` of IN.npz through `serving_default` with arrays `N/OUTPUT`."""
    export, asked, answered = sys.argv[1:]
    serve = tf.saved_model.load(export).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    answers = {}
    with np.load(asked) as batches:
        for key in batches.files:
            answer = serve(**{name: tf.constant(batches[key])})
            answers |= {f"{key}/{output}": value.numpy() for output, value in answer.items()}
    np.savez(answered, **answers)


if __name__ == "__main__":
    main()
