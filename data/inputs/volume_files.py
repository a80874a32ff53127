"""Volumes that belong to no dataset: what a trained model is asked about, and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from data.builders.unused_files import non_case_lines, non_image_lines, unused_entries, unused_line
from data.formats.nifti import NiftiFile, write_label_map
from data.prepared.prepare_volumes import (
    bounding_box,
    kept_voxels,
    open_images,
    read_image,
    resample,
)
from data.volume_spec import CaseFiles, VolumeSpec
from lmf_jax.errors import UserError


def find_inference_cases(spec: VolumeSpec, path: str | Path) -> list[CaseFiles]:
    """Return the case in a folder, or the cases in the folders right in it, by name.

    What holds at least one image of a case is one; a label map is not needed.

    Args:
        spec: The dataset that they are like.
        path: The folder.

    Raises:
        UserError: If there is no case, or the folder cannot be listed.
    """
    path = Path(path).expanduser()
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
    raise UserError(f"{path} holds no case; expected a folder CASE with {files}, or such folders.")


def skipped_lines(path: str | Path, cases: Sequence[CaseFiles], output: Path) -> list[str]:
    """Return a line for each kind of file and folder that is not part of a case.

    Args:
        path: The folder.
        cases: From :func:`find_inference_cases`.
        output: The folder of the results, which is not told.
    """
    folder = Path(path).expanduser()
    if cases[0].folder != folder:
        return non_case_lines(folder, cases, [output])
    files, folders = unused_entries(folder, [output, *cases[0].existing_paths()])
    lines = non_image_lines(folder, files, f"{folder} is one case")
    if folders:
        lines.append(unused_line(folder, folders, "folder", f"{folder} is one case"))
    return lines


@dataclass(frozen=True, eq=False)
class InferenceVolume:
    """A case as a model is given it, and what leads back to its files.

    Attributes:
        spec: The dataset that it is like.
        image: Normalized, resampled and cut to what there is.
        shape: Of the image before it was cut.
        box: Where it was cut out.
        file: That of the first modality.
    """

    spec: VolumeSpec
    image: Float32[np.ndarray, "depth height width modalities"]
    shape: tuple[int, ...]
    box: tuple[slice, ...]
    file: NiftiFile

    def save_labels(
        self, probabilities: Float32[np.ndarray, "depth height width classes"], path: Path
    ) -> None:
        """Write the label of the most probable class of every voxel of the file.

        Probabilities are interpolated linearly between voxels of the image; what was cut off is
        background.

        Args:
            probabilities: Of each class in each voxel of the image.
            path: The label map, with the labels of the dataset.
        """
        class_ids = self._most_probable(probabilities)
        values = np.array(self.spec.label_values, np.uint8)
        write_label_map(path, values[class_ids], self.file)

    def _most_probable(
        self, probabilities: Float32[np.ndarray, "depth height width classes"]
    ) -> UInt8[np.ndarray, "file_depth file_height file_width"]:
        """Return class ids, one class after the other: all at once take too much memory."""
        shape = self.file.turned_shape
        highest, class_ids = np.full(shape, -1, np.float32), np.zeros(shape, np.uint8)
        for class_id in range(probabilities.shape[-1]):
            whole = np.full(self.shape, class_id == 0, np.float32)
            whole[self.box] = probabilities[..., class_id]
            here = resample(whole, self.spec.spacing, self.file.spacing, order=1, shape=shape)
            higher = here > highest
            highest[higher], class_ids[higher] = here[higher], class_id
        return class_ids


def read_inference_volume(spec: VolumeSpec, case: CaseFiles) -> InferenceVolume:
    """Read the images of a case.

    Args:
        spec: The dataset that it is like.
        case: From :func:`find_inference_cases`.

    Raises:
        UserError: If an image is missing, cannot be read or holds what it may not, or the images do
            not lie at the same place.
    """
    files = open_images(case)
    image = read_image(spec, files)
    box = bounding_box(kept_voxels(spec, image))
    return InferenceVolume(spec, np.ascontiguousarray(image[box]), image.shape[:-1], box, files[0])
