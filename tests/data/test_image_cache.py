"""A cache of decoded images that is whole or not there."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import Dataset, cached_images
from lmf_jax.errors import UserError


def encode(image: Image.Image, format: str = "png", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


def made_up_dataset(digits: Dataset, encoded: list[bytes]) -> Dataset:
    ids = np.array([f"image-{row}" for row in range(len(encoded))])
    return replace(
        digits,
        ids=ids,
        labels=np.zeros(len(encoded), np.int32),
        source=encoded,
        content_fingerprint="0" * 64,
    )


def test_the_cache_is_what_pillow_decodes(digits: Dataset, data_dir: Path) -> None:
    images = cached_images(digits, 32, data_dir)
    assert images.shape == (1797, 32, 32, 3)
    assert images.dtype == np.uint8
    for row in (0, 300, 1796):
        image = Image.open(io.BytesIO(digits.source[row])).convert("RGB")
        expected = image.resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(images[row], np.asarray(expected))


def test_the_cache_is_a_read_only_memory_map(digits: Dataset, data_dir: Path) -> None:
    images = cached_images(digits, 32, data_dir)
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_a_finished_cache_is_opened_and_not_decoded_again(digits: Dataset, tmp_path: Path) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    first = cached_images(dataset, 4, tmp_path)
    unreadable = replace(dataset, source=[b""], rows={}, fingerprint="another split")
    np.testing.assert_array_equal(cached_images(unreadable, 4, tmp_path), first)


@pytest.mark.parametrize("size", [0, 40, 128, -1])
def test_a_cache_that_was_cut_short_is_rebuilt(digits: Dataset, tmp_path: Path, size: int) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    whole = np.array(cached_images(dataset, 8, tmp_path))
    (path,) = (tmp_path / "images").glob("*.npy")
    content = path.read_bytes()
    path.write_bytes(content[:size])
    np.testing.assert_array_equal(cached_images(dataset, 8, tmp_path), whole)
    assert path.read_bytes() == content


def test_sizes_have_caches_of_their_own(digits: Dataset, tmp_path: Path) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    assert cached_images(dataset, 4, tmp_path).shape == (1, 4, 4, 3)
    assert cached_images(dataset, 6, tmp_path).shape == (1, 6, 6, 3)
    assert len(list((tmp_path / "images").glob("*.npy"))) == 2


def test_more_images_than_one_block_stay_in_row_order(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.image_cache.BLOCK", 4)
    encoded = [encode(Image.new("L", (3, 3), row)) for row in range(11)]
    images = cached_images(made_up_dataset(digits, encoded), 2, tmp_path)
    assert images[:, 0, 0, 0].tolist() == list(range(11))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"no image at all", "no known format"),
        (b"", "no known format"),
        (encode(Image.new("RGB", (64, 64), "red"), "jpeg")[:400], "Truncated"),
        (encode(Image.new("F", (4, 4), 0.5), "tiff"), "floating-point"),
        (encode(Image.new("I", (4, 4), 70000), "tiff"), "outside 0..65535"),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named_and_leaves_no_cache(
    digits: Dataset, tmp_path: Path, broken: bytes, reason: str
) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8))), broken])
    with pytest.raises(UserError, match=rf"image-1 of digits_lt .*decoded \(.*{reason}"):
        cached_images(dataset, 8, tmp_path)
    assert [path for path in (tmp_path / "images").iterdir() if path.suffix != ".lock"] == []


def test_a_folder_that_cannot_be_written_is_named(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/data.* cannot be written .*--data-dir"):
        cached_images(digits, 8, tmp_path / "file" / "data")


def test_an_image_size_below_one_is_refused(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        cached_images(digits, 0, tmp_path)


@pytest.mark.parametrize("damage", ["an archive", "code", "another type", "a header of no array"])
def test_a_cache_of_something_else_is_rebuilt(digits: Dataset, tmp_path: Path, damage: str) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    whole = np.array(cached_images(dataset, 8, tmp_path))
    (path,) = (tmp_path / "images").glob("*.npy")
    content = path.read_bytes()
    changed = {
        "an archive": b"PK\x03\x04" + content,
        "code": content.replace(b"(1, 8", b"f( , 8"),
        "another type": content.replace(b"|u1", b"|i1"),
        "a header of no array": content[:8] + b"\xff\xff" + b"(" * 5000,
    }
    path.write_bytes(changed[damage])
    np.testing.assert_array_equal(cached_images(dataset, 8, tmp_path), whole)
    assert path.read_bytes() == content
