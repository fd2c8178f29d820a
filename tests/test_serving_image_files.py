"""What an encoded image costs to decode is known before; what only adds to it is left out."""

import io
import struct
import time
import zlib

import hostile
import numpy as np
import pytest
import tensorflow as tf
from hostile import png_chunk as chunk
from PIL import Image, PngImagePlugin

from bnzoo.serving.server.image_files import inflates_too_far, read_image_file

PNG, JPEG = hostile.encoded("PNG", (64, 64)), hostile.encoded("JPEG", (64, 64))


def png_with(*chunks):
    """Put chunks before the pixels of a PNG."""
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decorated():
    """Return images with all that programs put into them beside the pixels."""
    said = PngImagePlugin.PngInfo()
    said.add_text("a", "b" * 1000, zip=True)
    said.add_itxt("c", "d" * 1000, zip=True)
    said.add(b"gAMA", struct.pack(">I", 10_000))
    said.add(b"eXIf", b"II*\0" + bytes(100))
    pixels = np.random.default_rng(0).integers(0, 256, (23, 37, 3), "uint8")
    found = {}
    for mode in ("L", "RGB", "RGBA", "LA", "P", "1", "I;16"):
        image = Image.fromarray(pixels)
        image = image.convert(mode) if mode != "I;16" else Image.new(mode, (37, 23), 777)
        found[f"PNG {mode}"] = saved(image, "PNG", pnginfo=said, icc_profile=bytes(3000))
    for mode in ("L", "RGB"):
        for progressive in (False, True):
            options = {"progressive": progressive, "icc_profile": bytes(200_000)}
            image = Image.fromarray(pixels).convert(mode)
            exif = b"Exif\0\0II*\0" + JPEG  # with a small picture in it
            found[f"JPEG {mode} {progressive}"] = saved(image, "JPEG", exif=exif, **options)
    return found


@pytest.mark.parametrize("case", decorated())
def test_an_image_is_decoded_the_same_without_what_its_pixels_do_not_need(case):
    image = decorated()[case]
    found = read_image_file(image)
    assert (found.width, found.height, found.passes) == (37, 23, 1)
    assert not inflates_too_far(found.contents)
    expected = tf.io.decode_image(image, expand_animations=False)
    answer = tf.io.decode_image(found.contents, expand_animations=False)
    np.testing.assert_array_equal(answer, expected)


def test_whatever_can_be_decoded_has_the_size_that_was_announced(capfd):
    """Of thousands of damaged images: else one could be larger than what it counts as."""
    random = np.random.default_rng(0)
    images = [PNG, JPEG, *decorated().values()]
    decoded = 0
    for number in range(3000):
        image = hostile.mutated(images[number % len(images)], random)
        try:
            expected = tf.io.decode_image(image, expand_animations=False)
        except tf.errors.InvalidArgumentError:
            continue
        decoded += 1
        found = read_image_file(image)
        assert (found.height, found.width) == expected.shape[:2]
        answer = tf.io.decode_image(found.contents, expand_animations=False)
        np.testing.assert_array_equal(answer, expected)
    assert decoded > 300
    capfd.readouterr()  # libjpeg has complained a thousand times


def test_a_jpeg_of_a_thousand_scans_counts_as_many_images():
    """Each is a pass over all pixels: 99 kB for 4096 x 4096 took 22 s."""
    image = saved(Image.new("L", (64, 64)), "JPEG", progressive=True)
    assert read_image_file(image).passes == 1
    last, end = image.rindex(b"\xff\xda"), image.rindex(b"\xff\xd9")
    many = image[:end] + 1000 * image[last:end] + image[end:]
    assert read_image_file(many).passes == 63


def test_compressed_texts_and_profiles_of_a_png_are_left_out():
    """0.8 MB of them took 9 s to decode, and their sizes alone 22 s with Pillow."""
    packed = zlib.compress(bytes(1_000_000))
    chunks = [b"zTXt", b"a\0\0" + packed], [b"iTXt", b"a\0\1\0\0\0" + packed], [b"iCCP", packed]
    image = png_with(*(chunk(*one) for one in chunks))
    assert len(image) > len(PNG) + 3000
    assert read_image_file(image).contents == PNG


def test_a_png_with_more_compressed_pixels_than_it_has_is_told_from_others():
    """A gigabyte of zeros is a megabyte: the decoder takes 4 s to throw them away."""
    for pixels, wanted in ((64 * (1 + 64 * 3), False), (10_000_000, True)):
        image = hostile.png_with_header(64, 64, pixels)
        assert inflates_too_far(read_image_file(image).contents) is wanted
        data = zlib.compress(bytes(pixels))
        halves = chunk(b"IDAT", data[: len(data) // 2]) + chunk(b"IDAT", data[len(data) // 2 :])
        assert inflates_too_far(image[:33] + halves + chunk(b"IEND")) is wanted
    assert not inflates_too_far(JPEG)
    assert not inflates_too_far(image[:33] + chunk(b"IDAT", b"none"))  # the decoder refuses it


@pytest.mark.parametrize(
    "image",
    [
        JPEG[:2] + b"\xff" * 12_000_000,
        JPEG[:2] + b"\xff\xe5\x00\x02" * 3_000_000 + JPEG[2:],
        JPEG[:2] + b"\xff\x01" * 6_000_000 + JPEG[2:],
        JPEG[:3] + bytes(12_000_000),
        png_with(chunk(b"teSt") * 1_000_000),
        PNG + bytes(12_000_000),
    ],
    ids=["fill bytes", "segments", "markers", "zeros", "chunks", "more behind it"],
)
def test_megabytes_around_an_image_are_looked_at_in_no_time(image):
    """Pillow took 2 to 5 s for the size of each, and let nothing else of Python run."""
    begun = time.process_time()
    try:
        read_image_file(image)
    except ValueError:
        assert image[:-12_000_000] != PNG
    assert time.process_time() - begun < 1


def test_damaged_images_are_read_or_refused_and_no_more():
    random = np.random.default_rng(0)
    images = [image[:end] for image in (PNG, JPEG) for end in range(200)]
    images += [hostile.mutated((PNG, JPEG)[number % 2], random) for number in range(5000)]
    images += [hostile.mutated(image[:60], random) for image in (PNG, JPEG) for _ in range(5000)]
    for image in images:
        try:
            found = read_image_file(image)
        except ValueError:
            continue
        assert found.contents[:2] == image[:2]
        if found.width * found.height <= 2**24:
            inflates_too_far(found.contents)


@pytest.mark.parametrize(
    "image", [b"", b"\x89PNG\r\n\x1a\n", PNG[:20], JPEG[:3], JPEG[:2] + b"\xff\xda", b"GIF89a"]
)
def test_what_announces_no_size_is_no_image(image):
    with pytest.raises(ValueError, match="expected"):
        read_image_file(image)
