"""A predicted mask reads back as it was predicted, whatever the number of classes."""

from pathlib import Path

import numpy as np
from PIL import Image

from data.formats.masks import class_ids, read_mask
from data.formats.png import PALETTE, save_mask


def check_reads_back(ids: np.ndarray, num_classes: int, path: Path) -> None:
    """Compare a saved mask with what this project and plain Pillow read."""
    save_mask(ids, path)
    np.testing.assert_array_equal(class_ids(read_mask(path.read_bytes()), num_classes), ids)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), ids)


def test_masks_of_every_number_of_classes_read_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for num_classes in range(1, 257):
        ids = rng.integers(0, num_classes, (32, 32)).astype(np.uint8)
        ids.flat[:num_classes] = np.arange(num_classes)
        check_reads_back(ids, num_classes, tmp_path / "mask.png")


def test_masks_of_one_or_two_of_many_classes_read_back_exactly(tmp_path: Path) -> None:
    """The reader takes palettes of black and white alone for two classes."""
    for class_id in range(256):
        ids = np.full((4, 5), class_id, np.uint8)
        check_reads_back(ids, 256, tmp_path / "one.png")
        ids[0, 0] = 0
        check_reads_back(ids, 256, tmp_path / "two.png")


def test_every_class_has_its_own_color() -> None:
    assert len(PALETTE) == len(set(PALETTE)) == 256
    assert PALETTE[0] == (0, 0, 0)
    assert (255, 255, 255) not in PALETTE
