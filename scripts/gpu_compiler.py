"""XLA's compiler for a GPU, on a machine that has none: what would run, not how long it takes.

JAX's plugin for CUDA compiles for a described device (`pip install bnzoo[gpu-check]`; no driver).
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

PLUGINS = ("jax_plugins.xla_cuda12", "jax_plugins.xla_cuda13")


class Compiler:
    """Compiles for one device.

    Args:
        target: file that describes it: XLA's `GpuTargetConfigProto` as text.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: the plugin is not installed.
    """

    def __init__(self, target: Path):
        if not target.is_file():
            raise FileNotFoundError(
                f"{target}: got no such file, expected the description of a GPU (XLA's "
                "GpuTargetConfigProto as text). Name it with --target."
            )
        if not installed():
            raise ModuleNotFoundError(
                "got no plugin of JAX for CUDA, expected one to compile with: "
                "pip install bnzoo[gpu-check]"
            )
        from jax.experimental import topologies
        from jax.sharding import NamedSharding, PartitionSpec

        topology = topologies.get_topology_desc(
            platform="cuda", target_config=target.read_text(), topology="1x1x1"
        )
        mesh = topologies.make_mesh(topology, (1,), ("replica",))
        self.sharding = NamedSharding(mesh, PartitionSpec())

    def compile(self, function: Callable, *arguments) -> str:
        """Return the scheduled HLO of a function.

        Args:
            function: of JAX.
            *arguments: nested arrays or `jax.ShapeDtypeStruct`; only shape and dtype count.
        """
        import jax

        shapes = jax.tree.map(self._on_device, arguments)
        # What is traced may ask where it will run.
        with patch("jax.default_backend", lambda: "gpu"):
            lowered = jax.jit(function).lower(*shapes)
        return lowered.compile().as_text()

    def _on_device(self, array):
        import jax

        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=self.sharding)


def installed() -> bool:
    """Whether JAX is there, and a plugin to compile with."""
    if not (importlib.util.find_spec("jax") and importlib.util.find_spec("jax_plugins")):
        return False
    return any(importlib.util.find_spec(name) for name in PLUGINS)
