"""The kernels of a program that XLA has compiled, and the memory that each reads and writes.

The scheduled HLO of a GPU program (`compiled.as_text()` in JAX) has one line per kernel. A kernel
reads its operands and writes its results; what a fusion only slices, it reads only in part.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

# Names of memory that is there already: no kernel.
FREE = {
    "after-all",
    "async-done",
    "async-update",
    "bitcast",
    "constant",
    "get-tuple-element",
    "opt-barrier",
    "parameter",
    "partition-id",
    "replica-id",
    "tuple",
}
# What else a GPU's program may hold outside of fusions is refused, not guessed.
KERNELS = {
    "copy",
    "custom-call",
    "fusion",
    "reduce",
    "rng-get-and-update-state",
    "slice",
    "sort",
    "transpose",
}
SLICES = {"slice", "dynamic-slice", "gather"}
WIDENING = {"broadcast", "concatenate", "pad"}

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_ARRAY = re.compile(r"([a-z]+)(\d*)\w*\[([\d,]*)\]")
_COMMENT = re.compile(r"/\*.*?\*/")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True)
class Array:
    """Elements in memory, with the bits of each."""

    elements: float
    bits: int

    @property
    def bytes(self) -> float:
        """The bytes that they take."""
        return self.elements * self.bits / 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: without the percent sign.
        opcode: such as `fusion`.
        arrays: that it results in; more than one for a tuple.
        operands: names of instructions of the same computation.
        attributes: the rest of the line.
        root: whether it is the result of its computation.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool = False

    @property
    def elements(self) -> float:
        """Of the first array that it results in."""
        return self.arrays[0].elements if self.arrays else 0

    def attribute(self, name: str) -> str | None:
        """Return the word that follows `name=`, without quotes and percent sign."""
        found = re.search(rf', {name}=[%"]?([^",\s}}]+)', self.attributes)
        return found and found[1]

    @cached_property
    def index(self) -> int:
        """Of an operand of the computation, or of an array in a tuple."""
        found = re.search(r"^(\d+)\)|, index=(\d+)", self.attributes)
        return int(found[1] or found[2])


Computation = dict[str, Instruction]


@dataclass(frozen=True)
class Kernel:
    """One launch on the device.

    Attributes:
        name: of its instruction.
        kind: its opcode, or the target of a custom call.
        reads: what it reads, one entry per array in memory.
        writes: what it writes.
    """

    name: str
    kind: str
    reads: tuple[Array, ...]
    writes: tuple[Array, ...]

    @property
    def bytes(self) -> float:
        """Bytes that it moves."""
        return sum(array.bytes for array in (*self.reads, *self.writes))

    @property
    def convolves(self) -> bool:
        """Whether it is a convolution of a library's."""
        return self.kind.startswith("__cudnn$conv")


def kernels(text: str) -> list[Kernel]:
    """Return the kernels of a scheduled module, in order; a loop's as often as it runs.

    Args:
        text: of the module, as XLA prints it.

    Raises:
        ValueError: an instruction is unknown, or nobody knows how often it runs.
    """
    computations, entry = parse(text)
    return list(_launched(entry, computations))


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Return the computations of a module by name, and the name of the first that runs."""
    computations, entry, current = {}, None, None
    for line in text.splitlines():
        if current is None:
            if head := _HEAD.match(line):
                current = computations[head[2]] = {}
                entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        else:
            instruction = parse_instruction(line)
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError("got no ENTRY computation, expected the text of a compiled module")
    return computations, entry


def parse_instruction(line: str) -> Instruction:
    """Return the instruction that a line holds."""
    found = _INSTRUCTION.match(line)
    if not found:
        raise ValueError(f"expected an instruction, `%name = type opcode(operands)`, got {line!r}")
    root, name, rest = found.groups()
    rest = _COMMENT.sub("", rest)
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    opcode, _, call = rest[end:].lstrip().partition("(")
    inside = call[: _closing("(" + call, 0) - 2]
    operands, attributes = (), call
    if opcode not in ("constant", "parameter"):
        operands = tuple(re.findall(r"%([\w.\-]+)", inside))
        attributes = call[len(inside) + 1 :]
    return Instruction(name, opcode, arrays(rest[:end]), operands, attributes, bool(root))


def arrays(type_: str) -> tuple[Array, ...]:
    """Return the arrays of a type: `f32[8,4]{1,0}`, or a tuple of such."""
    if "<=" in type_:
        raise ValueError(f"expected arrays of known size, got {type_}")
    return tuple(
        Array(math.prod(int(size) for size in sizes.split(",") if size), _bits(letters, digits))
        for letters, digits, sizes in _ARRAY.findall(type_)
    )


def _bits(letters: str, digits: str) -> int:
    if letters == "pred":
        return 8
    return int(digits) if digits else 0  # a token holds nothing


def _closing(text: str, start: int) -> int:
    """Return the position after the parenthesis that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[position], 0)
        if depth == 0:
            return position + 1
    raise ValueError(f"expected a closing parenthesis in {text[:80]!r}")


def _launched(name: str, computations: dict[str, Computation]) -> Iterator[Kernel]:
    """Yield the kernels of one computation and of those that it calls."""
    computation = computations[name]
    for instruction in computation.values():
        if instruction.opcode in FREE:
            continue
        if instruction.opcode in KERNELS:
            yield _kernel(instruction, computation, computations)
        elif instruction.opcode == "call":
            yield from _launched(instruction.attribute("to_apply"), computations)
        elif instruction.opcode == "async-start":
            yield from _launched(instruction.attribute("calls"), computations)
        elif instruction.opcode == "while":
            yield from _loop(instruction, computations)
        else:
            raise ValueError(
                f"%{instruction.name}: got the instruction {instruction.opcode!r}, expected one of "
                f"{sorted(KERNELS | FREE)}. Say in {__name__} what it reads and writes."
            )


def _loop(instruction: Instruction, computations: dict[str, Computation]) -> list[Kernel]:
    trips = _TRIPS.search(instruction.attributes)
    if not trips:
        raise ValueError(f"%{instruction.name}: got a loop, expected a known number of turns")
    body = list(_launched(instruction.attribute("body"), computations))
    return body * int(trips[1])


def _kernel(
    instruction: Instruction, computation: Computation, computations: dict[str, Computation]
) -> Kernel:
    kind = instruction.attribute("custom_call_target") or instruction.opcode
    if instruction.opcode == "fusion":
        fused = computations[instruction.attribute("calls")]
        used, writes = _used(fused), _written(fused)
        parameters = {each.index: each for each in fused.values() if each.opcode == "parameter"}
        shares = [used[parameters[index].name] for index in range(len(instruction.operands))]
    else:
        writes = instruction.arrays
        if kind.startswith("__"):
            writes = writes[:1]  # a library's; the rest is its room to work in
        shares = _shares(instruction, computation, instruction.elements)
    return Kernel(instruction.name, kind, _read(instruction, computation, shares), writes)


def _read(
    instruction: Instruction, computation: Computation, shares: list[float]
) -> tuple[Array, ...]:
    """Return what a kernel reads; memory that it gets under two names, once."""
    sources: dict[tuple[str, int], Array] = {}
    for operand, elements in zip(instruction.operands, shares, strict=True):
        memory = computation[operand].arrays
        if len(memory) != 1:
            raise ValueError(f"%{instruction.name}: expected arrays as operands, got a tuple")
        source = _source(operand, computation)
        before = sources[source].elements if source in sources else 0
        both = min(before + elements, memory[0].elements)
        sources[source] = replace(memory[0], elements=both)
    return tuple(array for array in sources.values() if array.elements)


def _source(name: str, computation: Computation, index: int = 0) -> tuple[str, int]:
    """Return the instruction, and which of its results, that a name stands for."""
    instruction = computation[name]
    if instruction.opcode in ("bitcast", "opt-barrier"):
        return _source(instruction.operands[0], computation, index)
    if instruction.opcode == "get-tuple-element":
        return _source(instruction.operands[0], computation, instruction.index)
    if instruction.opcode == "tuple":
        return _source(instruction.operands[index], computation)
    return name, index


def _results(fused: Computation) -> list[tuple[Instruction, tuple[Array, ...]]]:
    """Return what a fused computation writes, behind tuples and other views, and who made it."""
    root = next(each for each in fused.values() if each.root)
    if root.opcode != "tuple":
        return [(fused[_source(root.name, fused)[0]], root.arrays)]
    sources = [_source(name, fused) for name in root.operands]
    return [(fused[name], fused[name].arrays[index : index + 1]) for name, index in sources]


def _written(fused: Computation) -> tuple[Array, ...]:
    """Return what a fusion writes: of what it updates in place, the update."""
    written = []
    for result, arrays_ in _results(fused):
        changed = _in_place(result, fused)
        written += fused[result.operands[1]].arrays if changed else arrays_
    return tuple(written)


def _in_place(instruction: Instruction, fused: Computation) -> bool:
    """Whether a result of a fusion writes into the memory of an operand."""
    return (
        instruction.opcode == "dynamic-update-slice"
        and fused[_source(instruction.operands[0], fused)[0]].opcode == "parameter"
    )


def _used(fused: Computation) -> dict[str, float]:
    """Return how many elements of each instruction a fusion needs, by name."""
    whole, sliced = dict.fromkeys(fused, 0.0), dict.fromkeys(fused, 0.0)
    results = [result for result, _ in _results(fused)]
    for result in results:
        whole[result.name] = result.elements
    used = {}
    for name, instruction in reversed(fused.items()):
        used[name] = min(instruction.elements, whole[name] + sliced[name])
        shares = _shares(instruction, fused, used[name])
        if instruction in results and _in_place(instruction, fused):
            shares[0] = 0
        for number, (operand, share) in enumerate(zip(instruction.operands, shares, strict=True)):
            # Two slices are two parts; two other uses are of the same elements.
            if number == 0 and instruction.opcode in SLICES:
                sliced[operand] += share
            else:
                whole[operand] = max(whole[operand], share)
    return used


def _shares(instruction: Instruction, computation: Computation, needed: float) -> list[float]:
    """Return how many elements of each operand are read for some elements of the result."""
    shares = []
    for number, operand in enumerate(instruction.operands):
        size = computation[operand].elements
        if not needed:
            share = 0
        elif instruction.opcode in SLICES:
            share = needed if number == 0 else size
        elif instruction.opcode in WIDENING or size == instruction.elements:
            share = needed
        elif instruction.opcode == "reduce":
            share = size * needed / instruction.elements
        else:
            share = size
        shares.append(min(share, size))
    return shares
