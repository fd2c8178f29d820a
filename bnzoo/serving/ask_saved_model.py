"""Ask an exported model, in a process of its own: `ask_saved_model.py EXPORT IN.npz OUT.npz`.

It needs TensorFlow and NumPy only, as any server does, and must import nothing of bnzoo.
"""

import os
import sys

# The process that waits for this one may hold the same GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import numpy as np
import tensorflow as tf


def main() -> None:
    """Answer each array of IN.npz through `serving_default`; OUT.npz has an array per output."""
    export, asked, answered = sys.argv[1:]
    serve = tf.saved_model.load(export).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    with np.load(asked) as batches:
        answers = [serve(**{name: tf.constant(batches[key])}) for key in batches.files]
    joined = {key: np.concatenate([answer[key] for answer in answers]) for key in answers[0]}
    np.savez(answered, **{key: values.astype("float32") for key, values in joined.items()})


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # to stdout: on stderr TensorFlow logs
        print(type(error).__name__, *str(error).splitlines()[:1], sep=": ")
        sys.exit(1)
