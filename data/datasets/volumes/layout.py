"""Files of the user's volumes: nnU-Net's layout, or a folder of images and one of label maps.

An image is ``CASE.nii.gz``, or ``CASE_0000.nii.gz``, ``CASE_0001.nii.gz`` and so on for the
modalities of a case; its label map is ``CASE.nii.gz``. In place of ``.nii.gz``, an image has
``.dcm`` if it is an enhanced DICOM file, and no ending if it is the folder of a DICOM series.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data.builders.image_folder import is_hidden
from data.builders.unused_files import (
    counted,
    is_same,
    non_image_lines,
    unused_entries,
    unused_line,
)
from data.datasets.volumes.dataset_json import FILE, DatasetJson, read_dataset_json
from data.formats.dicom.series import is_dicom_volume, is_series_folder
from data.names import FolderPair, RawFolder
from data.volume_spec import ENDINGS, IMAGE_ENDINGS, CaseFiles, files_of
from lmf_jax.errors import UserError

IMAGES, LABELS, TEST_IMAGES = "imagesTr", "labelsTr", "imagesTs"
"""Folders in nnU-Net's layout."""

LONGEST_CASE = 200
"""Maximum bytes of the name of a case, which names files of the prepared dataset."""


@dataclass(frozen=True)
class OwnVolumes:
    """The files of the user, none of which has been opened yet.

    Attributes:
        images: Folder of the images.
        labels: Folder of the label maps.
        cases: All cases, sorted by name; files of a case may be missing.
        num_modalities: Number of modalities.
        is_numbered: Whether the names of images end in the number of the modality.
        declared: Contents of ``dataset.json``; None without one.
        json_path: Path of this file.
        root: Folder that contains all of them; None for two folders.
    """

    images: Path
    labels: Path
    cases: tuple[CaseFiles, ...]
    num_modalities: int
    is_numbered: bool
    declared: DatasetJson | None
    json_path: Path
    root: Path | None

    @property
    def modalities(self) -> tuple[str, ...]:
        """Name of every modality."""
        if self.declared is not None:
            return self.declared.modalities
        if self.num_modalities == 1:
            return ("image",)
        return tuple(f"modality {number}" for number in range(self.num_modalities))

    def files(self) -> Iterator[Path]:
        """Yield every existing file of the dataset."""
        if self.declared is not None:
            yield self.json_path
        for case in self.cases:
            for path in case.existing_paths():
                yield from files_of(path)


def find_own_volumes(raw: RawFolder) -> OwnVolumes:
    """Find the cases of the user by the names of their files.

    Args:
        raw: Folder in nnU-Net's layout, or two folders.

    Raises:
        UserError: If a folder cannot be listed or has no volume, the names of files are ambiguous,
            or ``dataset.json`` is missing from nnU-Net's layout or not valid.
    """
    if isinstance(raw, FolderPair):
        root, images, labels, json_path = None, raw.images, raw.masks, raw.masks / FILE
        if is_same(images, labels):
            raise UserError(
                f"{images} is given for images and for label maps; expected two folders."
            )
    else:
        root, images, labels, json_path = raw, raw / IMAGES, raw / LABELS, raw / FILE
        if not json_path.exists():
            raise UserError(
                f"{raw} has no {FILE}; expected nnU-Net's layout ({FILE}, {IMAGES}, {LABELS}), or "
                "volumes:IMAGES,LABELS for two folders."
            )
    declared = read_dataset_json(json_path) if json_path.exists() else None
    expected = None if declared is None else len(declared.modalities)
    image_names, label_names = volume_names(images, IMAGE_ENDINGS), volume_names(labels, ENDINGS)
    is_numbered = not set(image_names).intersection(label_names) and _any_numbered(image_names)
    found = _cases(images, image_names, expected) if is_numbered else _plain(images, image_names)
    if expected is not None and expected != 1 and not is_numbered:
        raise UserError(
            f"{images} has {image_names[0]} without the number of a modality, and {json_path} "
            f"names {expected}; expected {image_names[0]}_0000 to _{expected - 1:04d}."
        )
    cases = [replace(case, labels=case.id, labels_folder=labels) for case in found]
    return OwnVolumes(
        images=images,
        labels=labels,
        cases=tuple(cases),
        num_modalities=len(cases[0].images),
        is_numbered=is_numbered,
        declared=declared,
        json_path=json_path,
        root=root,
    )


def find_images(folder: Path, modalities: Sequence[str], *, is_numbered: bool) -> list[CaseFiles]:
    """Return the cases in a folder of images without label maps, sorted by name.

    Args:
        folder: The folder; of one modality also a DICOM series, or an enhanced DICOM file.
        modalities: Name of every modality.
        is_numbered: Whether the names of images end in the number of the modality.

    Raises:
        UserError: If the folder cannot be listed, has no volume, or the names of files are
            ambiguous.
    """
    if is_dicom_volume(folder):
        return [_single(folder.resolve(), modalities, is_numbered)]
    names = volume_names(folder, IMAGE_ENDINGS)
    if not is_numbered:
        return _plain(folder, names)
    if not _any_numbered(names):
        numbers = " and ".join(f"CASE_{n:04d}.nii.gz" for n in range(min(2, len(modalities))))
        raise UserError(
            f"{folder} has {names[0]} without the number of a modality; expected {numbers} for "
            f"{', '.join(modalities[:5])}."
        )
    return _cases(folder, names, len(modalities))


def volume_names(folder: Path, endings: Sequence[str]) -> list[str]:
    """Return the names of the volumes directly in a folder, sorted, without their endings.

    Args:
        folder: The folder.
        endings: ``ENDINGS`` for NIfTI files, or ``IMAGE_ENDINGS`` for those and DICOM.

    Raises:
        UserError: If it cannot be listed, has no volume, has one of a name twice, or a name cannot
            be the name of a case.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror}).") from error
    found: dict[str, list[str]] = {}
    for ending, entry in itertools.product(endings, entries):
        if entry.name.endswith(ending) if ending else is_series_folder(entry):
            found.setdefault(entry.name.removesuffix(ending), []).append(entry.name)
    if not found:
        others = ", or folders with a DICOM series" if "" in endings else ""
        raise UserError(
            f"{folder} has no NIfTI file; expected files such as CASE_0000{ENDINGS[0]}{others}."
        )
    for name, files in found.items():
        if len(files) > 1:
            raise UserError(f"{folder} has {' and '.join(files)}; expected one of them.")
        if not name.isprintable() or len(name.encode(errors="replace")) > LONGEST_CASE:
            raise UserError(
                f"{folder} has the file {name[:50]!r}; expected a name without control characters "
                f"of at most {LONGEST_CASE} bytes."
            )
    return sorted(found)


def remark_lines(found: OwnVolumes) -> list[str]:
    """Return a line for each kind of files that are not used, and for a wrong number of cases.

    Args:
        found: Result of :func:`find_own_volumes`.
    """
    lines = []
    declared = None if found.declared is None else found.declared.num_cases
    if declared is not None and declared != len(found.cases):
        cases = counted(len(found.cases), "case")
        lines.append(f"{found.json_path} has numTraining {declared}; {cases} found, all used")
    used = {path for case in found.cases for path in case.existing_paths()}
    used |= {found.json_path, found.images, found.labels}
    if found.root is not None and (found.root / TEST_IMAGES).exists():
        used.add(found.root / TEST_IMAGES)
        lines.append(f"{found.root / TEST_IMAGES} is not used; predict takes it as its FOLDER")
    names = {case.id for case in found.cases}
    folders = [found.images, found.labels, *([found.root] if found.root else [])]
    for folder in dict.fromkeys(folders):
        files, below = _unused(folder, used)
        labels = [file for file in files if file.name.endswith(ENDINGS)]
        others = [file for file in files if file not in labels]
        if labels:
            advice = f"a label map has the name of a case, such as {min(names)}"
            lines.append(unused_line(folder, labels, "NIfTI file", advice))
        is_images = folder == found.images
        advice = f"volumes have to be NIfTI{' or DICOM' if is_images else ''}"
        lines += non_image_lines(folder, others, advice)
        if below:
            advice = "files have to be directly in the folder"
            lines.append(unused_line(folder, below, "folder", advice))
    return lines


def _unused(folder: Path, used: set[Path]) -> tuple[list[Path], list[Path]]:
    """Return the other files and folders in a folder, sorted by name."""
    files, folders = unused_entries(folder, [])
    return [f for f in files if f not in used], [f for f in folders if f not in used]


_NUMBERED = re.compile(r"(.+)_([0-9]{4})", re.DOTALL)


def _any_numbered(names: Sequence[str]) -> bool:
    return any(map(_NUMBERED.fullmatch, names))


def _plain(folder: Path, names: Sequence[str]) -> list[CaseFiles]:
    return [CaseFiles(name, folder, (name,), None, endings=IMAGE_ENDINGS) for name in names]


def _single(path: Path, modalities: Sequence[str], is_numbered: bool) -> CaseFiles:
    """Return the case of one DICOM volume, whose name need not have the number of a modality."""
    if len(modalities) > 1:
        raise UserError(
            f"{path} is one DICOM volume; expected a folder with {', '.join(modalities[:5])} of "
            f"each case in CASE_0000 to CASE_{len(modalities) - 1:04d}."
        )
    ending = path.suffix if path.is_file() else ""
    name = path.name.removesuffix(ending)
    match = _NUMBERED.fullmatch(name) if is_numbered else None
    case = match[1] if match else name
    return CaseFiles(case, path.parent, (name,), None, endings=(ending,))


def _cases(folder: Path, names: Sequence[str], expected: int | None) -> list[CaseFiles]:
    """Return the cases of files that end in the number of a modality."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None:
            raise UserError(
                f"{folder} has {name} without the number of a modality, beside names with one; "
                f"expected {name}_0000."
            )
        numbers.setdefault(match[1], []).append(int(match[2]))
    largest = max(map(max, numbers.values()))
    count = largest + 1 if expected is None else expected
    if largest >= count:
        case = next(case for case, own in numbers.items() if largest in own)
        raise UserError(
            f"{folder} has {case}_{largest:04d}, and {FILE} names the modalities 0 to "
            f"{count - 1}; expected files of these alone."
        )
    return [
        CaseFiles(
            case,
            folder,
            tuple(f"{case}_{n:04d}" for n in range(count)),
            None,
            endings=IMAGE_ENDINGS,
        )
        for case in sorted(numbers)
    ]
