"""The processes of one distributed run, which `TF_CONFIG` names. It needs no TensorFlow.

Launchers write that variable: Kubeflow's training operator on Kubernetes, and on Slurm
`tf.distribute.cluster_resolver.SlurmClusterResolver` or a line of a batch script.
"""

import dataclasses
import json
import os
from typing import Any

from bnzoo.errors import InputError

VARIABLE = "TF_CONFIG"
EXAMPLE = (
    '{"cluster": {"worker": ["host-a:2222", "host-b:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Where this process stands among those of a run.

    Attributes:
        worker: number of this one; 0 is the chief, which writes the files.
        num_workers: how many there are.
    """

    worker: int = 0
    num_workers: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.worker == 0


def cluster_for(distribute: str) -> Cluster:
    """Return the cluster of a run; only `multi_worker` looks at the environment.

    Args:
        distribute: `train.distribute` of its config.

    Raises:
        InputError: `TF_CONFIG` is missing, or says nothing that can be used.
    """
    if distribute != "multi_worker":
        return Cluster()
    text = os.environ.get(VARIABLE)
    if not text:
        raise _unusable("nothing")
    try:
        return _cluster(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unusable(text if len(text) < 300 else f"{text[:300]}...") from None


def _cluster(tree: dict[str, Any]) -> Cluster:
    """Return where a task stands; a chief, where there is one, comes before the workers."""
    addresses = {role: tree["cluster"].get(role, []) for role in ("chief", "worker")}
    every = [*addresses["chief"], *addresses["worker"]]
    role, index = tree["task"]["type"], int(tree["task"]["index"])
    mine = addresses[role]  # an evaluator or a parameter server has no part in this
    is_whole = every and all(
        one.rpartition(":")[0] and one.rpartition(":")[2].isdigit() for one in every
    )
    if not is_whole or len({*every}) < len(every) or not 0 <= index < len(mine):
        raise ValueError
    first = len(addresses["chief"]) if role == "worker" else 0
    return Cluster(first + index, len(every))


def _unusable(received: str) -> InputError:
    return InputError(
        f"{VARIABLE}: expected JSON with the addresses of all workers in cluster.worker, and which "
        f"of them this is in task.type and task.index, for train.distribute: multi_worker; got "
        f"{received}. A launcher sets it, for example {EXAMPLE}; or set train.distribute: none."
    )
