"""From a download to a prepared dataset: every image looked at, nothing half-done left behind."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from data.labels import Labels
from data.prepared import Prepared, build, builder_of, open_prepared
from data.splits import PARTS, paper_split
from lmf_jax.errors import UserError

SKIPPED_FILE = "skipped.txt"
"""Names of the images that were left out, in the folder of the prepared dataset."""


def prepare(name: str, raw_dir: Path, data_dir: Path, *, skip_broken: bool = False) -> Prepared:
    """Prepares a download, unless that is done already.

    Args:
        name: Name of the dataset.
        raw_dir: The folder of the download.
        data_dir: The folder of prepared datasets.
        skip_broken: Whether to leave out images that are missing or cannot be decoded.

    Raises:
        UserError: If the download contradicts itself, an image is missing or broken and may not be
            left out, or ``data_dir`` cannot be written.
    """
    builder = builder_of(name, data_dir)
    folder = Path(builder.data_dir)
    if not folder.exists():
        labels = builder.download.read_labels(raw_dir)
        broken = broken_images(builder, labels, raw_dir)
        if broken and not skip_broken:
            raise UserError(
                f"{len(broken)} of {len(labels.ids)} images in {raw_dir} are missing or cannot be "
                f"decoded ({', '.join(broken[:5])}{', ...' if len(broken) > 5 else ''}); mend the "
                "download, or leave them out with --skip-broken."
            )
        builder.skipped = frozenset(broken)
        build(builder, raw_dir)
        if broken:
            (folder / SKIPPED_FILE).write_text("".join(f"{name}\n" for name in broken))
    return open_prepared(name, data_dir)


def broken_images(builder: Any, labels: Labels, raw_dir: Path) -> list[str]:
    """Returns the names of the images that are missing or cannot be decoded, in order.

    Args:
        builder: The builder of the dataset, which knows where an image lies.
        labels: The labels of the download.
        raw_dir: The folder of the download.
    """
    names = labels.ids.tolist()

    def is_broken(name: str) -> bool:
        return not _can_be_decoded(builder.download.image_path(raw_dir, name))

    with ThreadPoolExecutor() as pool:
        results = pool.map(is_broken, names)
        progress = tqdm(
            results, desc="Checking images", total=len(names), leave=False, delay=2, disable=None
        )
        return [name for name, broken in zip(names, progress, strict=True) if broken]


def differences(prepared: Prepared, expected: dict[str, int]) -> list[str]:
    """Says where the sizes of the paper's split are not those of its Table 1.

    Args:
        prepared: The dataset.
        expected: Images per part as the paper has them.
    """
    rows = paper_split(prepared.labels, seed=0)
    return [
        f"{part}: {len(rows[part])} images, {expected[part]} in the paper"
        for part in PARTS
        if len(rows[part]) != expected[part]
    ]


def class_table(prepared: Prepared) -> str:
    """Returns the number of images of each class, a line each."""
    counts = np.bincount(prepared.labels, minlength=len(prepared.class_names))
    width = max(map(len, prepared.class_names))
    return "\n".join(
        f"{name:{width}}{count:8d}"
        for name, count in zip(prepared.class_names, counts, strict=True)
    )


def _can_be_decoded(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except Exception:  # Pillow's formats raise nearly everything
        return False
    return True
