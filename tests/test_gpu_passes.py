"""What a GPU would run: kernels and bytes are read rightly, and the layer needs few of them."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SCRIPT = REPOSITORY / "scripts" / "gpu_passes.py"
TARGET = REPOSITORY.parent / "shared" / "gpu" / "h200.txtpb"

# Scripts import each other as they do when they are run.
sys.path.append(str(REPOSITORY / "scripts"))

gpu_compiler, hlo_bytes = map(importlib.import_module, ("gpu_compiler", "hlo_bytes"))

SUM = """
%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}
"""


def module(*lines, fused=()):
    """Return the text of a module with x as its only argument."""
    fused = "\n".join(["%fused (p: f32[8,4]) -> f32[8,4] {", *fused, "}"]) if fused else ""
    head = 'HloModule jit_step, is_scheduled=true\n\nFileNames\n1 "step.py"\n'
    entry = ["ENTRY %main (x: f32[8,4]) -> f32[8,4] {", "  %x = f32[8,4]{1,0} parameter(0)"]
    return "\n".join([head, SUM, fused, "", *entry, *lines, "}", ""])


def moved(*lines, fused=()):
    """Return the bytes that each kernel reads and writes."""
    return [
        ([each.bytes for each in kernel.reads], [each.bytes for each in kernel.writes])
        for kernel in hlo_bytes.kernels(module(*lines, fused=fused))
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("f32[8,4]{1,0}", [128]),
        ("bf16[8,4]{1,0:T(8,128)S(1)}", [64]),
        ("(pred[8]{0}, /*index=1*/f64[])", [8, 8]),
        ("f8e4m3fn[16]", [16]),
        ("s4[16]", [8]),
        ("c64[2]", [16]),
        ("token[]", [0]),
        ("()", []),
    ],
)
def test_an_array_takes_its_elements_times_their_bits(text, size):
    assert [each.bytes for each in hlo_bytes.arrays(text)] == size


def test_a_fusion_reads_its_operands_and_writes_its_results():
    fused = (
        "  %p = f32[8,4]{1,0} parameter(0)",
        "  %c = f32[] constant(0)",
        "  %zeros = f32[8,4]{1,0} broadcast(%c), dimensions={}",
        "  %mask = pred[8,4]{1,0} compare(%p, %zeros), direction=GT",
        "  %y = f32[8,4]{1,0} maximum(%p, %zeros)",
        "  ROOT %both = (pred[8,4]{1,0}, f32[8,4]{1,0}) tuple(%mask, %y)",
    )
    lines = (
        "  %f = (pred[8,4]{1,0}, f32[8,4]{1,0}) fusion(%x), kind=kLoop, calls=%fused, "
        'metadata={op_name="jit(step)/max(a, b)"}',
        "  ROOT %y = f32[8,4]{1,0} get-tuple-element(%f), index=1",
    )
    assert moved(*lines, fused=fused) == [([128], [32, 128])]


def test_results_of_one_reduction_count_once_each():
    fused = (
        "  %p = f32[8,4]{1,0} parameter(0)",
        "  %c = f32[] constant(0)",
        "  %r = (f32[4]{0}, f32[4]{0}) reduce(%p, %p, %c, %c), dimensions={0}, to_apply=%sum",
        "  %one = f32[4]{0} get-tuple-element(%r), index=0",
        "  %two = f32[4]{0} get-tuple-element(%r), index=1",
        "  ROOT %both = (f32[4]{0}, f32[4]{0}) tuple(%one, %two)",
    )
    line = "  ROOT %f = (f32[4]{0}, f32[4]{0}) fusion(%x), kind=kInput, calls=%fused"
    assert moved(line, fused=fused) == [([128], [16, 16])]


@pytest.mark.parametrize("before", ["bitcast", "convert", None])
def test_a_fusion_that_slices_reads_the_slices(before):
    source = "%seen" if before else "%p"
    fused = (
        "  %p = f32[8,4]{1,0} parameter(0)",
        *([f"  %seen = f32[8,4]{{1,0}} {before}(%p)"] if before else []),
        f"  %s = f32[2,4]{{1,0}} slice({source}), slice={{[0:8:4], [0:4]}}",
        f"  %t = f32[1,4]{{1,0}} slice({source}), slice={{[3:4], [0:4]}}",
        "  %b = f32[2,4]{1,0} broadcast(%t), dimensions={0,1}",
        "  ROOT %y = f32[2,4]{1,0} subtract(%s, %b)",
    )
    line = "  ROOT %f = f32[2,4]{1,0} fusion(%x), kind=kLoop, calls=%fused"
    assert moved(line, fused=fused) == [([48], [32])]


def test_a_slice_beside_the_whole_reads_the_whole():
    fused = (
        "  %p = f32[8,4]{1,0} parameter(0)",
        "  %s = f32[1,4]{1,0} slice(%p), slice={[0:1], [0:4]}",
        "  %b = f32[8,4]{1,0} broadcast(%s), dimensions={0,1}",
        "  ROOT %y = f32[8,4]{1,0} subtract(%p, %b)",
    )
    line = "  ROOT %f = f32[8,4]{1,0} fusion(%x), kind=kLoop, calls=%fused"
    assert moved(line, fused=fused) == [([128], [128])]


def test_memory_under_two_names_is_read_once():
    fused = (
        "  %p = f32[8,4]{1,0} parameter(0)",
        "  %q = f32[32]{0} parameter(1)",
        "  %r = f32[8,4]{1,0} bitcast(%q)",
        "  ROOT %y = f32[8,4]{1,0} add(%p, %r)",
    )
    lines = (
        "  %flat = f32[32]{0} bitcast(%x)",
        "  %pair = (f32[32]{0}, f32[8,4]{1,0}) tuple(%flat, %x)",
        "  %same = f32[32]{0} get-tuple-element(%pair), index=0",
        "  ROOT %f = f32[8,4]{1,0} fusion(%x, /*index=1*/%same), kind=kLoop, calls=%fused",
    )
    assert moved(*lines, fused=fused) == [([128], [128])]


def test_an_update_in_place_writes_the_update():
    fused = (
        "  %p = f32[8,4]{1,0} parameter(0)",
        "  %row = f32[1,4]{1,0} parameter(1)",
        "  %i = s32[] parameter(2)",
        "  ROOT %y = f32[8,4]{1,0} dynamic-update-slice(%p, %row, %i, %i)",
    )
    lines = (
        "  %row = f32[1,4]{1,0} slice(%x), slice={[0:1], [0:4]}",
        "  %i = s32[] constant(3)",
        "  ROOT %f = f32[8,4]{1,0} fusion(%x, %row, %i), kind=kLoop, calls=%fused",
    )
    assert moved(*lines, fused=fused) == [([16], [16]), ([16, 4], [16])]


def test_a_convolution_does_not_count_its_room_to_work_in():
    line = (
        "  ROOT %c = (f32[8,4]{1,0}, u8[1024]{0}) custom-call(%x, %x), "
        'custom_call_target="__cudnn$convForward"'
    )
    (kernel,) = hlo_bytes.kernels(module(line))
    assert kernel.convolves
    assert kernel.bytes == 256


LOOP = """
%turn (t: (f32[8,4])) -> (f32[8,4]) {
  %t = (f32[8,4]{1,0}) parameter(0)
  %a = f32[8,4]{1,0} get-tuple-element(%t), index=0
  %b = f32[8,4]{1,0} copy(%a)
  ROOT %r = (f32[8,4]{1,0}) tuple(%b)
}
"""


def test_a_loop_counts_as_often_as_it_turns():
    lines = (
        "  %start = (f32[8,4]{1,0}) tuple(%x)",
        "  ROOT %w = (f32[8,4]{1,0}) while(%start), condition=%sum, body=%turn, "
        'backend_config={"known_trip_count":{"n":"5"}}',
    )
    text = LOOP + module(*lines)
    assert sum(kernel.bytes for kernel in hlo_bytes.kernels(text)) == 5 * 256
    with pytest.raises(ValueError, match=r"%w: got a loop, expected a known number of turns"):
        hlo_bytes.kernels(text.replace("known_trip_count", "unknown"))


def test_a_call_counts_what_it_calls():
    line = "  ROOT %c = (f32[8,4]{1,0}) call(%x), to_apply=%turn"
    assert [kernel.kind for kernel in hlo_bytes.kernels(LOOP + module(line))] == ["copy"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("  ROOT %y = f32[8,4]{1,0} all-reduce(%x), to_apply=%sum", r"%y: got .*'all-reduce'"),
        ("  ROOT %y = f32[<=8,4]{1,0} copy(%x)", r"known size, got f32\[<=8,4\]"),
        ("  something else", r"expected an instruction, .* got '  something else'"),
    ],
)
def test_what_it_does_not_know_it_refuses(line, message):
    with pytest.raises(ValueError, match=message):
        hlo_bytes.kernels(module(line))


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo_bytes.kernels("HloModule jit_step")


# --- the layer's own passes ----------------------------------------------------------------------

# The most bytes that a step of our layer may move, over the bytes of x; eight passes are the least.
# By shape: float32, float32 + ReLU, bfloat16, bfloat16 + ReLU.
LIMITS = {
    (128, 32, 32, 64): (8.4, 8.4, 8.4, 8.4),
    # XLA writes down the mask of the ReLU here, in float32: a quarter of a pass, three times.
    (256, 56, 56, 64): (8.4, 8.8, 8.4, 8.4),
    (256, 14, 14, 1024): (8.4, 8.4, 8.4, 8.4),
    (4096, 1024): (8.8, 8.8, 8.8, 8.8),
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The rows of our layer and of Keras', as the script writes them."""
    if not TARGET.is_file():
        pytest.skip(f"needs the description of a GPU, {TARGET.name}, beside the repository")
    if not gpu_compiler.installed():
        pytest.skip("needs JAX's plugin for CUDA: pip install bnzoo[gpu-check]")
    file = tmp_path_factory.mktemp("gpu") / "rows.json"
    options = ["--framework", "jax", "--out", str(file)]
    subprocess.run([sys.executable, SCRIPT, *options], check=True)
    return json.loads(file.read_text())["cases"]


@pytest.mark.slow
@pytest.mark.parametrize("shape", LIMITS)
def test_a_step_of_the_layer_moves_little_more_than_it_must(shape, rows):
    ours = [row for row in rows if row["contender"] == "ours" and row["kind"] == "layer"]
    own = [row for row in ours if tuple(row["shape"]) == shape]
    found = {(row["dtype"], row["relu"]): row["bytes_over_x"] for row in own}
    kinds = [("float32", False), ("float32", True), ("bfloat16", False), ("bfloat16", True)]
    limits = dict(zip(kinds, LIMITS[shape], strict=True))
    assert found.keys() == limits.keys()
    assert {kind: found[kind] for kind in kinds if found[kind] > limits[kind]} == {}
    assert min(found.values()) >= 8, "fewer passes than there can be: the count is wrong"
    assert max(row["kernels"] for row in own) <= 12


@pytest.mark.slow
def test_no_step_moves_more_than_with_keras_layer(rows):
    pairs = {}
    for row in rows:
        case = row["kind"], *row["shape"], row["dtype"], row["relu"]
        pairs.setdefault(case, {})[row["contender"]] = row["bytes_over_x"]
    assert len(pairs) > 40
    assert {case: pair for case, pair in pairs.items() if pair["ours"] > pair["keras"]} == {}
