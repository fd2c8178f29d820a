"""Ask an exported model, in a process of its own: `ask_saved_model.py EXPORT IN.npz OUT.npz`.

It needs TensorFlow and NumPy only, as any server does, and must import nothing of bnzoo.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf


def main() -> None:
    """Answer each array of IN.npz through `serving_default`; logits if there are, else the rest."""
    export, asked, answered = sys.argv[1:]
    serve = tf.saved_model.load(export).signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    with np.load(asked) as batches:
        answers = [serve(**{name: tf.constant(batches[key])}) for key in batches.files]
    key = next(key for key in ("logits", "probabilities", "outputs") if key in answers[0])
    np.savez(answered, *[tf.cast(answer[key], tf.float32).numpy() for answer in answers])


if __name__ == "__main__":
    main()
