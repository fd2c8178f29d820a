"""Measure what folding and batching bring, and what the server costs.

    python scripts/bench_serving.py --rounds 15

Contenders take turns within each round, and each round swaps who goes first. The first round is
thrown away. The network is `three_conv` at its published size.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import keras
import numpy as np
import tensorflow as tf
from serving_load import GrpcClient, grpc_request, running_server
from tritonclient.grpc import service_pb2_grpc

import bnzoo
from bnzoo.environment import machine, versions

RESULTS = Path(__file__).parent.parent / "configs" / "results" / "bench_serving.json"
SHAPE = (32, 32, 1)
CALLS = {1: 200, 32: 40}  # by batch size: calls of each contender in a round
SECONDS = 2.0  # of load in a round
CLIENTS = 32
TARGETS = {
    "folded, before, batch 1": 1.1,
    "folded, before, batch 32": 1.3,
    "folded, after, batch 1": 1.0,
    "folded, after, batch 32": 1.0,
    "server_above_signature_ms": 3.0,
    "batching_throughput_ratio": 3.0,
}


def exports(folder: Path) -> dict[str, Path]:
    """Export `three_conv`, folded and not, with batch normalization before and after ReLU."""
    found = {}
    for placement in ("before", "after"):
        keras.utils.set_random_seed(0)
        model = bnzoo.models.build("three_conv", placement)
        for name, fold in (("folded", True), ("unfolded", False)):
            path = folder / f"{placement}_{name}"
            found[f"{placement} {name}"] = bnzoo.export_saved_model(model, path, fold=fold)
    return found


def median_ms(call, number: int) -> float:
    """Return the median milliseconds of a call."""
    taken = []
    for _ in range(number):
        started = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - started))
    return statistics.median(taken)


def in_turns(contenders: dict, rounds: int) -> dict[str, list[float]]:
    """Measure contenders round by round, and leave out the first."""
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for position in range(rounds + 1):
        for name in sorted(contenders, reverse=bool(position % 2)):
            figures[name].append(contenders[name]())
    return {name: [round(value, 4) for value in values[1:]] for name, values in figures.items()}


def caller(export: Path, batch: int):
    """Return a function that asks the bare signature of an export and waits for its answer."""
    loaded = tf.saved_model.load(str(export))
    signature = loaded.signatures["serving_default"]
    values = tf.constant(np.random.default_rng(0).random((batch, *SHAPE)), tf.float32)

    def call(keep=loaded) -> None:
        signature(inputs=values)["logits"].numpy()

    return call


def compare_folding(found: dict[str, Path], rounds: int) -> dict:
    """Measure folded against unfolded signatures."""
    results = {}
    for placement in ("before", "after"):
        for batch, number in CALLS.items():
            calls = {
                name: caller(found[f"{placement} {name}"], batch) for name in ("folded", "unfolded")
            }
            figures = in_turns(
                {name: lambda c=call, n=number: median_ms(c, n) for name, call in calls.items()},
                rounds,
            )
            medians = {name: statistics.median(values) for name, values in figures.items()}
            results[f"folded, {placement}, batch {batch}"] = {
                "median_ms_by_round": figures,
                "median_ms": medians,
                "ratio": medians["unfolded"] / medians["folded"],
            }
    return results


def compare_latency(export: Path, folder: Path, rounds: int) -> dict:
    """Measure a request over gRPC against a call of the bare signature, one client at a time."""
    values = np.random.default_rng(0).random((1, *SHAPE)).astype("float32")
    with running_server(export.parent, folder / "latency.log") as server:
        client, request = GrpcClient(server.grpc_port), grpc_request(export.parent.name, values)
        calls = {"signature": caller(export, 1), "server": lambda: client.stub.ModelInfer(request)}
        figures = in_turns(
            {name: lambda c=call: median_ms(c, CALLS[1]) for name, call in calls.items()}, rounds
        )
        client.close()
    medians = {name: statistics.median(values) for name, values in figures.items()}
    above = medians["server"] - medians["signature"]
    return {"median_ms_by_round": figures, "median_ms": medians, "above_ms": above}


def throughput(port: int, request, clients: int, seconds: float) -> float:
    """Return requests per second of so many clients, each of which waits for its answer."""

    async def load() -> float:
        # gRPC would keep the connection, and its event loop, of the last time.
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            await stub.ModelInfer(request)
            answered, begun = 0, time.perf_counter()

            async def ask() -> None:
                nonlocal answered
                while time.perf_counter() - begun < seconds:
                    await stub.ModelInfer(request)
                    answered += 1

            await asyncio.gather(*[ask() for _ in range(clients)])
            return answered / (time.perf_counter() - begun)

    return asyncio.run(load())


def compare_throughput(export: Path, folder: Path, rounds: int) -> dict:
    """Measure 32 clients of a server that batches against one of a server that does not."""
    values = np.random.default_rng(0).random((1, *SHAPE)).astype("float32")
    request = grpc_request(export.parent.name, values)
    with contextlib.ExitStack() as stack:
        ports = {
            name: stack.enter_context(
                running_server(export.parent, folder / f"{name}.log", "--batch", size)
            ).grpc_port
            for name, size in (("batching", "32"), ("alone", "1"))
        }
        contenders = {
            "batching, 32 clients": ("batching", CLIENTS),
            "alone, 32 clients": ("alone", CLIENTS),
            "alone, 1 client": ("alone", 1),
            "batching, 1 client": ("batching", 1),
        }
        figures = in_turns(
            {
                name: lambda server=server, clients=clients: throughput(
                    ports[server], request, clients, SECONDS
                )
                for name, (server, clients) in contenders.items()
            },
            rounds,
        )
    medians = {name: statistics.median(values) for name, values in figures.items()}
    return {
        "requests_per_second_by_round": figures,
        "requests_per_second": medians,
        "ratio": medians["batching, 32 clients"] / medians["alone, 1 client"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds of each contender")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = exports(folder)
        folding = compare_folding(found, arguments.rounds)
        latency = compare_latency(found["before folded"], folder, arguments.rounds)
        together = compare_throughput(found["before folded"], folder, arguments.rounds)
    reached = {case: result["ratio"] for case, result in folding.items()} | {
        "server_above_signature_ms": latency["above_ms"],
        "batching_throughput_ratio": together["ratio"],
    }
    report = {
        "command": " ".join(["python", "scripts/bench_serving.py", *sys.argv[1:]]),
        "machine": {**machine(), "load": load},
        "versions": versions(),
        "targets": TARGETS,
        "reached": reached,
        "folding": folding,
        "latency": latency,
        "throughput": together,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    for case, target in TARGETS.items():
        is_met = reached[case] <= target if case.endswith("_ms") else reached[case] >= target
        print(f"{case:32} {reached[case]:7.2f}  target {target}{'' if is_met else '  MISSED'}")
    print({name: round(value) for name, value in together["requests_per_second"].items()})


if __name__ == "__main__":
    main()
