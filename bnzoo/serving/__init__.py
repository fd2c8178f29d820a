"""From a trained model to one that a server can hold."""

from bnzoo.serving.export import export_saved_model, export_source

__all__ = ["export_saved_model", "export_source"]
