"""Specification of a dataset of volumes, and the files of its cases."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from lmf_jax.errors import UserError

VolumeArray = Float32[np.ndarray, "depth height width"]


@dataclass(frozen=True)
class CaseFiles:
    """Files of a case in a download.

    Attributes:
        id: Name of the case.
        folder: Folder of the files.
        images: File name of each modality, without ``.nii`` or ``.nii.gz``.
        labels: File name of the label map, likewise.
    """

    id: str
    folder: Path
    images: tuple[str, ...]
    labels: str

    def image_paths(self) -> list[Path]:
        """Return the paths of the images.

        Raises:
            UserError: If an image is missing.
        """
        return [self._path(name) for name in self.images]

    def labels_path(self) -> Path:
        """Return the path of the label map.

        Raises:
            UserError: If it is missing.
        """
        return self._path(self.labels)

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name, compressed or not."""
        return any(path.exists() for path in self._candidates(name))

    def existing_paths(self) -> list[Path]:
        """Return the existing files of the case, including the label map."""
        names = (*self.images, self.labels)
        return [path for name in names for path in self._candidates(name) if path.exists()]

    def _path(self, name: str) -> Path:
        for path in self._candidates(name):
            if path.exists():
                return path
        raise UserError(f"{self.folder} has no {name}.nii.gz or {name}.nii; expected one of them.")

    def _candidates(self, name: str) -> list[Path]:
        return [self.folder / f"{name}{ending}" for ending in (".nii.gz", ".nii")]


@dataclass(frozen=True)
class VolumeSpec:
    """Specification of a dataset of volumes.

    Attributes:
        class_names: Name of every class, by class id; the background is the first.
        label_values: Label in the files of every class, by class id.
        modalities: Name of every modality, in the order of the last axis.
        spacing: Size of a prepared voxel along z, y, x, in mm.
        padding: Normalized value outside a volume.
        crop: Whether borders of :attr:`padding` are cropped.
        case_of: Function from a folder to the case in it.
        find_cases: Function from the folder of a download to its cases, in order.
        normalize: Function from the values of one modality to the input of a model; it may change
            them in place.
    """

    class_names: tuple[str, ...]
    label_values: tuple[int, ...]
    modalities: tuple[str, ...]
    spacing: tuple[float, float, float]
    padding: float
    crop: bool
    case_of: Callable[[Path], CaseFiles]
    find_cases: Callable[[Path], list[CaseFiles]]
    normalize: Callable[[VolumeArray], VolumeArray]


def volume_spec(name: str) -> VolumeSpec:
    """Return the specification of a dataset of volumes.

    Args:
        name: Name of a dataset of volumes.
    """
    spec: VolumeSpec = import_module(f"data.datasets.{name}.volumes").SPEC
    return spec


def case_folders(raw_dir: Path, pattern: str, example: str) -> list[Path]:
    """Return the folders of the cases of a download, sorted by name.

    Args:
        raw_dir: Folder of the download.
        pattern: Regular expression of their names.
        example: Example of a folder with its files, for the error.

    Raises:
        UserError: If there is none, or the folder cannot be listed.
    """
    try:
        found = [path for path in raw_dir.iterdir() if re.fullmatch(pattern, path.name, re.ASCII)]
        folders = sorted(path for path in found if path.is_dir())
    except OSError as error:
        raise UserError(f"{raw_dir} cannot be listed ({error.strerror}).") from error
    if not folders:
        raise UserError(f"{raw_dir} has no case; expected folders such as {example}.")
    return folders
