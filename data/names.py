"""What a dataset is called: a name such as ham10000, or a kind and a path such as folder:PATH."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from lmf_jax.errors import UserError

EMBEDDED = ("digits_lt",)
"""Datasets that come with a package."""

DOWNLOADS = ("covid19_radiography", "ham10000", "isic2019", "odir5k")
"""Datasets that a person downloads, and prepares from the folder of the download."""

VOLUMES = ("brats20", "kits19")
"""Datasets of volumes for segmentation; a person downloads them, and prepares them from there."""

OWN = {"folder": "folder:PATH", "manifest": "manifest:FILE.csv", "medmnist": "medmnist:FILE.npz"}
"""Kinds of dataset that are named by the path of their files, and how."""


@dataclass(frozen=True)
class DatasetName:
    """A dataset's name, taken apart.

    Attributes:
        kind: The folder under ``data/`` that reads it.
        path: Where its files lie, if the name says so.
    """

    kind: str
    path: Path | None = None

    @property
    def label(self) -> str:
        """A name for files and titles: readable, and another one for every path."""
        if self.path is None:
            return self.kind
        digest = hashlib.sha256(bytes(self.path.absolute())).hexdigest()
        return f"{self.kind}-{readable(self.path)}-{digest[:8]}"


def readable(path: Path) -> str:
    """Returns the last part of a path in letters, digits and underscores."""
    return re.sub(r"\W+", "_", path.absolute().name.lower(), flags=re.ASCII)[:40]


def parse_name(name: str) -> DatasetName:
    """Takes a dataset's name apart.

    Args:
        name: As typed: one of :data:`EMBEDDED` or :data:`DOWNLOADS`, or a kind and a path.

    Raises:
        UserError: If there is no such dataset, or nothing lies at its path.
    """
    kind, colon, path = name.partition(":")
    if colon and kind in OWN and path:
        return DatasetName(kind, _existing(name, kind, Path(path).expanduser()))
    if name in (*EMBEDDED, *DOWNLOADS):
        return DatasetName(name)
    if name in VOLUMES:
        raise UserError(f"{name} holds volumes for segmentation; this takes images of one class.")
    choices = ", ".join((*EMBEDDED, *DOWNLOADS, *OWN.values()))
    raise UserError(f"There is no dataset named {name!r}; choose one of {choices}.")


def _existing(name: str, kind: str, path: Path) -> Path:
    try:
        is_there = path.is_dir() if kind == "folder" else path.is_file()
    except OSError:  # a name longer than the disk allows
        is_there = False
    if not is_there:
        expected = "folder" if kind == "folder" else "file"
        raise UserError(f"{name} names no {expected} that is there; expected {OWN[kind]}.")
    return path
