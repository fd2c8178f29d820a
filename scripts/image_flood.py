"""Flood a server with images that are slow to decode: small files of 16.8 million pixels.

    python scripts/image_flood.py PORT MODEL --seconds 20 --connections 8

Each connection sends one request after the other, without a pause and whatever the answer. What
was answered is printed as JSON. Run it against a server of your own only.
"""

import argparse
import base64
import collections
import io
import itertools
import json
import threading
import time

import hostile
from PIL import Image
from serving_load import HttpClient

SIDE = 4096


def slow_images() -> dict[str, list[bytes]]:
    """Return the images of a request, by what they are."""
    lying = hostile.jpeg_with_header(SIDE, SIDE)
    return {
        "a JPEG that claims more": [lying],
        "270 of them": [lying] * 270,
        "a PNG": [_flat("PNG")],
        "a JPEG": [_flat("JPEG", optimize=True)],
        "a progressive JPEG": [_flat("JPEG", optimize=True, progressive=True)],
        "4 PNGs": [_flat("PNG")] * 4,
    }


def _flat(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), (200, 30, 90)).save(file, kind, **options)
    return file.getvalue()


def image_request(images: list[bytes]) -> dict:
    """Return a request for encoded images as JSON."""
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image_bytes", "shape": [len(data)], "datatype": "BYTES", "data": data}
    return {"inputs": [tensor]}


def flood(port: int, model: str, seconds: float, connections: int) -> dict[str, dict[str, int]]:
    """Return how often which status was the answer to which request."""
    bodies = {
        name: json.dumps(image_request(images)).encode() for name, images in slow_images().items()
    }
    counts = {name: collections.Counter() for name in bodies}
    end = time.monotonic() + seconds

    def send(first: int) -> None:
        client = HttpClient(port)
        for name in itertools.islice(itertools.cycle(bodies), first, None):
            if time.monotonic() > end:
                return
            try:
                status = str(client.infer(model, bodies[name])[0])
            except OSError as error:
                status = type(error).__name__
            counts[name][status] += 1

    threads = [threading.Thread(target=send, args=(first,)) for first in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: dict(one) for name, one in counts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--connections", type=int, default=8)
    given = parser.parse_args()
    print(json.dumps(flood(given.port, given.model, given.seconds, given.connections)))


if __name__ == "__main__":
    main()
