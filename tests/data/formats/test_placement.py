"""How images of other aspect ratios are resized, and how masks and maps are put back onto them."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.formats.images import decode_image
from data.formats.masks import decode_mask
from data.formats.placement import place
from lmf_jax.config import ImageSpec

SIDES = st.integers(1, 70)


def encode(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    return file.getvalue()


def test_a_stretched_mask_takes_the_size_of_its_image() -> None:
    restored = place(ImageSpec(1, 2), (6, 2)).restore_mask(np.array([[3, 200]]))
    np.testing.assert_array_equal(restored, [[3, 3, 3, 200, 200, 200]] * 2)


@given(SIDES, SIDES, SIDES, SIDES)
def test_stretching_is_the_plain_resize_of_pillow(height, width, rows, columns) -> None:
    values = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    spec = ImageSpec(rows, columns)
    plain = (
        Image.fromarray(values).convert("RGB").resize((columns, rows), Image.Resampling.BILINEAR)
    )
    np.testing.assert_array_equal(decode_image(encode(values), spec), np.asarray(plain))
    mask = Image.fromarray(values).resize((columns, rows), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(decode_mask(encode(values), spec, 256), np.asarray(mask))
    back = mask.resize((width, height), Image.Resampling.NEAREST)
    restored = place(spec, (width, height)).restore_mask(np.asarray(mask))
    np.testing.assert_array_equal(restored, np.asarray(back))


@pytest.mark.parametrize(
    ("size", "window"), [((80, 40), (0, 8, 32, 24)), ((5, 80), (15, 0, 17, 32))]
)
def test_padding_keeps_the_whole_image_and_is_black(size, window) -> None:
    width, height = size
    white = np.full((height, width), 255, np.uint8)
    image = decode_image(encode(white), ImageSpec(32, 32, "pad"))
    inside = np.zeros((32, 32), bool)
    inside[window[1] : window[3], window[0] : window[2]] = True
    assert (image[inside] == 255).all() and not image[~inside].any()
    mask = decode_mask(encode(white), ImageSpec(32, 32, "pad"), 2)
    np.testing.assert_array_equal(mask, inside)
    restored = place(ImageSpec(32, 32, "pad"), size).restore_mask(mask)
    assert restored.shape == (height, width) and restored.all()


def test_cropping_keeps_the_center_and_the_rest_is_background() -> None:
    columns = np.repeat(np.arange(4, dtype=np.uint8), 20)[None].repeat(40, 0)  # 80 wide, 40 high
    spec = ImageSpec(32, 32, "crop")
    mask = decode_mask(encode(columns), spec, 4)
    np.testing.assert_array_equal(mask, np.repeat([1, 2], 16)[None].repeat(32, 0))
    image = decode_image(encode(columns * np.uint8(80)), spec)[..., 0]
    assert (image[:, 1:15] == 80).all() and (image[:, 17:31] == 160).all()
    restored = place(spec, (80, 40)).restore_mask(mask)
    expected = np.where((columns == 1) | (columns == 2), columns, 0)
    np.testing.assert_array_equal(restored, expected)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(["pad", "crop"]))
def test_any_image_fits_and_comes_back(height, width, rows, columns, resize) -> None:
    spec, values = ImageSpec(rows, columns, resize), np.ones((height, width), np.uint8)
    mask = decode_mask(encode(values), spec, 2)
    assert decode_image(encode(values), spec).shape == spec.shape
    assert mask.any() and (resize == "pad" or mask.all())
    placement = place(spec, (width, height))
    restored = placement.restore_mask(mask)
    assert resize == "crop" or restored.all()
    left, top, right, bottom = placement.frame
    heat = placement.restore_map(np.ones((bottom - top, right - left), np.float32))
    assert heat.shape == (height, width)
    assert heat.any() and (resize == "crop" or heat.all())


@given(st.integers(20, 70), st.integers(20, 70), st.sampled_from(["pad", "crop"]))
def test_a_mask_comes_back_to_its_pixels(height, width, resize) -> None:
    """With a resized image that is larger than the original, nothing that was used is lost."""
    rng, spec = np.random.default_rng(0), ImageSpec(210, 210, resize)
    values = rng.integers(1, 4, (height, width), np.uint8)
    placement = place(spec, (width, height))
    restored = placement.restore_mask(decode_mask(encode(values), spec, 4))
    left, top, right, bottom = placement.box
    used = np.s_[round(top + 0.51) : int(bottom - 0.01), round(left + 0.51) : int(right - 0.01)]
    np.testing.assert_array_equal(restored[used], values[used])
