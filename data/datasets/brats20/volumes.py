"""Files, classes and normalization of the training data of BraTS 2020."""

from pathlib import Path

import numpy as np

from data.volume_spec import CaseFiles, VolumeArray, VolumeSpec, case_folders

MODALITIES = ("t1", "t1ce", "t2", "flair")

MISNAMED = "W39_1998.09.19_Segm"
"""Published name of the label map of case 355."""


def find_cases(raw_dir: Path) -> list[CaseFiles]:
    """Return all cases.

    Args:
        raw_dir: Folder of the cases.

    Raises:
        UserError: If there is no case.
    """
    name = "BraTS20_Training_001"
    example = f"{name}/{name}_{{{','.join(MODALITIES)},seg}}.nii"
    return [case_of(path) for path in case_folders(raw_dir, r"BraTS20_Training_\d{3}", example)]


def case_of(folder: Path) -> CaseFiles:
    """Return the case in a folder.

    Args:
        folder: Folder such as ``BraTS20_Training_001``, whose files begin with its name.
    """
    images = tuple(f"{folder.name}_{modality}" for modality in MODALITIES)
    case = CaseFiles(folder.name, folder, images, f"{folder.name}_seg")
    if not case.has_labels() and case.has(MISNAMED):
        return CaseFiles(folder.name, folder, images, MISNAMED)
    return case


def normalize(image: VolumeArray) -> VolumeArray:
    """Scale the brain to mean 0 and variance 1; the removed surroundings stay 0.

    Args:
        image: Values of one modality without the skull; overwritten.
    """
    brain = image != 0
    values = image[brain].astype(np.float64)
    if len(values) and (deviation := values.std()) > 0:
        image[brain] = (values - values.mean()) / deviation
    return image


SPEC = VolumeSpec(
    class_names=("background", "necrotic core", "edema", "enhancing tumour"),
    label_values=(0, 1, 2, 4),
    modalities=MODALITIES,
    spacing=(1.0, 1.0, 1.0),
    padding=0.0,
    crop=True,
    case_of=case_of,
    find_cases=find_cases,
    normalize=(normalize,) * len(MODALITIES),
)
