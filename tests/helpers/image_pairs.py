"""Folders of images and masks, in which the number of an image determines its mask."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (12, 9)
"""Width and height."""


def classes_of(number: int, num_classes: int = 2) -> np.ndarray:
    """Return the class of every pixel of image ``number``: columns that move with the number."""
    width, height = SIZE
    columns = (np.arange(width) // 2 + number) % num_classes
    return np.broadcast_to(columns, (height, width)).astype(np.uint8)


def draw_image(path: Path, number: int) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)


def draw_mask(path: Path, number: int, num_classes: int = 2, white: int = 1) -> None:
    """Write the mask of image ``number``, of values that are ``white`` times the class."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(classes_of(number, num_classes) * np.uint8(white)).save(path)


def draw_pairs(folder: Path, count: int, ending: str = "", **options) -> str:
    """Draw images and masks and return the name of the dataset."""
    for number in range(count):
        draw_image(folder / "images" / f"{number:02d}.png", number)
        draw_mask(folder / "masks" / f"{number:02d}{ending}.png", number, **options)
    return f"pairs:{folder / 'images'},{folder / 'masks'}"
