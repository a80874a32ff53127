"""Files, classes and normalization of KiTS19, as its script downloads it."""

from pathlib import Path

import numpy as np

from data.volume_spec import CaseFiles, VolumeArray, VolumeSpec, case_folders

CLIP = (-79.0, 304.0)
"""Range of Hounsfield units; values outside are clipped."""
MEAN, DEVIATION = 101.0, 76.9
"""Mean and standard deviation of the normalization. They are fixed, since Hounsfield units mean the
same in every scanner, while statistics of a case would depend on the air around the body.

Isensee and Maier-Hein, An attempt at beating the 3D U-Net, 2019, arXiv:1908.02182.
"""

LABELED = 210
"""Cases 0 to 209 have a label map; those of the others were kept for the challenge."""


def case_of(folder: Path) -> CaseFiles:
    """Return the case in a folder.

    Args:
        folder: Folder such as ``case_00000``.
    """
    return CaseFiles(folder.name, folder, ("imaging",), "segmentation")


def find_cases(raw_dir: Path) -> list[CaseFiles]:
    """Return all cases that were published with a label map.

    Args:
        raw_dir: Folder of the cases.

    Raises:
        UserError: If there is no case.
    """
    folders = case_folders(raw_dir, r"case_\d{5}", "case_00000/{imaging,segmentation}.nii.gz")
    cases = map(case_of, folders)
    return [case for case in cases if int(case.id[5:]) < LABELED or case.has_labels()]


def normalize(image: VolumeArray) -> VolumeArray:
    """Clip Hounsfield units, and scale them to about mean 0 and variance 1 in the kidneys.

    Args:
        image: Hounsfield units; overwritten.
    """
    np.clip(image, *CLIP, out=image)
    image -= MEAN
    image /= DEVIATION
    return image


SPEC = VolumeSpec(
    class_names=("background", "kidney", "tumour"),
    label_values=(0, 1, 2),
    modalities=("ct",),
    spacing=(3.22, 1.62, 1.62),
    padding=float(np.float32((CLIP[0] - MEAN) / DEVIATION)),
    crop=False,
    case_of=case_of,
    find_cases=find_cases,
    normalize=(normalize,),
)
