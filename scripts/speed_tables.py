"""The README's tables of speed, from what the benchmarks recorded."""

KERAS, OLD, TORCH = "keras 3", "keras 2", "pytorch"
MODEL_COLUMNS = ("ours", "keras", "keras 2", "pytorch", "none")
FEW_COLUMNS = ("ours", "keras", "keras 2", "none")
# The README's rows, slower ones among them: EfficientNetV2B0 than Keras 2, conv1d than Keras 3.
FEW = (
    "MobileNetV2 160 px, batch 32, graph",
    "ResNet50 160 px, batch 32, graph",
    "EfficientNetV2B0 96 px, batch 16, graph",
    "three_conv, batch 32, graph",
    "conv1d, batch 64, graph",
)
LAYER_HEAD = (
    "| input, training step | ms | / Keras 3 | / Keras 2 | / PyTorch | batch None / Keras 3 |",
    "|---|---|---|---|---|---|",
)


def layer_lines(result: dict) -> list[str]:
    """Return the table on one layer: forward, backward and moving update.

    Args:
        result: of `scripts/bench_batch_norm.py`.
    """
    cases = [case for case in result["cases"] if case["kind"] == "train"]
    shown = [case for case in cases if not case["xla"]]
    shown = [case for case in shown if not case["batch_unknown"] or not _static(case, cases)]
    passes = [case["ms"]["ours"] / case["copy_ms"] for case in cases if _is_first(case)]
    return [
        *LAYER_HEAD,
        *(_row(case, cases) for case in shown),
        "",
        f"At 128x32x32x64 it takes {passes[0]:.2f} times as long as copying the activation's memory"
        " four times would (8 passes),",
        f"at the {_bandwidth(cases):.0f} GB/s measured in the same run.",
    ]


def xla_lines(result: dict) -> list[str]:
    """Return the table of one layer in a step that XLA compiles."""
    cases = [case for case in result["cases"] if case["kind"] == "train"]
    return [*LAYER_HEAD, *(_row(case, cases) for case in cases if case["xla"])]


def gpu_lines(result: dict) -> list[str]:
    """Return the tables of what a GPU would read and write, as XLA compiled it for one."""
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
    """Return the table of whole networks: one step of `model.fit`."""
    if result is None:
        return ["Steps of `model.fit` were not measured yet (`scripts/bench_model.py`)."]
    return [
        "| step of `fit`, ms | ours | Keras 3 | Keras 2 | PyTorch | no BN | / Keras 3 "
        "| BN costs | 8 passes |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_model_row(case) for case in result["cases"]),
    ]


def few_model_lines(result: dict | None) -> list[str]:
    """Return the README's table: a few whole networks, what is lost among them."""
    if result is None:
        return model_lines(None)
    cases = {case["name"]: case for case in result["cases"]}
    return [
        "| training step | bnzoo, ms | Keras 3 | Keras 2 | without BN | speed / Keras 3 |",
        "|---|---|---|---|---|---|",
        *(_few_row(cases[name]) for name in FEW if name in cases),
    ]


def inference_lines(result: dict) -> list[str]:
    """Return the table of inference and of the forward pass alone."""
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
    cost = ms["ours"] - ms["none"]
    passes = f"{case['passes_ms']:.2f}" if "passes_ms" in case else ""
    return (
        f"| {case['name']} | {' | '.join(cells)} | {ms['keras'] / ms['ours']:.2f}x "
        f"| {cost:.2f} ({100 * cost / ms['none']:+.0f} %) | {passes} |"
    )


def _few_row(case: dict) -> str:
    ms = case["ms_per_step"]
    cells = [f"{ms[name]:.1f}" if name in ms else "" for name in FEW_COLUMNS]
    return f"| {case['name']} | {' | '.join(cells)} | {ms['keras'] / ms['ours']:.2f}x |"


def _row(case: dict, cases: list[dict]) -> str:
    same = [other for other in cases if other["batch_unknown"] and _static(other, cases) is case]
    unknown = _ratio(same[0], KERAS) if same else ""
    name = case["name"].removeprefix("train ").replace(" float32, graph", "")
    return (
        f"| {name} | {case['ms']['ours']:.3f} | {_ratio(case, KERAS)} "
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
