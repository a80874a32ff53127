"""Small images in a folder per class, one color per class."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw_images(folder: Path, counts: tuple[int, int, int], seed: int = 0) -> Path:
    """Draw red, green and blue images of 16x12 pixels and return the folder."""
    rng = np.random.default_rng(seed)
    for label, (name, count) in enumerate(zip(("red", "green", "blue"), counts, strict=True)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 200, (12, 16, 3), np.uint8)
            pixels[..., label] += 55
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder
