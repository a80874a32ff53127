"""What a dataset is called: a name such as ham10000, or a kind and a path such as folder:PATH."""

from dataclasses import dataclass
from pathlib import Path

from lmf_jax.errors import UserError

EMBEDDED = ("digits_lt",)
"""Datasets that come with a package."""

DOWNLOADS = ("covid19_radiography", "ham10000", "isic2019", "odir5k")
"""Datasets that a person downloads, and prepares from the folder of the download."""

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
    choices = ", ".join((*EMBEDDED, *DOWNLOADS, *OWN.values()))
    raise UserError(f"There is no dataset named {name!r}; choose one of {choices}.")


def _existing(name: str, kind: str, path: Path) -> Path:
    is_there = path.is_dir() if kind == "folder" else path.is_file()
    if not is_there:
        expected = "a folder" if kind == "folder" else "a file"
        raise UserError(f"{name} is not there; expected {expected}, written as {OWN[kind]}.")
    return path
