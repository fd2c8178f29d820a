"""Sweeps over the keys of a config. Importing this starts no TensorFlow."""

import os

# What gRPC's C++ side would write to the standard error is raised as an error that says more.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
