"""A cache of decoded images that is whole or not there."""

import errno
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import Dataset, cached_images, evaluation_batches, train_batches
from data.batches.image_cache import CachedImages
from lmf_jax.config import ImageSpec
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


def everything(images: CachedImages) -> np.ndarray:
    return images[np.arange(images.shape[0])]


def test_the_cache_is_what_pillow_decodes(digits: Dataset, data_dir: Path) -> None:
    images = cached_images(digits, ImageSpec(32, 32), data_dir)
    assert images.shape == (1797, 32, 32, 3)
    rows = np.array([300, 0, 1796, 300])
    pixels = images[rows]
    assert pixels.dtype == np.uint8
    for row, found in zip(rows.tolist(), pixels, strict=True):
        image = Image.open(io.BytesIO(digits.source[row])).convert("RGB")
        expected = image.resize((32, 32), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found, np.asarray(expected))


def test_a_row_that_is_not_there_is_an_error(digits: Dataset, data_dir: Path) -> None:
    images = cached_images(digits, ImageSpec(32, 32), data_dir)
    np.testing.assert_array_equal(images[np.array([-1])], images[np.array([1796])])
    with pytest.raises(IndexError):
        images[np.array([1797])]


def test_a_finished_cache_is_opened_and_not_decoded_again(digits: Dataset, tmp_path: Path) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    first = cached_images(dataset, ImageSpec(4, 4), tmp_path)
    unreadable = replace(dataset, source=[b""], rows={}, fingerprint="another split")
    np.testing.assert_array_equal(
        everything(cached_images(unreadable, ImageSpec(4, 4), tmp_path)), everything(first)
    )


@pytest.mark.fault(
    "the image cache was cut short before a run",
    "rebuilt",
)
@pytest.mark.parametrize("size", [0, 40, 128, 130, -4, -1])  # -4: as it was without checksums
def test_a_cache_that_was_cut_short_is_rebuilt(digits: Dataset, tmp_path: Path, size: int) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    whole = everything(cached_images(dataset, ImageSpec(8, 8), tmp_path))
    (path,) = (tmp_path / "images").glob("*.npy")
    content = path.read_bytes()
    path.write_bytes(content[:size])
    np.testing.assert_array_equal(
        everything(cached_images(dataset, ImageSpec(8, 8), tmp_path)), whole
    )
    assert path.read_bytes() == content


def test_a_cache_of_another_shape_is_rebuilt(digits: Dataset, tmp_path: Path) -> None:
    pictures = [encode(Image.new("L", (8, 8), value)) for value in (50, 60)]
    cached_images(made_up_dataset(digits, pictures), ImageSpec(8, 8), tmp_path)
    one = cached_images(made_up_dataset(digits, pictures[1:]), ImageSpec(8, 8), tmp_path)
    assert one[np.array([0])].max() == 60


@pytest.fixture
def opened(digits: Dataset, tmp_path: Path) -> CachedImages:
    """Six images of 8 pixels, the one in row i of value i."""
    pictures = [encode(Image.new("L", (8, 8), row)) for row in range(6)]
    return cached_images(made_up_dataset(digits, pictures), ImageSpec(8, 8), tmp_path)


@pytest.mark.fault(
    "the image cache is cut short under a run",
    "the image and the file were named, and what to do",
)
def test_a_cache_that_is_cut_short_under_a_run_is_named(opened: CachedImages) -> None:
    """A memory map would end the interpreter by SIGBUS."""
    os.truncate(opened.path, opened.start + 3 * 192 + 10)
    assert opened[np.array([2])].max() == 2
    message = rf"^Image image-3 .* cache {opened.path} \(the file has 10 of its 192 bytes"
    message += ".*remove that file"
    rows, labels = np.arange(6), np.zeros(6, np.int32)
    with pytest.raises(UserError, match=message):
        opened[np.array([0, 3])]
    with pytest.raises(UserError, match=rf"cannot be read from the image cache {opened.path}"):
        next(train_batches(opened, labels, rows, batch_size=6, seed=0))
    with pytest.raises(UserError, match=message):
        list(evaluation_batches(opened, labels, rows, batch_size=2))


@pytest.mark.fault(
    "one bit of the image cache is flipped",
    "the image was named at its first read",
)
def test_a_bit_that_flipped_on_the_disk_is_noticed(digits: Dataset, opened: CachedImages) -> None:
    content = bytearray(opened.path.read_bytes())
    content[opened.start + 4 * 192 + 100] ^= 16
    opened.path.write_bytes(content)
    assert everything_but(opened, 4).tolist() == [0, 1, 2, 3, 5]
    with pytest.raises(
        UserError, match=r"^Image image-4 .* \(its pixels have changed since they were"
    ):
        opened[np.array([4])]


def everything_but(images: CachedImages, row: int) -> np.ndarray:
    """Return the value of every image but one."""
    return images[np.delete(np.arange(images.shape[0]), row)][:, 0, 0, 0]


@pytest.mark.fault(
    "the disk of the image cache fails (EIO)",
    "the image and the file were named",
)
def test_a_disk_that_fails_is_named(opened: CachedImages, monkeypatch) -> None:
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("data.batches.image_cache.os.preadv", fail)
    with pytest.raises(UserError, match=rf"image-5 .* {opened.path} \(Input/output error\)"):
        opened[np.array([5])]


@pytest.mark.fault(
    "the image cache is removed or replaced under a run",
    "the run went on with the file that it had open",
)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_run_goes_on_when_its_cache_is_removed_or_replaced(
    opened: CachedImages, replaced: bool
) -> None:
    opened.path.unlink()
    if replaced:
        opened.path.write_bytes(b"another file")
    assert everything(opened)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_sizes_have_caches_of_their_own(digits: Dataset, tmp_path: Path) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    assert cached_images(dataset, ImageSpec(4, 4), tmp_path).shape == (1, 4, 4, 3)
    assert cached_images(dataset, ImageSpec(6, 6), tmp_path).shape == (1, 6, 6, 3)
    assert len(list((tmp_path / "images").glob("*.npy"))) == 2


def test_more_images_than_one_block_stay_in_row_order(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.batches.image_cache.BLOCK", 4)
    encoded = [encode(Image.new("L", (3, 3), row)) for row in range(11)]
    images = cached_images(made_up_dataset(digits, encoded), ImageSpec(2, 2), tmp_path)
    assert everything(images)[:, 0, 0, 0].tolist() == list(range(11))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (b"no image at all", "no known format"),
        (b"", "no known format"),
        (encode(Image.new("RGB", (64, 64), "red"), "jpeg")[:400], "Truncated"),
        (encode(Image.new("F", (4, 4), 0.5), "tiff"), "floating-point"),
        (encode(Image.new("I", (4, 4), 70000), "tiff"), "outside of 0 to 65535"),
    ],
)
def test_an_image_that_cannot_be_decoded_is_named_and_leaves_no_cache(
    digits: Dataset, tmp_path: Path, broken: bytes, reason: str
) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8))), broken])
    with pytest.raises(UserError, match=rf"image-1 of digits_lt .*decoded \(.*{reason}"):
        cached_images(dataset, ImageSpec(8, 8), tmp_path)
    assert [path for path in (tmp_path / "images").iterdir() if path.suffix != ".lock"] == []


def test_a_folder_that_cannot_be_written_is_named(digits: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/data.* cannot be written .*--data-dir"):
        cached_images(digits, ImageSpec(8, 8), tmp_path / "file" / "data")


def test_an_image_size_below_one_is_refused(digits: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 pixel, got 0"):
        cached_images(digits, ImageSpec(0, 0), tmp_path)


@pytest.mark.parametrize("damage", ["an archive", "code", "another type", "a header of no array"])
def test_a_cache_of_something_else_is_rebuilt(digits: Dataset, tmp_path: Path, damage: str) -> None:
    dataset = made_up_dataset(digits, [encode(Image.new("L", (8, 8), 50))])
    rows = np.arange(1)
    whole = cached_images(dataset, ImageSpec(8, 8), tmp_path)[rows]
    (path,) = (tmp_path / "images").glob("*.npy")
    content = path.read_bytes()
    changed = {
        "an archive": b"PK\x03\x04" + content,
        "code": content.replace(b"(1, 8", b"f( , 8"),
        "another type": content.replace(b"|u1", b"|i1"),
        "a header of no array": content[:8] + b"\xff\xff" + b"(" * 5000,
    }
    path.write_bytes(changed[damage])
    np.testing.assert_array_equal(cached_images(dataset, ImageSpec(8, 8), tmp_path)[rows], whole)
    assert path.read_bytes() == content
