"""Names of datasets: one such as ``ham10000``, or a kind and a path such as ``folder:PATH``."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from data.file_names import on_disk
from data.registry import DatasetSpec, find_dataset, registered_datasets
from lmf_jax.errors import UserError


@dataclass(frozen=True)
class FolderPair:
    """Folders of images and of their masks.

    Attributes:
        images: Folder of the images.
        masks: Folder of the masks.
    """

    images: Path
    masks: Path

    def __str__(self) -> str:
        return f"{self.images}, {self.masks}"


RawFolder = Path | FolderPair
"""Location of raw data: a folder or file, or a folder of images and one of masks."""


@dataclass(frozen=True)
class DatasetName:
    """Parsed name of a dataset.

    Attributes:
        kind: Name of the dataset's folder in ``data/datasets``.
        path: Path in the name; None if there is none.
        masks: Path of the masks in the name; None if there is none.
    """

    kind: str
    path: Path | None = None
    masks: Path | None = None

    @property
    def spec(self) -> DatasetSpec:
        """Specification of the dataset."""
        return registered_datasets()[self.kind]

    @property
    def paths(self) -> tuple[Path, ...]:
        """All paths in the name, absolute."""
        return tuple(path.absolute() for path in (self.path, self.masks) if path is not None)

    @property
    def raw(self) -> RawFolder | None:
        """Location of the raw data; None if the name has no path."""
        if self.path is None or self.masks is None:
            return self.path
        return FolderPair(self.path, self.masks)

    @property
    def has_masks(self) -> bool:
        """Whether every image has a mask instead of a class."""
        return self.spec.task == "segmentation"

    @property
    def has_label_vectors(self) -> bool:
        """Whether an image may have several labels, or none, instead of one class."""
        return self.spec.task == "multilabel"

    @property
    def label(self) -> str:
        """Readable name for files and titles, unique to the paths."""
        if self.path is None:
            return self.kind
        digest = hashlib.sha256(b"\0".join(map(bytes, self.paths))).hexdigest()
        return f"{self.kind}-{readable(self.path)}-{digest[:8]}"


def readable(path: Path) -> str:
    """Return the last part of a path in letters, digits and underscores."""
    return re.sub(r"\W+", "_", path.absolute().name.lower(), flags=re.ASCII)[:40]


def multilabel_name(name: str) -> str:
    """Return the name of a dataset whose images may have several labels.

    A download or a list of images that has both a class and several labels for every image is two
    datasets: ``odir5k`` and ``odir5k_multilabel``.

    Args:
        name: Name as given on the command line with ``--task multilabel``.
    """
    kind, colon, path = name.partition(":")
    own = f"{kind}_multilabel"
    return name if find_dataset(own) is None else f"{own}{colon}{path}"


def parse_name(name: str) -> DatasetName:
    """Parse the name of a dataset of images.

    Args:
        name: Name as given on the command line: a registered dataset, followed by a colon and its
            paths, with a comma between them, if it consists of the user's files.

    Raises:
        UserError: If there is no such dataset, it has volumes, or a path does not exist.
    """
    parsed = _parse(name, has_volumes=False)
    if parsed.spec.has_volumes:
        raise UserError(
            f"{name} has volumes, which only --task segmentation reads; expected a dataset of "
            "images."
        )
    return parsed


def parse_volumes_name(name: str) -> DatasetName:
    """Parse the name of a dataset of volumes.

    Args:
        name: Name as given on the command line.

    Raises:
        UserError: If there is no such dataset of volumes, or a path does not exist.
    """
    spec = find_dataset(name)
    if spec is not None and not spec.has_volumes:
        raise UserError(f"{name} has images; expected a dataset of volumes.")
    return _parse(name, has_volumes=True)


def _parse(name: str, *, has_volumes: bool) -> DatasetName:
    """Parse a name; if there is no such dataset, the error lists those with volumes, or images."""
    kind, _, text = name.partition(":")
    spec = find_dataset(kind)
    if spec is not None and spec.paths and text:
        texts = text.split(",", maxsplit=len(spec.paths) - 1)
        texts += [""] * (len(spec.paths) - spec.optional_paths - len(texts))
        return DatasetName(kind, *(_existing_path(name, spec, *pair) for pair in enumerate(texts)))
    if spec is None or spec.paths or name != kind:
        specs = registered_datasets().values()
        choices = ", ".join(other.form for other in specs if other.has_volumes == has_volumes)
        noun = "dataset of volumes" if has_volumes else "dataset"
        raise UserError(f"There is no {noun} named {name!r}; choose one of {choices}.")
    return DatasetName(kind)


def _existing_path(name: str, spec: DatasetSpec, number: int, text: str) -> Path:
    """Return a path in a name as the disk spells it; raise ``UserError`` if it does not exist."""
    path, expected = on_disk(Path(text).expanduser()), spec.paths[number]
    try:
        exists = bool(text) and (path.is_dir() if expected == "folder" else path.is_file())
    except OSError:  # a name longer than the disk allows
        exists = False
    if not exists:
        raise UserError(f"{name} names no existing {expected}; expected {spec.form}.")
    return path
