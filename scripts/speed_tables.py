"""The README's tables of speed, from what the benchmarks recorded."""

import math

KERAS, OLD, TORCH = "keras 3", "keras 2", "pytorch"
LARGE = 2**22  # elements from which bytes take time on a GPU
MODEL_COLUMNS = ("ours", "keras", "keras 2", "pytorch", "none")


def layer_lines(result: dict | None, gpu_passes: dict | None) -> list[str]:
    """Return the section on one layer: forward, backward and moving update.

    Args:
        result: of `scripts/bench_batch_norm.py`, or None: not recorded.
        gpu_passes: of `scripts/gpu_passes.py`, or None.
    """
    if result is None:
        return ["The layer's speed was not measured yet (`scripts/bench_batch_norm.py`)."]
    cases = [case for case in result["cases"] if case["kind"] == "train"]
    shown = [case for case in cases if not case["xla"]]
    shown = [case for case in shown if not case["batch_unknown"] or not _static(case, cases)]
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
        f"{_gpu_summary(gpu_passes)}.",
    ]
    return lines


def xla_lines(result: dict | None) -> list[str]:
    """Return the table of one layer in a step that XLA compiles."""
    if result is None:
        return []
    cases = [case for case in result["cases"] if case["kind"] == "train"]
    return [
        "| input, training step under XLA | ms | / Keras 3 | aim | / Keras 2 | / PyTorch "
        "| batch None / Keras 3 |",
        "|---|---|---|---|---|---|---|",
        *(_row(case, cases) for case in cases if case["xla"]),
    ]


def gpu_lines(result: dict | None) -> list[str]:
    """Return the tables of what a GPU would read and write, as XLA compiled it for one."""
    if result is None:
        return []
    lines = []
    for framework in dict.fromkeys(case["framework"] for case in result["cases"]):
        cases = [case for case in result["cases"] if case["framework"] == framework]
        rows = dict.fromkeys((case["kind"], tuple(case["shape"])) for case in cases)
        name = {"jax": "JAX", "tensorflow": "TensorFlow's HLO under JAX's compiler"}[framework]
        lines += [
            f"| {name}: ours / Keras 3 | float32 | + ReLU | bfloat16 | + ReLU | kernels |",
            "|---|---|---|---|---|---|",
            *(_gpu_row(kind, shape, cases) for kind, shape in rows),
            "",
        ]
    return lines[:-1]


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


def _gpu_summary(result: dict | None) -> str:
    """Say in a few words what the compiled programs move."""
    if result is None:
        return "not measured yet"
    ends = []
    for name in ("ours", "keras"):
        found = [
            case["bytes_over_x"]
            for case in result["cases"]
            if case["framework"] == "jax"
            and case["contender"] == name
            and case["kind"] == "layer"
            and math.prod(case["shape"]) >= LARGE
        ]
        ends += [min(found), max(found)]
    return (
        "compiled for an H200, not run,\nit moves {:.1f} to {:.1f} times the bytes of a large "
        "input, Keras 3 {:.1f} to {:.1f} (least possible: 8)"
    ).format(*ends)


def _gpu_row(kind: str, shape: tuple, cases: list[dict]) -> str:
    """Return bytes over bytes of x of one shape, and the most kernels."""
    own = [case for case in cases if case["kind"] == kind and tuple(case["shape"]) == shape]
    cells = []
    for dtype in ("float32", "bfloat16"):
        for relu in (False, True):
            pair = {
                case["contender"]: f"{case['bytes_over_x']:.2f}"
                for case in own
                if case["dtype"] == dtype and case["relu"] == relu
            }
            cells.append(f"{pair['ours']} / {pair['keras']}" if pair else "")
    kernels = [
        max(case["kernels"] for case in own if case["contender"] == name)
        for name in ("ours", "keras")
    ]
    name = "x".join(map(str, shape)) if kind == "layer" else f"{kind} block, {shape[0]}"
    return f"| {name} | {' | '.join(cells)} | {kernels[0]} / {kernels[1]} |"


def _is_first(case: dict) -> bool:
    plain = case["dtype"] == "float32" and not case["xla"] and not case["batch_unknown"]
    return plain and case["shape"] == [128, 32, 32, 64]


def _bandwidth(cases: list[dict]) -> float:
    return next(case["copy_gb_per_second"] for case in cases if _is_first(case))
