"""Ask an exported model, in a process of its own: `ask_saved_model.py EXPORT FOLDER`.

It needs TensorFlow only, as any server does, and must import nothing of bnzoo.
"""

import os
import sys
from pathlib import Path

# The process that waits for this one may hold the same GPU.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import tensorflow as tf


def main() -> None:
    """Answer each FOLDER/*.input by `serving_default`; FOLDER/NAME.output has all of an output.

    The files hold `TensorProto`s.
    """
    export, folder = sys.argv[1:]
    serve = tf.saved_model.load(export).signatures["serving_default"]
    ((name, spec),) = serve.structured_input_signature[1].items()
    files = sorted(Path(folder).glob("*.input"))
    batches = [tf.io.parse_tensor(file.read_bytes(), spec.dtype) for file in files]
    answers = [serve(**{name: batch}) for batch in batches]
    for key in answers[0]:
        joined = tf.concat([answer[key] for answer in answers], axis=0)
        Path(folder, f"{key}.output").write_bytes(tf.io.serialize_tensor(joined).numpy())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # to stdout: on stderr TensorFlow logs
        print(type(error).__name__, *str(error).splitlines()[:1], sep=": ")
        sys.exit(1)
