"""Images come out as a viewer shows them, whatever their mode."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, UnidentifiedImageError

from data.formats.images import decode_image, open_rgb, read_encoded, reason
from data.inputs.image_files import InferenceImages
from data.prepared.prepare import prepare
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError


def encode(image: Image.Image, format: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


def corner_colors(image: Image.Image, format: str = "png", **options) -> list[tuple]:
    """Return the decoded colors of a 2x2 image: top left, top right, bottom left, right."""
    decoded = decode_image(encode(image, format, **options), ImageSpec(2, 2))
    assert decoded.shape == (2, 2, 3)
    assert decoded.dtype == np.uint8
    return [tuple(color) for color in decoded.reshape(4, 3).tolist()]


def test_exif_rotation_is_applied() -> None:
    image = Image.new("RGB", (2, 2))
    image.putdata([(10, 0, 0), (20, 0, 0), (30, 0, 0), (40, 0, 0)])
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by a quarter
    colors = corner_colors(image, exif=exif)
    assert [red for red, _, _ in colors] == [30, 10, 40, 20]


def test_gray_becomes_rgb() -> None:
    image = Image.new("L", (2, 2), 77)
    assert corner_colors(image) == [(77, 77, 77)] * 4


def test_a_palette_becomes_its_colors() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert corner_colors(image) == [(200, 100, 50)] * 4


def test_transparent_parts_are_laid_on_white() -> None:
    image = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert corner_colors(image) == [(255, 255, 255)] * 4
    image = Image.new("LA", (2, 2), (0, 255))
    assert corner_colors(image) == [(0, 0, 0)] * 4


def test_a_transparent_palette_entry_is_laid_on_white() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert corner_colors(image, transparency=1) == [(255, 255, 255)] * 4


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_16_bit_gray_is_scaled_from_its_full_range(format: str) -> None:
    image = Image.fromarray(np.array([[0, 129], [32768, 65535]], np.uint16))
    assert [red for red, _, _ in corner_colors(image, format)] == [0, 1, 128, 255]


PICTURES = {  # the same picture, from black to white, at each depth
    "1": Image.fromarray(np.arange(64).reshape(8, 8) >= 32),
    "8": Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)),
    "16": Image.fromarray(np.arange(0, 256, 4, dtype=np.uint16).reshape(8, 8) * 257),
}


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "group4"])
@pytest.mark.parametrize("depth", PICTURES)
def test_white_is_zero_gives_the_same_picture_at_every_depth(depth: str, compression) -> None:
    if compression == "group4" and depth != "1":
        pytest.skip("a compression of 1-bit images")
    image = PICTURES[depth]
    expected = decode_image(encode(image), ImageSpec(8, 8))
    assert expected[0, 0, 0] < expected[-1, -1, 0]
    if depth == "16":  # Pillow inverts what it saves at the other depths, but not here
        image = Image.fromarray(65535 - np.asarray(image))
    encoded = encode(image, "tiff", tiffinfo={262: 0}, compression=compression)
    np.testing.assert_array_equal(decode_image(encoded, ImageSpec(8, 8)), expected)


def test_white_is_zero_in_a_tiff_that_exif_turns() -> None:
    image = Image.fromarray(np.array([[65535, 0], [32768, 129]], np.uint16))
    colors = corner_colors(image, "tiff", tiffinfo={262: 0, 274: 6})  # a quarter clockwise
    assert [red for red, _, _ in colors] == [127, 0, 254, 255]


def test_32_bit_integers_count_as_16_bit_gray() -> None:
    image = Image.new("I", (2, 2), 65535)
    assert corner_colors(image, "tiff") == [(255, 255, 255)] * 4


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    decoded = decode_image(encode(Image.fromarray(stripes)), ImageSpec(8, 8))
    assert np.abs(decoded.astype(int) - 128).max() < 8


def test_cmyk_becomes_the_colors_that_ink_makes() -> None:
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))  # magenta and yellow ink
    assert corner_colors(image, "tiff") == [(255, 0, 0)] * 4


def test_the_inverted_ink_of_a_cmyk_jpeg_is_understood() -> None:
    # Adobe's programs store ink inverted and mark it; so does Pillow.
    encoded = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "jpeg", quality=95)
    assert b"Adobe" in encoded
    difference = decode_image(encoded, ImageSpec(4, 4)).astype(int) - [255, 0, 0]
    assert np.abs(difference).max() <= 3


@pytest.mark.parametrize("side", [32, 224, 300])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_resizing_equals_torchvision_within_one_gray_level(side: int, mode: str) -> None:
    transforms = pytest.importorskip("torchvision.transforms", reason="needs torchvision")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (150, 200, 3) if mode == "RGB" else (150, 200), np.uint8)
    image = Image.fromarray(pixels)
    expected = np.asarray(transforms.Resize((side, side))(image.convert("RGB")))
    difference = decode_image(encode(image), ImageSpec(side, side)).astype(int) - expected
    assert np.abs(difference).max() <= 1


def test_the_first_picture_of_an_animation_is_taken() -> None:
    first, second = Image.new("L", (2, 2), 60), Image.new("L", (2, 2), 200)
    colors = corner_colors(first, "tiff", save_all=True, append_images=[second])
    assert colors == [(60, 60, 60)] * 4


ENCODED = {
    format: encode(Image.new("RGB", (30, 20)), format)
    for format in ("bmp", "gif", "jpeg", "png", "ppm", "tiff", "webp")
}


@pytest.mark.parametrize("format", ENCODED)
def test_too_many_pixels_are_refused_before_they_are_decoded(format: str, monkeypatch) -> None:
    assert decode_image(ENCODED[format], ImageSpec(4, 4)).shape == (4, 4, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 299)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(Image.DecompressionBombError, match=r"600 pixels\) exceeds limit of 598"):
        decode_image(ENCODED[format], ImageSpec(4, 4))


def test_gray_is_the_stored_value_or_the_luma_of_a_color() -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, 7), np.uint8)
    spec = ImageSpec(9, 7, channels=1)
    for image in (Image.fromarray(values), Image.fromarray(values).convert("RGB")):
        np.testing.assert_array_equal(decode_image(encode(image), spec), values[..., None])
    red = decode_image(encode(Image.new("RGB", (7, 9), "red")), spec)
    assert red.shape == (9, 7, 1) and (red == 76).all()  # 0.299 of 255
    deep = Image.fromarray(values.astype(np.uint16) * 257)
    np.testing.assert_array_equal(decode_image(encode(deep), spec), values[..., None])


def test_a_format_that_pillow_gives_to_another_program_is_not_opened() -> None:
    with pytest.raises(UnidentifiedImageError):
        decode_image(encode(Image.new("RGB", (2, 2)), "eps"), ImageSpec(4, 4))


def tiff_of(dtype: str, photometric: int = 1) -> bytes:
    """Return a TIFF of one pixel of 4 bytes or more, whatever Pillow makes of it."""
    bits, kind = np.dtype(dtype).itemsize * 8, {"u": 1, "i": 2, "f": 3}[np.dtype(dtype).kind]
    tags = [
        (256, 1), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1),
        (278, 1), (279, bits // 8), (339, kind),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    pixel = np.ones(1, dtype).tobytes()
    start = struct.pack("<I", 8 + len(pixel))
    return b"II*\0" + start + pixel + struct.pack("<H", len(tags)) + entries + bytes(4)


FLOATS = "floating-point pixels have no fixed range; save it with 8 or 16 bits"
UNREADABLE = {
    "HTML": (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "it is an HTML page, not an image"),
    "XML": (b"<?xml version='1.0'?><Error/>", "it is an XML document, not an image"),
    "empty": (b"", "no known format: the file is empty"),
    "text": (b"no image", "no known format"),
    "float32": (tiff_of("<f4"), FLOATS),
    "float64": (tiff_of("<f8"), FLOATS),
    "float32, white is 0": (tiff_of("<f4", 0), FLOATS),
    "64 bits": (tiff_of("<u8"), "a TIFF of 64 bits per pixel cannot be read; save it with 8"),
    "32 bits, white is 0": (
        tiff_of("<u4", 0),
        "a TIFF of 32 bits per pixel in which 0 is white cannot",
    ),
    "32 bits": (tiff_of("<i4").replace(struct.pack("<i", 1), struct.pack("<i", -1), 1), "outside"),
}


@pytest.mark.parametrize(("encoded", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_every_file_that_is_no_image_has_its_reason(
    encoded: bytes, message: str, tmp_path: Path
) -> None:
    """Prepared or predicted, the words are the same."""
    (tmp_path / "raw" / "a").mkdir(parents=True)
    (tmp_path / "raw" / "b").mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "raw" / "b" / "good.png")
    path = tmp_path / "raw" / "a" / "bad.jpg"
    path.write_bytes(encoded)
    images = InferenceImages([path], ImageSpec(4, 4), 1)
    assert not any(batch["mask"].any() for batch in images)
    assert message in images.broken[0]
    (tmp_path / "list.csv").write_text("path,label\nraw/a/bad.jpg,a\nraw/b/good.png,b\n")
    for name in (f"folder:{tmp_path / 'raw'}", f"manifest:{tmp_path / 'list.csv'}"):
        with pytest.raises(UserError) as caught:
            prepare(name, None, tmp_path / "data")
        assert f"bad.jpg: {images.broken[0]})" in str(caught.value)
    with pytest.raises((ValueError, OSError)) as refused:
        open_rgb(encoded)
    assert reason(refused.value) == images.broken[0]


def test_a_missing_file_and_one_that_may_not_be_read_have_their_reason(tmp_path: Path) -> None:
    images = InferenceImages(
        [tmp_path / "none.png", tmp_path / "none.png" / "a.png"], ImageSpec(4, 4), 1
    )
    (tmp_path / "file.png").write_bytes(b"")
    images.files.append(tmp_path / "file.png" / "a.png")
    assert len(list(images)) == 3
    assert images.broken == {
        0: "the file is missing",
        1: "the file is missing",
        2: "Not a directory",
    }


def test_a_file_is_read_and_nothing_else(tmp_path) -> None:
    (tmp_path / "image.png").write_bytes(b"bytes")
    assert read_encoded(tmp_path / "image.png") == b"bytes"
    os.mkfifo(tmp_path / "pipe.png")  # who reads it waits for ever
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "endless.png"):
        with pytest.raises(ValueError, match="it is not a regular file"):
            read_encoded(tmp_path / name)
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**30 + 1)
    with pytest.raises(ValueError, match="its file has 1073741825 bytes; expected 1073741824"):
        read_encoded(tmp_path / "huge.png")
