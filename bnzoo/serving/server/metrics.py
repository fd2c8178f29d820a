"""Prometheus metrics of the server."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bnzoo.serving.server.decoding import Decoder
from bnzoo.serving.server.limits import Refused, Traffic

_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """What is counted, in a registry of its own.

    `model` and `version` are what answered, so a name that nobody serves leaves nothing behind.
    """

    def __init__(self, traffic: Traffic, decoder: Decoder):
        self.registry = CollectorRegistry()
        labels, registry = ["model", "version"], self.registry
        self._requests = Counter(
            "bnzoo_requests",
            "Inference requests, by the status of HTTP that they got or that is like gRPC's.",
            [*labels, "protocol", "status"],
            registry=registry,
        )
        self._refused = Counter(
            "bnzoo_refused",
            "Requests that were refused, for whatever reason, also before a model was found.",
            ["protocol", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "bnzoo_request_seconds",
            "From a parsed request to its answer, decoding and waiting included.",
            labels,
            registry=registry,
        )
        self._rows = Histogram(
            "bnzoo_batch_rows", "Rows computed together.", labels, buckets=_ROWS, registry=registry
        )
        for name, budget in (("body_bytes", traffic.bodies), ("image_pixels", decoder.pixels)):
            words = f"{budget.unit.capitalize()} in flight."
            gauge = Gauge(f"bnzoo_{name}_in_flight", words, registry=registry)
            gauge.set_function(lambda budget=budget: budget.used)

    @contextlib.contextmanager
    def request(self, model: str, version: str, protocol: str) -> Iterator[None]:
        """Count a request and time it."""
        started, status = time.perf_counter(), 500
        try:
            yield
            status = 200
        except Refused as refused:
            status = refused.status.value
            raise
        except asyncio.CancelledError:
            status = 499  # as nginx has it: the client has gone away
            raise
        finally:
            self._requests.labels(model, version, protocol, status).inc()
            self._seconds.labels(model, version).observe(time.perf_counter() - started)

    def refused(self, protocol: str, status: int) -> None:
        """Count a request that is refused."""
        self._refused.labels(protocol, status).inc()

    def batch(self, model: str, version: str, rows: int) -> None:
        """Count rows that are computed together."""
        self._rows.labels(model, version).observe(rows)
