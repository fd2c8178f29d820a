"""Images of all clients: decoded in processes of their own, in a fair order, within bounds."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
import serving_exports as exports

pytest.importorskip("tritonclient", reason="needs the extra serve")

import grpc
import hostile
import serving_load as load
from serving_inside import serving

from bnzoo.serving.server import decoding, decoding_process
from bnzoo.serving.server.batcher import Batcher
from bnzoo.serving.server.decoding import MAX_PIXELS_IN_FLIGHT, Decoder
from bnzoo.serving.server.image_files import ImageFile
from bnzoo.serving.server.limits import Refused

MODEL = "small"
SMALL, LARGE = (64, 64), (4096, 4096)  # a large one has 2^24 pixels, the most


def announcing(size):
    """Return a PNG of a few bytes that announces a size."""
    return hostile.png_with_header(*size)


def size_of(image):
    return tuple(int.from_bytes(image[place : place + 4], "big") for place in (16, 20))


class Recorded(Decoder):
    """Notes what would be decoded, one turn at a time, and needs as long as it is told."""

    def __init__(self, seconds=0.0):
        super().__init__()
        self.order, self.seconds = [], seconds

    async def _in_process(self, settings, images):
        self.order += [size_of(image) for image in images]
        await asyncio.sleep(self.seconds)
        return np.zeros((len(images), 1))

    def begin(self, *sizes):
        """Begin to decode images of these sizes, and return the task."""
        images = [announcing(size) for size in sizes]
        return asyncio.create_task(self.decode(exports.PREPROCESSING, images))


@pytest.fixture
def one_process(monkeypatch):
    monkeypatch.setattr(decoding, "PARALLEL", 1)


def in_loop(scenario):
    """Run a scenario of a `Recorded` decoder in an event loop."""

    async def run():
        decoder = Recorded()
        try:
            await scenario(decoder)
        finally:
            decoder.stop()

    asyncio.run(run())


async def until(true, seconds=20):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.001)


# --- whose turn it is ----------------------------------------------------------------------------


def test_a_small_image_overtakes_the_large_ones_that_wait(one_process):
    async def scenario(decoder):
        decoder.seconds = 0.01
        large = [decoder.begin(LARGE, LARGE) for _ in range(6)]
        await until(lambda: decoder.order)
        await decoder.begin(SMALL)
        assert decoder.order.index(SMALL) <= 2
        await asyncio.gather(*large)
        assert len(decoder.order) == 13

    in_loop(scenario)


def test_no_request_starves_beside_a_flood_of_small_ones(one_process):
    async def scenario(decoder):
        async def flood():
            while True:
                await decoder.begin((1024, 1024))

        floods = [asyncio.create_task(flood()) for _ in range(4)]
        await until(lambda: len(decoder.order) > 10)
        before = len(decoder.order)
        await decoder.begin(LARGE)
        for task in floods:
            task.cancel()
        # For 16 times its pixels, and what had been asked for.
        assert decoder.order.index(LARGE) - before < 16 * 16 + 4 + 4

    in_loop(scenario)


def test_requests_of_many_images_take_turns(one_process):
    async def scenario(decoder):
        decoder.seconds = 0.001
        await asyncio.gather(decoder.begin(*[(1024, 1024)] * 8), decoder.begin(*[(1024, 1023)] * 8))
        place = [decoder.order.index(size) for size in ((1024, 1024), (1024, 1023))]
        assert max(place) <= 2
        half = decoder.order[:8]
        assert 3 <= half.count((1024, 1024)) <= 5

    in_loop(scenario)


def test_images_of_a_client_that_has_gone_are_not_decoded(one_process):
    async def scenario(decoder):
        decoder.seconds = 0.05
        working = decoder.begin(LARGE)
        await until(lambda: decoder.order)
        gone, here = decoder.begin((4096, 4000)), decoder.begin(SMALL)
        await until(lambda: decoder.pixels.used == 4096 * (4096 + 4000 + 1))
        gone.cancel()
        await asyncio.gather(working, here)
        assert decoder.order == [LARGE, SMALL]
        assert decoder.pixels.used == 0

    in_loop(scenario)


def test_a_client_that_goes_between_its_images_has_no_more_of_them_decoded(one_process):
    async def scenario(decoder):
        decoder.seconds = 0.02
        task = decoder.begin(*[LARGE] * 4)
        await until(lambda: len(decoder.order) == 2)
        task.cancel()
        await asyncio.sleep(0.1)
        assert len(decoder.order) == 2
        assert decoder.pixels.used == 0

    in_loop(scenario)


@pytest.mark.parametrize(
    ("sizes", "turns"),
    [
        ([], [(0, 0)]),
        ([5], [(0, 1)]),
        ([2**20, 1], [(0, 1), (1, 2)]),
        ([2**19, 2**19, 1], [(0, 2), (2, 3)]),
        ([2**24, 2**24], [(0, 1), (1, 2)]),
        ([1, 2**24, 1], [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_a_turn_has_a_million_pixels_or_one_image(sizes, turns):
    found = list(decoding._turns(sizes))
    assert [(one.start, one.stop) for one in found] == turns


# --- how much at a time --------------------------------------------------------------------------


def test_too_many_pixels_for_a_request_are_refused_before_any_is_decoded():
    async def scenario(decoder):
        await decoder.begin(*[LARGE] * 4)
        decoder.order.clear()
        with pytest.raises(Refused, match=r"at most 67108864 pixels .* its first 5 images") as got:
            await decoder.begin(*[LARGE] * 5)
        assert got.value.status == 413
        assert decoder.order == []

    in_loop(scenario)


def test_too_many_pixels_in_flight_are_refused_until_others_are_done():
    async def scenario(decoder):
        decoder.seconds = 0.02
        others = [decoder.begin(*[LARGE] * 4) for _ in range(4)]
        await until(lambda: decoder.pixels.used == MAX_PIXELS_IN_FLIGHT)
        with pytest.raises(Refused, match=f"busy with {MAX_PIXELS_IN_FLIGHT} pixels") as got:
            await decoder.begin(SMALL)
        assert got.value.status == 503
        await asyncio.gather(*others)
        await decoder.begin(SMALL)
        assert decoder.pixels.used == 0

    in_loop(scenario)


def test_tiny_images_count_as_the_model_inputs_that_they_become():
    """A megabyte of them would be ten gigabytes of inputs for a network of 224 x 224 x 3."""
    settings = exports.Preprocessing("image", (224, 224), 3, 1 / 255)
    with pytest.raises(Refused, match="in its first 446 images") as got:
        decoding._measured([announcing((1, 1))] * 500, 224 * 224 * 3)
    assert got.value.status == 413

    async def scenario(decoder):
        decoder.seconds = 0.05
        tasks = [
            asyncio.create_task(decoder.decode(settings, [announcing((1, 1))])) for _ in range(2)
        ]
        await until(lambda: decoder.pixels.used == 2 * 224 * 224 * 3)
        await asyncio.gather(*tasks)

    in_loop(scenario)


def test_many_scans_count_as_many_pixels(monkeypatch):
    file = ImageFile(b"", 4096, 4096, passes=5)
    monkeypatch.setattr(decoding, "read_image_file", lambda image: file)
    with pytest.raises(Refused, match="in its first 1 images"):
        decoding._measured([b""], 1)


def test_the_images_of_a_client_that_has_gone_are_let_go_while_others_are_decoded(one_process):
    async def scenario(decoder):
        decoder.seconds = 0.2
        working = decoder.begin(LARGE)
        await until(lambda: decoder.order)
        gone = decoder.begin((4096, 4000))
        await until(decoder._queue.qsize)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert decoder._queue._queue[0][3] == []
        await working

    in_loop(scenario)


# --- a server: what clients see ------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(classifier):
    """A server whose decoding processes are real."""
    with serving(classifier.parent, max_request_bytes=4 * 2**20) as found:
        yield found


@pytest.fixture(scope="module")
def serve_bytes(classifier):
    return exports.signature(classifier, "serve_bytes")


def body(images):
    data = [base64.b64encode(image).decode() for image in images]
    tensor = {"name": "image_bytes", "shape": [len(data)], "datatype": "BYTES", "data": data}
    return {"inputs": [tensor]}


GOOD = [
    hostile.encoded("PNG", seed=1),
    hostile.encoded("JPEG", (30, 20), seed=2),
    hostile.encoded("PNG", (8, 8), "L", 3),
    hostile.encoded("PNG", (9, 11), "RGBA", 4),
    hostile.encoded("JPEG", (1100, 1000), "L", 5),
]


def test_answers_are_those_of_the_exports_own_signature(http, by_grpc, serve_bytes):
    expected = {name: values.numpy() for name, values in serve_bytes(image_bytes=GOOD).items()}
    status, answer = http.infer(MODEL, body(GOOD))
    assert status == 200
    code, response = by_grpc.infer(load.grpc_request(MODEL, GOOD, "image_bytes"))
    assert code is grpc.StatusCode.OK
    received = load.http_answers(answer)
    np.testing.assert_array_equal(
        received.pop("class_name"), np.char.decode(expected["class_name"].astype(bytes))
    )
    for found in (received, load.grpc_answers(response)):
        assert set(found) == {"logits", "probabilities", "class_id"}
        for name, values in found.items():
            np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)


def test_no_images_have_no_answers(http, by_grpc):
    status, answer = http.infer(MODEL, body([]))
    assert status == 200
    assert load.http_answers(answer)["logits"].shape == (0, 10)
    request = load.grpc_request(MODEL, [], "image_bytes")
    request.raw_input_contents.append(b"")
    code, response = by_grpc.infer(request)
    assert code is grpc.StatusCode.OK
    assert load.grpc_answers(response)["probabilities"].shape == (0, 10)


@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("case", ["half a PNG", "half a JPEG", "text", "a GIF"])
def test_the_image_that_cannot_be_decoded_is_named(http, by_grpc, case, place):
    images = [*GOOD[:place], hostile.hostile_images()[case], *GOOD[place:]]
    status, answer = http.infer(MODEL, body(images))
    assert (status, answer["error"]) == (
        400,
        f"image_bytes[{place}]: expected the bytes of a whole PNG or JPEG image.",
    )
    code, words = by_grpc.infer(load.grpc_request(MODEL, images, "image_bytes"))
    assert (code, words) == (grpc.StatusCode.INVALID_ARGUMENT, answer["error"])


def test_a_png_with_pixels_beyond_its_own_is_refused_by_name(http):
    images = [GOOD[0], hostile.png_with_header(64, 64, pixels=50_000_000)]
    status, answer = http.infer(MODEL, body(images))
    assert status == 400
    assert answer["error"].startswith("image_bytes[1]: ")


def test_too_many_pixels_are_said_in_the_words_of_each_protocol(http, by_grpc):
    images = [announcing(LARGE)] * 5
    status, answer = http.infer(MODEL, body(images))
    assert status == 413
    assert "67108864 pixels" in answer["error"]
    code, words = by_grpc.infer(load.grpc_request(MODEL, images, "image_bytes"))
    assert (code, words) == (grpc.StatusCode.RESOURCE_EXHAUSTED, answer["error"])


def test_decoded_images_count_until_they_are_answered(server, http, monkeypatch):
    """A megabyte of tiny ones is gigabytes of inputs, which waited for the model unbounded."""
    answer, pixels, seen = Batcher.answer, server.decoder.pixels, []

    def noted(self, inputs):
        seen.append((pixels.used, inputs.size))
        return answer(self, inputs)

    monkeypatch.setattr(Batcher, "answer", noted)
    assert http.infer(MODEL, body(GOOD))[0] == 200
    assert seen == [(5 * 64, 5 * 64)]
    assert pixels.used == 0


def test_a_busy_server_tells_when_to_try_again(server, by_grpc):
    request = load.grpc_request(MODEL, GOOD[:1], "image_bytes")
    words = json.dumps(body(GOOD[:1]))
    with (
        server.decoder.pixels.share() as take,
        contextlib.closing(HTTPConnection("127.0.0.1", server.port)) as connection,
    ):
        take(MAX_PIXELS_IN_FLIGHT)
        connection.request("POST", f"/v2/models/{MODEL}/infer", words)
        response = connection.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert by_grpc.infer(request)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert by_grpc.infer(request)[0] is grpc.StatusCode.OK


def test_decoding_processes_start_with_a_model_that_takes_images_and_not_without(
    classifier, tmp_path
):
    """The first image waited 5 s for them."""
    exports.export_doubling(tmp_path / "doubling")
    with serving(tmp_path) as plain, serving(classifier.parent) as images:
        assert len(images.decoder._processes._processes) == decoding.PARALLEL
        assert not plain.decoder._processes._processes


def test_a_decoding_process_that_is_killed_is_replaced(server, http):
    assert http.infer(MODEL, body(GOOD[:1]))[0] == 200
    for process in list(server.decoder._processes._processes.values()):
        process.kill()
        process.join()
    assert http.infer(MODEL, body(GOOD[:1]))[0] == 200


# --- a server in a process of its own ------------------------------------------------------------


def children(pid):
    """Return the processes that a process has begun."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_damaged_images_are_not_logged_and_decoding_ends_with_the_server(classifier, tmp_path):
    """One server: damaged images, then SIGKILL, which it cannot notice."""
    with load.running_server(classifier.parent, tmp_path / "log") as server:
        with contextlib.closing(load.HttpClient(server.port)) as http:
            assert http.infer(MODEL, body(GOOD[:1]))[0] == 200
            images = [GOOD[1][: len(GOOD[1]) // 2], GOOD[0][:-20]]
            random = np.random.default_rng(0)
            images += [hostile.mutated(GOOD[1], random) for _ in range(40)]
            for image in images:
                assert http.infer(MODEL, body([image]))[0] in (200, 400)
        log = server.log.read_text()
        started = children(server.process.pid)
        assert len(started) >= decoding.PARALLEL
        niceness = {os.getpriority(os.PRIO_PROCESS, pid) for pid in started}
        assert decoding_process.NICENESS in niceness
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(60)
        end = time.monotonic() + 20
        while any(Path(f"/proc/{pid}").exists() for pid in started):
            assert time.monotonic() < end, "a decoding process goes on"
            time.sleep(0.05)
    assert "JPEG" not in log
    assert log.count("\n") <= 3, log  # loaded, Serving, HTTP on
