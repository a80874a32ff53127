"""Small images with two labels, listed in a manifest with patients and metadata."""

from pathlib import Path

import numpy as np
from PIL import Image

NUM_IMAGES = 60


def vector_of(number: int) -> list[int]:
    """Return the labels of an image: red and rare; every seventh red is missing."""
    return [-1 if number % 7 == 0 else number % 2, int(number % 5 == 0)]


def draw_labeled_images(folder: Path, seed: int = 0) -> Path:
    """Draw 60 images of 30 patients and return the path of their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path,label:red,label:rare,group,sex"]
    for number in range(NUM_IMAGES):
        red, rare = vector_of(number)
        pixels = np.random.default_rng([seed, number]).integers(0, 80, (32, 32, 3), np.uint8)
        pixels[..., 0] += np.uint8(150 * (number % 2))
        pixels[..., 1] += np.uint8(150 * rare)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        sex = ("female", "male", "")[number // 2 % 3]
        cell = "" if red == -1 else red
        lines.append(f"{number:02d}.png,{cell},{rare},patient {seed}-{number // 2},{sex}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"
