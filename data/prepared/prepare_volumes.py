"""Preparation of datasets of volumes: every NIfTI file is checked, normalized and resampled."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Shaped
from tqdm import tqdm

from data.builders.images import SKIPPED_FILE
from data.formats.dicom.volume import open_dicom_volume
from data.formats.nifti import open_nifti
from data.formats.volume_file import LARGEST_VOLUME, VolumeFile, check_same_space
from data.prepared.case_file import CaseFile, Volume, open_case, write_case
from data.prepared.prepare import prepare_command
from data.prepared.volumes import (
    METHOD_VERSION,
    PreparedVolumes,
    case_path,
    open_complete,
    open_prepared_volumes,
    volumes_folder,
    write_index,
)
from data.storage import build_lock, replacing
from data.volume_spec import ENDINGS, CaseFiles, VolumeSpec, files_of, volume_spec
from lmf_jax.errors import UserError


def prepare_volumes(
    name: str, raw_dir: Path, data_dir: Path, *, skip_broken: bool = False
) -> PreparedVolumes:
    """Prepare a dataset of volumes, unless it is already prepared.

    Several processes may call this at the same time: one prepares, the others wait for it. After an
    interruption, the next call continues with the first missing case.

    Args:
        name: Name of a dataset of volumes.
        raw_dir: Folder of the download.
        data_dir: Folder of prepared datasets.
        skip_broken: Whether to leave out cases that cannot be used.

    Raises:
        UserError: If a case cannot be used and ``skip_broken`` is False, or ``data_dir`` cannot be
            written.
    """

    def find() -> RawCases:
        spec = volume_spec(name)
        return RawCases(spec, spec.find_cases(raw_dir), {})

    folder = volumes_folder(name, data_dir)
    command = prepare_command(name, raw_dir, data_dir)
    return build_volumes(name, folder, find, str(raw_dir), command, skip_broken=skip_broken)


@dataclass(frozen=True)
class RawCases:
    """Cases to prepare.

    Attributes:
        spec: Specification of the dataset.
        cases: Files of the cases.
        broken: Why other cases cannot be used, by name.
        groups: Patient of every case, by name; empty if every case is another patient.
    """

    spec: VolumeSpec
    cases: Sequence[CaseFiles]
    broken: dict[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)


def build_volumes(
    name: str,
    folder: Path,
    find: Callable[[], RawCases],
    source: str,
    command: str,
    *,
    skip_broken: bool,
) -> PreparedVolumes:
    """Prepare the cases of a dataset into its folder, unless it is complete.

    Args:
        name: Name of a dataset of volumes.
        folder: Folder of the prepared dataset.
        find: Function that returns the cases.
        source: Location of the raw files, for the error.
        command: Command that prepares the dataset, for the error.
        skip_broken: Whether to leave out cases that cannot be used.

    Raises:
        UserError: If a case cannot be used and ``skip_broken`` is False, or the folder cannot be
            written.
    """
    if (prepared := open_complete(name, folder)) is not None:
        return prepared
    with build_lock(folder):
        if (prepared := open_complete(name, folder)) is not None:
            return prepared
        folder.mkdir(exist_ok=True)
        found = find()
        spec = found.spec
        files, unusable = _prepare_cases(spec, found.cases, folder)
        broken = found.broken | unusable
        if broken and (not skip_broken or not files):
            total = len(found.cases) + len(found.broken)
            raise UserError(describe_broken(broken, total, source, command))
        if broken:
            with replacing(folder / SKIPPED_FILE) as file:
                file.write("".join(f"{case}\n" for case in broken).encode())
        else:
            (folder / SKIPPED_FILE).unlink(missing_ok=True)
        write_index(folder, spec, files, found.groups)
    return open_prepared_volumes(name, folder)


def _prepare_cases(
    spec: VolumeSpec, cases: Sequence[CaseFiles], folder: Path
) -> tuple[list[CaseFile], dict[str, str]]:
    """Write the file of every case; return the files, and the reason by name of broken cases."""
    files: list[CaseFile] = []
    broken: dict[str, str] = {}
    for case in tqdm(cases, desc="Preparing cases", unit="case", leave=False, disable=None):
        path, state = case_path(folder, case.id), _state(case, spec)
        if (finished := _completed_case(path, spec, state)) is None:
            try:
                volume = prepare_case(spec, case)
            except UserError as error:
                broken[case.id] = str(error)
                continue
            with build_lock(path), replacing(path) as file:
                write_case(file, volume, len(spec.class_names), state)
            finished = open_case(path, len(spec.modalities), len(spec.class_names))
        files.append(finished)
    return files, broken


def _completed_case(path: Path, spec: VolumeSpec, state: str) -> CaseFile | None:
    """Return the file of a case from an earlier call if it is of the same raw files, else None."""
    try:
        case = open_case(path, len(spec.modalities), len(spec.class_names))
    except UserError:
        return None
    return case if case.state == state else None


def _state(case: CaseFiles, spec: VolumeSpec) -> str:
    """Return a hash of the state of the raw files and of the method of preparation."""
    try:
        paths = (*case.image_paths(), case.labels_path())
        stats = [file.stat() for path in paths for file in files_of(path)]
    except (UserError, OSError):
        return "missing"  # reported by name when the case is prepared
    known = [[stat.st_size, stat.st_mtime_ns] for stat in stats]
    method: list[Any] = [METHOD_VERSION] if spec.plan is None else [METHOD_VERSION, spec.plan]
    return hashlib.sha256(json.dumps([*method, known]).encode()).hexdigest()


def describe_broken(broken: dict[str, str], total: int, source: str, command: str) -> str:
    """Return the sentence that names the cases which cannot be used.

    Args:
        broken: The reason by name of case.
        total: Number of all cases.
        source: Location of the raw files.
        command: Command that prepares the dataset.
    """
    shown = [f"{case}: {reason.rstrip('.')}" for case, reason in list(broken.items())[:5]]
    more = "; ..." if len(broken) > 5 else ""
    given = f"{len(broken)} of {total} cases in {source} cannot be used "
    given += f"({'; '.join(shown)}{more})"
    if len(broken) == total:
        return f"{given}; nothing is left to prepare."
    return f"{given}; repair them, or leave them out with {command} --skip-broken"


def prepare_case(spec: VolumeSpec, case: CaseFiles) -> Volume:
    """Read a case: reorder the axes to z, y, x, normalize, resample and crop.

    Images are interpolated linearly between the centers of voxels, label maps take the nearest
    voxel. Both are sampled at the same points.

    Args:
        spec: Specification of the dataset.
        case: Files of the case.

    Raises:
        UserError: If a file is missing, damaged or has invalid values, or the files have different
            grids.
    """
    files, labels = open_images(case), open_nifti(case.labels_path())
    check_same_space(files[0], labels)
    image = read_image(spec, files)
    label_map = resample(
        labels.read_labels(spec.label_values), files[0].spacing, spec.spacing, order=0
    )
    box = bounding_box(kept_voxels(spec, image) | (label_map > 0))
    return Volume(np.ascontiguousarray(image[box]), np.ascontiguousarray(label_map[box]))


def open_images(case: CaseFiles) -> list[VolumeFile]:
    """Open the images of a case, one for each modality.

    Args:
        case: Files of the case.

    Raises:
        UserError: If one is missing or not a valid NIfTI file or DICOM volume, or they have
            different grids.
    """
    files: list[VolumeFile] = [
        open_nifti(path) if path.name.endswith(ENDINGS) else open_dicom_volume(path)
        for path in case.image_paths()
    ]
    for other in files[1:]:
        check_same_space(files[0], other)
    return files


def read_image(
    spec: VolumeSpec, files: Sequence[VolumeFile]
) -> Float32[np.ndarray, "depth height width modalities"]:
    """Read the modalities of a case, normalized and resampled.

    Args:
        spec: Specification of the dataset.
        files: Result of :func:`open_images`.

    Raises:
        UserError: If a file is damaged or has invalid values, or the result would be too large.
    """
    shape = _resampled_shape(files[0], spec.spacing)
    image = np.empty((*shape, len(files)), np.float32)
    for number, file in enumerate(files):
        values = spec.normalize[number](file.read_image())
        if values.min() == values.max():
            raise UserError(
                f"{file.path} has the single value {values.flat[0]:g}; expected an image."
            )
        image[..., number] = resample(values, files[0].spacing, spec.spacing, order=1)
    return image


def kept_voxels(
    spec: VolumeSpec, image: Float32[np.ndarray, "d h w modalities"]
) -> Bool[np.ndarray, "d h w"]:
    """Return the mask of voxels to keep: all, or those that differ from the padding.

    Args:
        spec: Specification of the dataset.
        image: Result of :func:`read_image`.
    """
    if not spec.crop:
        return np.ones(image.shape[:-1], bool)
    kept: Bool[np.ndarray, "d h w"] = (image != np.asarray(spec.padding, np.float32)).any(axis=-1)
    return kept


def _resampled_shape(file: VolumeFile, target: Sequence[float]) -> tuple[int, ...]:
    shape = _new_shape(file.oriented_shape, file.spacing, target)
    if math.prod(shape) > LARGEST_VOLUME:
        raise UserError(
            f"{file.path} would become {' x '.join(map(str, shape))} voxels; expected "
            f"at most {LARGEST_VOLUME} in all; check that its header gives voxel sizes in mm."
        )
    return shape


def _new_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    if _same_spacing(spacing, target):
        return tuple(shape)
    triples = zip(shape, spacing, target, strict=True)
    return tuple(max(1, round(size * old / new)) for size, old, new in triples)


def resample(
    values: Shaped[np.ndarray, "depth height width"],
    spacing: Sequence[float],
    target: Sequence[float],
    *,
    order: int,
    shape: Sequence[int] | None = None,
) -> Shaped[np.ndarray, "new_depth new_height new_width"]:
    """Resample a volume to another spacing, around the same center.

    The result covers the extent of the volume as closely as whole voxels allow, so its edges differ
    by up to half a voxel, equally on both sides. Spacings that differ by less than 0.1 % are equal.

    Args:
        values: The volume.
        spacing: Size of its voxels, in mm.
        target: Size of the new voxels, in mm.
        order: 1 for linear interpolation, 0 for the nearest voxel.
        shape: Shape of the new volume if known, as for the way back; None computes it.

    Returns:
        The new volume, in the type of the old one.
    """
    from scipy.ndimage import affine_transform

    if _same_spacing(spacing, target):
        return values
    shape = _new_shape(values.shape, spacing, target) if shape is None else tuple(shape)
    steps = np.divide(target, spacing)
    start = (np.array(values.shape) - 1 - (np.array(shape) - 1) * steps) / 2
    return affine_transform(values, np.diag(steps), start, shape, order=order, mode="nearest")


def _same_spacing(spacing: Sequence[float], target: Sequence[float]) -> bool:
    return np.allclose(spacing, target, rtol=1e-3, atol=0)


def bounding_box(mask: Bool[np.ndarray, "d h w"]) -> tuple[slice, ...]:
    """Return the smallest box around all True voxels.

    Args:
        mask: Mask with at least one True voxel.
    """
    box = []
    for axis in range(3):
        others = tuple({0, 1, 2} - {axis})
        (found,) = np.nonzero(mask.any(axis=others))
        box.append(slice(int(found[0]), int(found[-1]) + 1))
    return tuple(box)
