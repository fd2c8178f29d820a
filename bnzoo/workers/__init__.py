"""A pool of processes on this machine, for studies and sweeps. Importing it starts no TensorFlow.

A room of its own: neither `studies` nor `tuning` is the place for what both use.
"""

from bnzoo.workers.pool import Worker, WorkerError, WorkerPool, stop_without_starter

__all__ = ["Worker", "WorkerError", "WorkerPool", "stop_without_starter"]
