"""Exported models behind the Open Inference Protocol, on MLServer (extra `serve`)."""
