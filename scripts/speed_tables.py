"""The README's tables of speed, from what the benchmarks recorded."""

KERAS, OLD, TORCH = "keras 3", "keras 2", "pytorch"
MODEL_COLUMNS = ("ours", "keras", "keras 2", "pytorch", "none")


def layer_lines(result: dict | None, on_gpu: dict | None) -> list[str]:
    """Return the section on one layer: forward, backward and moving update.

    Args:
        result: of `scripts/bench_batch_norm.py`, or None: not recorded.
        on_gpu: the same from a GPU by way of JAX, or None.
    """
    if result is None:
        return ["The layer's speed was not measured yet (`scripts/bench_batch_norm.py`)."]
    cases = [case for case in result["cases"] if case["kind"] == "train"]
    shown = [case for case in cases if not case["batch_unknown"] or not _static(case, cases)]
    lines = [
        "| input, training step of the layer | ms | / Keras 3 | aim | / Keras 2 | / PyTorch "
        "| batch None / Keras 3 |",
        "|---|---|---|---|---|---|---|",
        *(_row(case, cases) for case in shown),
    ]
    passes = [case["ms"]["ours"] / case["copy_ms"] for case in cases if _is_first(case)]
    lines += [
        "",
        f"At 128x32x32x64 it takes {passes[0]:.2f} times as long as copying the activation's memory"
        " four times would (8 passes),",
        f"at the {_bandwidth(cases):.0f} GB/s measured in the same run. On an NVIDIA GPU: "
        f"{'see below' if on_gpu else 'not measured yet'}.",
    ]
    return lines


def model_lines(result: dict | None) -> list[str]:
    """Return the section on whole networks: one step of `model.fit`."""
    if result is None:
        return ["Steps of `model.fit` were not measured yet (`scripts/bench_model.py`)."]
    return [
        "| step of `fit`, ms | ours | Keras 3 | Keras 2 | PyTorch | no BN | / Keras 3 | aim "
        "| BN costs | 8 passes |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_model_row(case) for case in result["cases"]),
    ]


def inference_lines(result: dict | None) -> list[str]:
    """Return the table of inference and of the forward pass alone."""
    if result is None:
        return []
    lines = ["| input | ms | / Keras 3 | / Keras 2 | / PyTorch |", "|---|---|---|---|---|"]
    for case in result["cases"]:
        if case["kind"] != "train":
            lines.append(
                f"| {case['name']} | {case['ms']['ours']:.3f} | {_ratio(case, KERAS)} "
                f"| {_ratio(case, OLD)} | {_ratio(case, TORCH)} |"
            )
    return lines


def _model_row(case: dict) -> str:
    ms = case["ms_per_step"]
    cells = [f"{ms[name]:.2f}" if name in ms else "" for name in MODEL_COLUMNS]
    cost, aim = ms["ours"] - ms["none"], f"{case['target']}x" if case["target"] else ""
    passes = f"{case['passes_ms']:.2f}" if "passes_ms" in case else ""
    return (
        f"| {case['name']} | {' | '.join(cells)} | {ms['keras'] / ms['ours']:.2f}x | {aim} "
        f"| {cost:.2f} ({100 * cost / ms['none']:+.0f} %) | {passes} |"
    )


def _row(case: dict, cases: list[dict]) -> str:
    aim = f"{case['target']}x" if case["target"] else ""
    same = [other for other in cases if other["batch_unknown"] and _static(other, cases) is case]
    unknown = _ratio(same[0], KERAS) if same else ""
    name = case["name"].removeprefix("train ").replace(" float32, graph", "")
    return (
        f"| {name} | {case['ms']['ours']:.3f} | {_ratio(case, KERAS)} | {aim} "
        f"| {_ratio(case, OLD)} | {_ratio(case, TORCH)} | {unknown} |"
    )


def _static(case: dict, cases: list[dict]) -> dict | None:
    """Find the case that differs only in that its batch is known."""
    keys = ("kind", "shape", "axis", "dtype", "xla")
    for other in cases:
        if not other["batch_unknown"] and all(other[key] == case[key] for key in keys):
            return other
    return None


def _ratio(case: dict, name: str) -> str:
    ms = case["ms"]
    return f"{ms[name] / ms['ours']:.2f}x" if name in ms else ""


def _is_first(case: dict) -> bool:
    plain = case["dtype"] == "float32" and not case["xla"] and not case["batch_unknown"]
    return plain and case["shape"] == [128, 32, 32, 64]


def _bandwidth(cases: list[dict]) -> float:
    return next(case["copy_gb_per_second"] for case in cases if _is_first(case))
