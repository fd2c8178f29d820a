"""What was measured of exports and of the server, from what the scripts recorded."""

from recorded import load, origin


def serving_lines() -> list[str]:
    """Return what was measured of exports and of the server, and the parity table."""
    lines = ["## Export and serve", ""]
    bench, attack = load("bench_serving"), load("attack_server")
    soak, parity = load("soak_server"), load("parity")
    if not (bench or attack or soak or parity):
        return []
    if bench:
        lines += [f"`scripts/bench_serving.py`, on {origin(bench)}:", ""]
        lines += ["| | measured | target |", "|---|---|---|"]
        for case, target in bench["targets"].items():
            unit, sign = (" ms", "at most") if case.endswith("_ms") else ("x", "at least")
            name = case.removesuffix("_ms").replace("_", " ")
            lines += [f"| {name} | {bench['reached'][case]:.2f}{unit} | {sign} {target:g}{unit} |"]
        rates = bench["throughput"]["requests_per_second"]
        told = "; ".join(f"{name}: {rate:.0f}" for name, rate in rates.items())
        lines += ["", f"Requests per second: {told}.", ""]
    if attack:
        server = attack["attacks"]["server"]
        lines += [
            f"`scripts/attack_server.py`: {attack['attacks_in_all']:,} malformed requests, and "
            f"{attack['good_requests']:,} good ones meanwhile; {attack['wrong']} wrong answers; "
            f"the server was {'alive' if server['alive_afterwards'] else 'dead'} at the end, its "
            f"memory {server['memory_mb_before']} MB before and {server['memory_mb_after']} MB "
            "after.",
            "",
            f"Beside {attack['flood_connections']} connections that send images of 16.8 million "
            "pixels without a pause, the 99th percentile of a client that asks 10 times a second "
            f"was {attack['flood_p99_ratio']:.2f} times that without (median of "
            f"{len(attack['floods'])} floods).",
            "",
        ]
    if soak:
        times = soak["milliseconds"]
        lines += [
            f"`scripts/soak_server.py`: {soak['requests']:,} requests of {soak['clients']} clients "
            f"in {soak['seconds'] / 60:.0f} minutes, 1 in 20 malformed, beside "
            "2 connections that send images of 16.8 million pixels without a pause; "
            f"{soak['failures_of_good_requests']} good ones failed; median {times['p50']} ms, 99 % "
            f"within {times['p99']} ms; memory at the end {soak['memory_ratio']:.3f} times that "
            "after the first tenth; a new version was found halfway.",
            "",
        ]
    return lines + (parity_table(parity) if parity else [])


def parity_table(parity: dict) -> list[str]:
    """Return how far exports are from `model.predict`."""
    first = parity["rows"][0]
    sizes = ", ".join(str(size) for size in first["batch_sizes"])
    lines = [
        f"`scripts/parity_table.py`: largest |difference| to `model.predict` over the largest "
        f"|answer|, on test data, batches of {sizes}, in new processes (allowed "
        f"{first['allowed']:g}):",
        "",
        "| network | batch norm | `tf.saved_model.load` | `saved_model_cli run` |",
        "|---|---|---|---|",
    ]
    for row in parity["rows"]:
        ways = (row[way] for way in ("tf.saved_model.load", "saved_model_cli"))
        shown = " | ".join(f"{value:.1e}" for value in ways)
        lines += [f"| `{row['model']}` | {row['placement']} | {shown} |"]
    return [*lines, ""]
