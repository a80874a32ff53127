"""Inputs and outputs of inference from volumes outside of a dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from data.builders.unused_files import (
    is_same,
    non_case_lines,
    non_image_lines,
    unused_entries,
    unused_line,
)
from data.datasets.volumes.plan import parse_plan
from data.formats.nifti import write_label_map
from data.formats.volume_file import VolumeFile
from data.prepared.prepare_volumes import (
    bounding_box,
    kept_voxels,
    open_images,
    read_image,
    resample,
)
from data.volume_spec import CaseFiles, VolumeSpec, volume_spec
from lmf_jax.errors import UserError


def spec_of_run(dataset: Mapping[str, Any]) -> VolumeSpec:
    """Return the specification of the volumes that a run was trained on.

    Args:
        dataset: The description of the data in ``config.json``.

    Raises:
        UserError: If it is of another version.
    """
    if "plan" not in dataset:
        return volume_spec(dataset["name"])
    try:
        return parse_plan(dataset["plan"]).spec()
    except ValueError as error:
        raise UserError(
            f"The run records how {dataset['name']} was prepared by another version ({error}); "
            "train it again."
        ) from error


def find_inference_cases(spec: VolumeSpec, path: str | Path) -> list[CaseFiles]:
    """Return the case in a folder, or the cases in its sub-folders, sorted by name.

    A folder is a case if it has at least one image of it; a label map is not needed. If cases of
    the dataset share a folder, they are the cases in this folder, or it is a DICOM series.

    Args:
        spec: Specification of the dataset of the model.
        path: The folder, or an enhanced DICOM file.

    Raises:
        UserError: If there is no case, or the folder cannot be listed.
    """
    path = Path(path).expanduser()
    if spec.case_of is None:
        return spec.find_cases(path)
    try:
        folders = sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    except OSError as error:
        raise UserError(f"{path} cannot be listed ({error.strerror}).") from error
    for candidates in ([path], folders):
        cases = [case for case in map(spec.case_of, candidates) if any(map(case.has, case.images))]
        if cases:
            return cases
    example = spec.case_of(Path("CASE"))
    files = ", ".join(f"{name}.nii.gz" for name in example.images)
    raise UserError(f"{path} has no case; expected a folder CASE with {files}, or such folders.")


def skipped_lines(path: str | Path, cases: Sequence[CaseFiles], output: Path) -> list[str]:
    """Return a line for each type of file, and for folders, that are not part of a case.

    Args:
        path: The folder.
        cases: Result of :func:`find_inference_cases`.
        output: Folder of the results, which is left out of the lines.
    """
    folder = Path(path).expanduser()
    if any(is_same(folder, image) for image in cases[0].existing_paths()):
        return []
    if cases[0].folder != folder:
        return non_case_lines(folder, cases, [output])
    used = {path for case in cases for path in case.existing_paths()}
    files, folders = unused_entries(folder, [output])
    others = [file for file in files if file not in used]
    advice = f"{folder} is one case" if len(cases) == 1 else f"{folder} has files of the cases"
    lines = non_image_lines(folder, others, advice)
    if folders:
        lines.append(unused_line(folder, folders, "folder", advice))
    return lines


@dataclass(frozen=True, eq=False)
class InferenceVolume:
    """Case as the input of a model, with the way back to the grid of its files.

    Attributes:
        spec: Specification of the dataset of the model.
        image: Normalized, resampled and cropped image.
        shape: Shape of the image before cropping.
        box: Position of the crop.
        file: File of the first modality.
    """

    spec: VolumeSpec
    image: Float32[np.ndarray, "depth height width modalities"]
    shape: tuple[int, ...]
    box: tuple[slice, ...]
    file: VolumeFile

    def save_labels(
        self, probabilities: Float32[np.ndarray, "depth height width classes"], path: Path
    ) -> None:
        """Write the label of the most probable class of every voxel of the file.

        Probabilities are interpolated linearly between voxels of the image; voxels outside of the
        crop are background.

        Args:
            probabilities: Probability of each class in each voxel of the image.
            path: Label map to write, with the labels of the dataset.
        """
        class_ids = self._most_probable(probabilities)
        values = np.array(self.spec.label_values)
        values = values.astype(np.uint8 if values.max() < 256 else np.uint16)
        write_label_map(path, values[class_ids], self.file)

    def _most_probable(
        self, probabilities: Float32[np.ndarray, "depth height width classes"]
    ) -> UInt8[np.ndarray, "file_depth file_height file_width"]:
        """Return class ids; resample one class at a time, since all take too much memory."""
        shape = self.file.oriented_shape
        highest, class_ids = np.full(shape, -1, np.float32), np.zeros(shape, np.uint8)
        for class_id in range(probabilities.shape[-1]):
            uncropped = np.full(self.shape, class_id == 0, np.float32)
            uncropped[self.box] = probabilities[..., class_id]
            here = resample(uncropped, self.spec.spacing, self.file.spacing, order=1, shape=shape)
            higher = here > highest
            highest[higher], class_ids[higher] = here[higher], class_id
        return class_ids


def read_inference_volume(spec: VolumeSpec, case: CaseFiles) -> InferenceVolume:
    """Read the images of a case.

    Args:
        spec: Specification of the dataset of the model.
        case: Case of :func:`find_inference_cases`.

    Raises:
        UserError: If an image is missing, damaged or has invalid values, or the images have
            different grids.
    """
    files = open_images(case)
    image = read_image(spec, files)
    box = bounding_box(kept_voxels(spec, image))
    return InferenceVolume(spec, np.ascontiguousarray(image[box]), image.shape[:-1], box, files[0])
