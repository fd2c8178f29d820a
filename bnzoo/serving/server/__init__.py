"""Exported models behind the Open Inference Protocol, on MLServer (extra `serve`)."""

from bnzoo.serving.server.options import ServerOptions
from bnzoo.serving.server.start import run_server

__all__ = ["ServerOptions", "run_server"]
