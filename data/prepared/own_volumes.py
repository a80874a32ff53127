"""Preparation of the user's volumes: every case is examined, a plan is made, and cases prepared."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32
from tqdm import tqdm

from data.datasets.volumes.intensity import (
    SAMPLES,
    Scheme,
    foreground_sample,
    scheme_of,
)
from data.datasets.volumes.layout import OwnVolumes, find_own_volumes
from data.datasets.volumes.plan import Plan
from data.datasets.volumes.rules import (
    batch_size,
    patch_size,
    resampled_shapes,
    target_spacing,
)
from data.formats.dicom.identity import patient_groups
from data.formats.dicom.volume import volume_identity
from data.formats.nifti import open_nifti
from data.formats.volume_file import VolumeFile, check_same_space
from data.labels import fill_groups
from data.names import parse_volumes_name
from data.prepared.prepare import prepare_command
from data.prepared.prepare_volumes import (
    RawCases,
    bounding_box,
    build_volumes,
    describe_broken,
    open_images,
)
from data.prepared.volumes import (
    FOREGROUND_FILE,
    PLAN_FILE,
    PreparedVolumes,
    foreground_digest,
    volumes_folder,
)
from data.storage import replacing
from data.volume_spec import ENDINGS, CaseFiles
from lmf_jax.errors import UserError

MOST_UNNAMED = 32
"""Maximum number of labels without ``dataset.json``; more values indicate an image."""

CROPPED_SIZE = 0.75
"""Relative size of the median case without its borders of 0 below which these are cropped."""


@dataclass(frozen=True, eq=False)
class CaseFacts:
    """Properties of a case that the plan depends on.

    Attributes:
        shape: Voxels along z, y, x.
        cropped_shape: Voxels without the borders in which every modality is 0, or a CT its lowest
            value.
        spacing: Size of a voxel along z, y, x, in mm.
        lowest: Lowest value of every modality.
        foreground: For each CT modality, values of the foreground; NaN without foreground.
        labels: Labels in ascending order.
    """

    shape: tuple[int, ...]
    cropped_shape: tuple[int, ...]
    spacing: tuple[float, float, float]
    lowest: tuple[float, ...]
    foreground: Float32[np.ndarray, "modalities samples"]
    labels: tuple[int, ...]


def prepare_own_volumes(name: str, data_dir: Path, *, skip_broken: bool = False) -> PreparedVolumes:
    """Prepare the user's volumes, unless their present state is already prepared.

    Every file is read twice: for the plan, and to prepare it.

    Args:
        name: Name of the dataset, as given on the command line.
        data_dir: Folder of prepared datasets.
        skip_broken: Whether to leave out cases that cannot be used.

    Raises:
        UserError: If the layout is not valid, a case cannot be used and ``skip_broken`` is False,
            or ``data_dir`` cannot be written.
    """
    raw = parse_volumes_name(name).raw
    assert raw is not None
    folder, command = volumes_folder(name, data_dir), prepare_command(name, None, data_dir)

    def find() -> RawCases:
        return _plan_cases(find_own_volumes(raw), folder, str(raw), command, skip_broken)

    return build_volumes(name, folder, find, str(raw), command, skip_broken=skip_broken)


def _plan_cases(
    found: OwnVolumes, folder: Path, source: str, command: str, skip_broken: bool
) -> RawCases:
    """Examine every case and write the plan and the foreground values of the usable ones."""
    schemes = tuple(map(scheme_of, found.modalities))
    declared = None if found.declared is None else found.declared.label_values
    facts: list[CaseFacts] = []
    cases: list[CaseFiles] = []
    broken: dict[str, str] = {}
    bar = tqdm(found.cases, desc="Examining cases", unit="case", leave=False, disable=None)
    for case in bar:
        try:
            facts.append(examine_case(case, schemes, declared))
            cases.append(case)
        except UserError as error:
            broken[case.id] = str(error)
    if broken and (not skip_broken or not cases):
        raise UserError(describe_broken(broken, len(found.cases), source, command))
    ids = np.array([case.id for case in cases])
    values = np.stack([case.foreground for case in facts])
    plan = make_plan(found, schemes, facts, foreground_digest(ids, values))
    with replacing(folder / FOREGROUND_FILE) as file:
        np.savez(file, ids=ids, values=values)
    with replacing(folder / PLAN_FILE) as file:
        file.write(json.dumps(plan.record(), indent=1).encode() + b"\n")
    return RawCases(plan.spec(), cases, broken, case_patients(cases))


def case_patients(cases: Sequence[CaseFiles]) -> dict[str, str]:
    """Return the patient of every case as a salted hash, by the name of the case.

    Args:
        cases: Cases that were examined.

    Returns:
        The hashes of the Patient IDs, see :func:`data.formats.dicom.identity.patient_groups`; empty
        if an image is not DICOM, or Patient IDs tell nothing about patients.
    """
    images = [case.image_paths() for case in cases]
    if any(path.name.endswith(ENDINGS) for paths in images for path in paths):
        return {}
    names = [case.id for case in cases]
    groups = patient_groups([volume_identity(first) for first, *_ in images])
    return {} if groups is None else dict(zip(names, fill_groups(groups, names), strict=True))


def examine_case(
    case: CaseFiles, schemes: Sequence[Scheme], label_values: Sequence[int] | None
) -> CaseFacts:
    """Read all files of a case.

    Args:
        case: The case.
        schemes: Scheme of every modality.
        label_values: Allowed labels; None allows any.

    Raises:
        UserError: If a file is missing or damaged, the files have different grids, or a value is
            not finite or not a label.
    """
    images, labels = open_images(case), open_nifti(case.labels_path())
    check_same_space(images[0], labels)
    values = labels.label_values(MOST_UNNAMED) if label_values is None else tuple(label_values)
    foreground = np.array(values)[labels.read_labels(values)] > 0
    inside = np.zeros(images[0].oriented_shape, bool)
    lowest, samples = [], [np.zeros((0, SAMPLES), np.float32)]
    for file, scheme in zip(images, schemes, strict=True):
        low, sample = _examine_image(file, scheme, foreground, inside)
        lowest.append(low)
        samples += [sample] if scheme == "ct" else []
    box = bounding_box(inside) if inside.any() else ()
    return CaseFacts(
        shape=inside.shape,
        cropped_shape=tuple(part.stop - part.start for part in box) or inside.shape,
        spacing=images[0].spacing,
        lowest=tuple(lowest),
        foreground=np.concatenate(samples),
        labels=values,
    )


def _examine_image(
    file: VolumeFile,
    scheme: Scheme,
    foreground: Bool[np.ndarray, "d h w"],
    inside: Bool[np.ndarray, "d h w"],
) -> tuple[float, Float32[np.ndarray, "1 samples"]]:
    """Return the lowest value and the foreground of an image; add its inside to ``inside``."""
    image = file.read_image()
    lowest = float(image.min())
    inside |= image != (np.float32(lowest) if scheme == "ct" else 0)
    sample = foreground_sample(image, foreground)
    return lowest, sample[None] if len(sample) else np.full((1, SAMPLES), np.nan, np.float32)


def make_plan(
    found: OwnVolumes, schemes: tuple[Scheme, ...], facts: Sequence[CaseFacts], digest: str
) -> Plan:
    """Choose spacing, patch size and the handling of intensities.

    Args:
        found: The files.
        schemes: Scheme of every modality.
        facts: Facts on every case that can be used, at least one.
        digest: SHA-256, in hex, over the foreground values.

    Raises:
        UserError: If no case has a label besides the background, or all have too many.
    """
    names, values = _classes(found, facts)
    sizes = [np.prod(case.cropped_shape) / np.prod(case.shape) for case in facts]
    crop = "z-score" in schemes and float(np.median(sizes)) < CROPPED_SIZE
    shapes = np.array([case.cropped_shape if crop else case.shape for case in facts], np.int64)
    spacings = np.array([case.spacing for case in facts], np.float64)
    spacing = target_spacing(spacings, shapes)
    resampled = resampled_shapes(spacings, shapes, spacing)
    patch = patch_size(resampled, spacing)
    lowest = np.min([case.lowest for case in facts], axis=0).tolist()
    pairs = zip(schemes, lowest, strict=True)
    return Plan(
        class_names=names,
        label_values=values,
        modalities=found.modalities,
        schemes=schemes,
        spacing=spacing,
        padding=tuple(low if scheme == "ct" else 0.0 for scheme, low in pairs),
        crop=crop,
        is_numbered=found.is_numbered,
        patch_size=patch,
        batch_size=batch_size(resampled, patch),
        num_cases=len(facts),
        foreground=digest,
    )


def _classes(
    found: OwnVolumes, facts: Sequence[CaseFacts]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names and labels of the classes, by ``dataset.json`` or by the label maps."""
    if found.declared is not None:
        return found.declared.class_names, found.declared.label_values
    values = sorted({0}.union(*(case.labels for case in facts)))
    if not 2 <= len(values) <= MOST_UNNAMED:
        shown = ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
        raise UserError(
            f"The label maps in {found.labels} hold {len(values)} labels ({shown}); expected 2 to "
            f"{MOST_UNNAMED} with 0 for the background, or their names in {found.json_path}."
        )
    return ("background", *(f"label {value}" for value in values[1:])), tuple(values)
