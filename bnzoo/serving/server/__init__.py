"""Exported models behind the Open Inference Protocol, over HTTP and gRPC (extra `serve`)."""
