"""What a dataset is called: a name such as ham10000, or a kind and a path such as folder:PATH."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from data.file_names import on_disk
from lmf_jax.errors import UserError

EMBEDDED = ("digits_lt", "digits_masks")
"""Datasets that come with a package."""

DOWNLOADS = (
    "covid19_radiography",
    "ham10000",
    "ham10000_masks",
    "isic2018_task1",
    "isic2019",
    "odir5k",
)
"""Datasets that a person downloads, and prepares from the folder of the download."""

VOLUMES = ("brats20", "kits19")
"""Datasets of volumes for segmentation; a person downloads them, and prepares them from there."""

OWN = {
    "folder": "folder:PATH",
    "manifest": "manifest:FILE.csv",
    "medmnist": "medmnist:FILE.npz",
    "pairs": "pairs:IMAGES,MASKS",
}
"""Kinds of dataset that are named by the path of their files, and how."""

WITH_MASKS = ("digits_masks", "ham10000_masks", "isic2018_task1", "pairs")
"""Datasets to segment: every image has a mask, a class for every pixel, and no class as a whole."""


@dataclass(frozen=True)
class FolderPair:
    """The folders of images and of their masks.

    Attributes:
        images: The folder of the images.
        masks: The folder of the masks.
    """

    images: Path
    masks: Path

    def __str__(self) -> str:
        return f"{self.images}, {self.masks}"


RawFolder = Path | FolderPair
"""What holds raw data: a folder or file, or a folder of images and one of masks."""


@dataclass(frozen=True)
class DatasetName:
    """A dataset's name, taken apart.

    Attributes:
        kind: The folder under ``data/`` that reads it.
        path: Where its files lie, if the name says so.
        masks: Where its masks lie, if the name says so.
    """

    kind: str
    path: Path | None = None
    masks: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths that the name says, from the root."""
        return tuple(path.absolute() for path in (self.path, self.masks) if path is not None)

    @property
    def raw(self) -> RawFolder | None:
        """What holds its raw data, if the name says so."""
        if self.path is None or self.masks is None:
            return self.path
        return FolderPair(self.path, self.masks)

    @property
    def has_masks(self) -> bool:
        """Whether every image has a mask instead of a class."""
        return self.kind in WITH_MASKS

    @property
    def label(self) -> str:
        """A name for files and titles: readable, and another one for every path."""
        if self.path is None:
            return self.kind
        digest = hashlib.sha256(b"\0".join(map(bytes, self.paths))).hexdigest()
        return f"{self.kind}-{readable(self.path)}-{digest[:8]}"


def readable(path: Path) -> str:
    """Return the last part of a path in letters, digits and underscores."""
    return re.sub(r"\W+", "_", path.absolute().name.lower(), flags=re.ASCII)[:40]


def parse_name(name: str) -> DatasetName:
    """Take a dataset's name apart.

    Args:
        name: As typed: one of :data:`EMBEDDED` or :data:`DOWNLOADS`, or a kind and a path, of
            pairs two with a comma between them.

    Raises:
        UserError: If there is no such dataset, or nothing lies at its path.
    """
    kind, colon, path = name.partition(":")
    if colon and kind in OWN and path:
        images, _, masks = path.partition(",") if kind == "pairs" else (path, "", None)
        folders = [] if masks is None else [_existing(name, kind, masks)]
        return DatasetName(kind, _existing(name, kind, images), *folders)
    if name in (*EMBEDDED, *DOWNLOADS):
        return DatasetName(name)
    if name in VOLUMES:
        raise UserError(f"{name} holds volumes, for --task segmentation alone; this takes images.")
    choices = ", ".join((*EMBEDDED, *DOWNLOADS, *OWN.values()))
    raise UserError(f"There is no dataset named {name!r}; choose one of {choices}.")


def _existing(name: str, kind: str, text: str) -> Path:
    path, is_folder = on_disk(Path(text).expanduser()), kind in ("folder", "pairs")
    try:
        is_there = bool(text) and (path.is_dir() if is_folder else path.is_file())
    except OSError:  # a name longer than the disk allows
        is_there = False
    if not is_there:
        expected = "folder" if is_folder else "file"
        raise UserError(f"{name} names no {expected} that is there; expected {OWN[kind]}.")
    return path
