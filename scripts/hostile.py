"""Malformed requests: a list of the known ways to hurt a server, and random ones without end."""

import base64
import io
import json
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image
from tritonclient.grpc import service_pb2

DATATYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES", "BF16", "fp32", "", "\0", "FP32 "),
)


def encoded(kind: str, size: tuple[int, int] = (9, 7), mode: str = "RGB", seed: int = 0) -> bytes:
    """Return an image file: `kind` is PNG, JPEG, GIF, ... and the pixels are random."""
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, channels), "uint8")
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode).save(file, kind)
    return file.getvalue()


def png_chunk(name: bytes, data: bytes = b"") -> bytes:
    """Return a part of a PNG."""
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png_with_header(width: int, height: int, pixels: int = 99) -> bytes:
    """Return a PNG of a few bytes that announces a size, and holds so many bytes of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(pixels))
    parts = png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_with_header(width: int, height: int) -> bytes:
    """Return a small JPEG that announces another size than it has."""
    data = bytearray(encoded("JPEG", (64, 64)))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def hostile_images() -> dict[str, bytes]:
    """Return bytes that are no image that can be served, by what is wrong with them."""
    png, jpeg = encoded("PNG"), encoded("JPEG", (64, 64))
    return {
        "nothing": b"",
        "one byte": b"\0",
        "text": b"hello",
        "a PNG's first bytes": png[:8],
        "a PNG's header": png[:33],
        "half a PNG": png[: len(png) // 2],
        "a JPEG's first bytes": jpeg[:3],
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a PNG of 20,000 x 20,000": png_with_header(20_000, 20_000),
        "a PNG of 2^32 - 1 x 2^32 - 1": png_with_header(2**32 - 1, 2**32 - 1),
        "a PNG of 0 x 0": png_with_header(0, 0),
        "a JPEG of 20,000 x 20,000": jpeg_with_header(20_000, 20_000),
        "a JPEG of 65,535 x 1": jpeg_with_header(65_535, 1),
        "a GIF": encoded("GIF", mode="L"),
        "a BMP": encoded("BMP"),
        "a GIF of 20,000 x 20,000": b"GIF89a" + struct.pack("<HH", 20_000, 20_000) + bytes(20),
        "zeros": bytes(1000),
        "a PNG behind other bytes": b"x" + png,
    }


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """Return bytes with some changed, cut off or put in."""
    changed = bytearray(data)
    for _ in range(random.integers(1, 6)):
        place = int(random.integers(0, len(changed) + 1))
        match random.integers(0, 4):
            case 0 if place < len(changed):
                changed[place] = random.integers(0, 256)
            case 1:
                changed[place:place] = random.bytes(int(random.integers(1, 20)))
            case 2:
                del changed[place : place + int(random.integers(1, 50))]
            case _:
                del changed[place:]
    return bytes(changed)


def hostile_shapes(shape: list[int | None]) -> list[tuple[int, ...]]:
    """Return shapes that do not fit a model's input (batch, ...), None where it is open."""
    whole = [size or 3 for size in shape[1:]]
    return [
        (),
        (0,),
        (2,),
        (2, 3),
        tuple(whole),
        (2, *whole, 1),
        (1, 2, *whole),
        (2, *whole[:-1], whole[-1] + 2),
        (2, *whole[:-1], 0),
        (2, *whole[:-1]),
        (2, whole[0] + 1 if shape[1] is not None else 0, *whole[1:]),
        (1,) * 9,
    ]


def hostile_json(shape: list[int]) -> dict[str, bytes]:
    """Return HTTP bodies that must be refused, by what is wrong with them.

    Args:
        shape: of one row of the model's input.
    """
    count = int(np.prod(shape))

    def inputs(**changes) -> dict:
        good = {"name": "inputs", "shape": [1, *shape], "datatype": "FP32", "data": [0.5] * count}
        return {"inputs": [good | changes]}

    ragged = [[0.5] * (count - 1), [0.5]]
    image = base64.b64encode(encoded("PNG")).decode()
    bodies = {
        "no inputs": {},
        "an empty list of inputs": {"inputs": []},
        "inputs that are none": {"inputs": [1, None, "x"]},
        "two inputs": {"inputs": inputs()["inputs"] * 2},
        "an unknown input": inputs(name="input"),
        "an unknown output": inputs() | {"outputs": [{"name": "x"}]},
        "an output twice": inputs() | {"outputs": [{"name": "logits"}] * 2},
        "an output 10,000 times": inputs() | {"outputs": [{"name": "logits"}] * 10_000},
        "an unknown datatype": inputs(datatype="FLOAT"),
        "another datatype": inputs(datatype="INT64"),
        "a shape that is none": inputs(shape="1"),
        "a scalar": inputs(shape=[], data=[1.0]),
        "a negative size": inputs(shape=[-1, *shape]),
        "a huge size": inputs(shape=[2**40, *shape]),
        "a size beyond 64 bits": inputs(shape=[2**70, *shape]),
        "a wrong rank": inputs(shape=[1, count]),
        "too few values": inputs(data=[0.5] * (count - 1)),
        "too many values": inputs(data=[0.5] * (count + 1)),
        "ragged values": inputs(data=ragged),
        "strings": inputs(data=["0.5"] * count),
        "objects": inputs(data=[{}] * count),
        "no values": inputs(data=[None] * count),
        "a number for data": inputs(data=1),
        "parameters that are none": inputs() | {"parameters": [1]},
        "images that are numbers": inputs(
            name="image_bytes", datatype="BYTES", shape=[1], data=[1]
        ),
        "images that are no base64": inputs(
            name="image_bytes", datatype="BYTES", shape=[1], data=["%%"]
        ),
        "images of another number": inputs(
            name="image_bytes", datatype="BYTES", shape=[2], data=[image]
        ),
    }
    found = {name: json.dumps(body).encode() for name, body in bodies.items()}
    deep = b'{"inputs":[{"name":"inputs","shape":[1],"datatype":"FP32","data":'
    return found | {
        "nothing": b"",
        "no JSON": b"{",
        "no UTF-8": b"\xff\xfe{}",
        "a list": b"[]",
        "a number": b"1",
        "NaN": found["too few values"].replace(b"0.5", b"NaN"),
        "deep nesting": deep + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
        "100 levels": deep + b"[" * 100 + b"1" + b"]" * 100 + b"}]}",
        **{
            f"images: {name}": json.dumps(
                inputs(
                    name="image_bytes",
                    datatype="BYTES",
                    shape=[1],
                    data=[base64.b64encode(data).decode()],
                )
            ).encode()
            for name, data in hostile_images().items()
        },
    }


@st.composite
def tensors(draw, max_values: int = 600):
    """Draw (shape, datatype, number of values that are really there)."""
    shape = draw(st.lists(st.integers(-1, 9), max_size=6))
    datatype = draw(st.sampled_from(DATATYPES))
    said = abs(int(np.prod(shape, dtype=np.int64)))
    count = draw(st.sampled_from([said, said + 1, 0]) | st.integers(0, 50))
    return shape, datatype, min(count, max_values)


def random_json(shape: list[int], datatype: str, count: int, random: np.random.Generator) -> bytes:
    """Return an HTTP body with a drawn tensor."""
    name = str(random.choice(["inputs", "image_bytes", "x"]))
    kinds = [random.random(count).tolist(), ["AAAA"] * count, random.integers(0, 9, count).tolist()]
    data = kinds[random.integers(0, 3)]
    tensor = {"name": name, "shape": shape, "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def random_message(
    model: str, shape: list[int], datatype: str, count: int, random: np.random.Generator
) -> service_pb2.ModelInferRequest:
    """Return a gRPC request with a drawn tensor: as raw bytes or as one of the lists."""
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name=str(random.choice(["inputs", "image_bytes", "x"])), shape=shape, datatype=datatype
    )
    request = service_pb2.ModelInferRequest(model_name=model, inputs=[tensor])
    match random.integers(0, 4):
        case 0:
            request.raw_input_contents.append(random.bytes(4 * count))
        case 1:
            request.raw_input_contents.extend(random.bytes(3) for _ in range(min(count, 5)))
        case 2:
            request.inputs[0].contents.fp32_contents.extend(random.random(count))
        case _:
            request.inputs[0].contents.bytes_contents.extend(
                random.bytes(5) for _ in range(min(count, 20))
            )
    return request
