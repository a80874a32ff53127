"""Specification of a dataset of volumes, and the files of its cases."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from lmf_jax.errors import UserError

ENDINGS = (".nii.gz", ".nii")
"""Endings of NIfTI files; of two files with the same name, the first is read."""

IMAGE_ENDINGS = (*ENDINGS, ".dcm", "")
"""Endings of the user's images: NIfTI, an enhanced DICOM file, and the folder of a series."""

VolumeArray = Float32[np.ndarray, "depth height width"]


@dataclass(frozen=True)
class CaseFiles:
    """Files of a case in a download, or of the user.

    Attributes:
        id: Name of the case.
        folder: Folder of the files.
        images: File name of each modality, without its ending.
        labels: File name of the label map, likewise; None for a case without labels.
        labels_folder: Folder of the label map; None if it lies beside the images.
        endings: Endings of the images; "" is that of the folder of a DICOM series.
    """

    id: str
    folder: Path
    images: tuple[str, ...]
    labels: str | None
    labels_folder: Path | None = None
    endings: tuple[str, ...] = ENDINGS

    def image_paths(self) -> list[Path]:
        """Return the paths of the images.

        Raises:
            UserError: If an image is missing.
        """
        return [_existing(self.folder, name, self.endings) for name in self.images]

    def labels_path(self) -> Path:
        """Return the path of the label map.

        Raises:
            UserError: If it is missing.
            ValueError: If the case has no labels.
        """
        if self.labels is None:
            raise ValueError(f"The case {self.id} has no label map.")
        return _existing(self.labels_folder or self.folder, self.labels, ENDINGS)

    def has(self, name: str) -> bool:
        """Return whether there is an image of this name."""
        return bool(_found(self.folder, name, self.endings))

    def has_labels(self) -> bool:
        """Return whether there is a label map."""
        folder = self.labels_folder or self.folder
        return self.labels is not None and bool(_found(folder, self.labels, ENDINGS))

    def existing_paths(self) -> list[Path]:
        """Return the existing files of the case, or folders, including the label map."""
        paths = [path for name in self.images for path in _found(self.folder, name, self.endings)]
        if self.labels is not None:
            paths += _found(self.labels_folder or self.folder, self.labels, ENDINGS)
        return paths


def files_of(path: Path) -> list[Path]:
    """Return the files of an image, sorted: those in the folder of a series, or the file itself.

    Args:
        path: File of a case, or folder of a DICOM series.
    """
    return sorted(filter(Path.is_file, path.iterdir())) if path.is_dir() else [path]


def is_volume(name: str) -> bool:
    """Return whether a file is a volume, by the end of its name."""
    return name.lower().endswith(ENDINGS)


def are_volumes(names: Iterable[str]) -> bool:
    """Return whether files are volumes; False if there are none."""
    return {is_volume(str(name)) for name in names} == {True}


def _existing(folder: Path, name: str, endings: Sequence[str]) -> Path:
    if found := _found(folder, name, endings):
        return found[0]
    others = "" if endings == ENDINGS else ", or DICOM in a folder of this name or .dcm"
    raise UserError(f"{folder} has no {name}.nii.gz or {name}.nii; expected one of them{others}.")


def _found(folder: Path, name: str, endings: Sequence[str]) -> list[Path]:
    paths = (folder / f"{name}{ending}" for ending in endings)
    return [path for path in paths if (path.exists() if path.name != name else path.is_dir())]


@dataclass(frozen=True)
class VolumeSpec:
    """Specification of a dataset of volumes.

    Attributes:
        class_names: Name of every class, by class id; the background is the first.
        label_values: Label in the files of every class, by class id.
        modalities: Name of every modality, in the order of the last axis.
        spacing: Size of a prepared voxel along z, y, x, in mm.
        padding: Prepared value outside a volume; one for each modality if they differ.
        crop: Whether borders of :attr:`padding` are cropped.
        case_of: Function from a folder to the case in it; None if cases share a folder.
        find_cases: Function from the folder of a download to its cases, in order; if cases share a
            folder, from this folder to the cases without their labels.
        normalize: For each modality, a function from its values to the prepared values; it may
            change them in place.
        plan: How the user's files are prepared, as JSON; None for a dataset with fixed values.
    """

    class_names: tuple[str, ...]
    label_values: tuple[int, ...]
    modalities: tuple[str, ...]
    spacing: tuple[float, float, float]
    padding: float | tuple[float, ...]
    crop: bool
    case_of: Callable[[Path], CaseFiles] | None
    find_cases: Callable[[Path], list[CaseFiles]]
    normalize: tuple[Callable[[VolumeArray], VolumeArray], ...]
    plan: Mapping[str, Any] | None = None


def volume_spec(name: str) -> VolumeSpec:
    """Return the specification of a downloaded dataset of volumes.

    Args:
        name: Name of the dataset.
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
