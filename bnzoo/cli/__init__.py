"""The command line: one thin function per command, the real work imported inside it."""

from bnzoo.cli.app import main

__all__ = ["main"]
