"""Tiny synthetic volumes in the layout of real downloads, and of the user's own."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

Spacing = tuple[float, float, float]

KITS19_SPACING: Spacing = (3.22, 1.62, 1.62)
"""That of the prepared volumes, along z, y, x in mm: nothing is resampled."""


def save_nifti(
    path: Path, values: np.ndarray, spacing: Spacing = (1.0, 1.0, 1.0), orientation: str = "RAS"
) -> None:
    """Write a volume whose axes are z, y, x as a file whose axes are stored in another way.

    The first voxel of the volume lies at (-5, 7, 11) mm, whatever the orientation.

    Args:
        path: The file.
        values: The volume, [z, y, x].
        spacing: Edges of a voxel along z, y, x in mm.
        orientation: Axes of the file as nibabel names them, such as "LPS" or "SPL".
    """
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = -5, 7, 11
    upright = nibabel.Nifti1Image(values.T, affine)
    wanted = nibabel.orientations.axcodes2ornt(orientation)
    nibabel.save(
        upright.as_reoriented(
            nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), wanted)
        ),
        path,
    )


def stored(path: Path) -> np.ndarray:
    """Return the values of a file with axes z, y, x."""
    return np.array(nibabel.as_closest_canonical(nibabel.load(path)).dataobj).T


def ball(
    shape: Sequence[int], center: Sequence[float], radius: float, spacing: Spacing
) -> np.ndarray:
    """Return which voxels of a volume lie in a ball; center in voxels, radius in mm."""
    axes = [
        (np.arange(size) - middle) * edge
        for size, middle, edge in zip(shape, center, spacing, strict=True)
    ]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return z**2 + y**2 + x**2 <= radius**2


def make_kits19(
    raw_dir: Path,
    num_cases: int = 8,
    *,
    shape: tuple[int, int, int] = (12, 20, 18),
    spacing: Spacing = KITS19_SPACING,
) -> Path:
    """Make a folder like that of KiTS19: a kidney in fat, and in it a tumor.

    Its files have their first axis from the head to the feet, as the real ones do.

    Args:
        raw_dir: The folder; it is made.
        num_cases: How many cases.
        shape: Voxels along z, y, x.
        spacing: Edges of a voxel along z, y, x in mm.

    Returns:
        The folder.
    """
    for number in range(num_cases):
        rng = np.random.default_rng([19, number])
        center = [size * rng.uniform(0.4, 0.6) for size in shape]
        extent = min(size * edge for size, edge in zip(shape, spacing, strict=True))
        kidney = ball(shape, center, extent * 0.3, spacing)
        tumour = ball(shape, [middle + 0.5 for middle in center], extent * 0.13, spacing)
        image = rng.normal(-60, 20, shape)
        image[kidney] += 200
        image[tumour] -= 90
        labels = kidney.astype(np.uint8) + (tumour & kidney)
        folder = raw_dir / f"case_{number:05d}"
        folder.mkdir(parents=True)
        save_nifti(folder / "imaging.nii.gz", image.astype(np.float32), spacing, "IPL")
        save_nifti(folder / "segmentation.nii.gz", labels, spacing, "IPL")
    return raw_dir


def make_brats20(
    raw_dir: Path, num_cases: int = 8, *, shape: tuple[int, int, int] = (18, 20, 16)
) -> Path:
    """Make a folder like that of BraTS 2020: a brain in nothing, and in it three shells of tumor.

    Args:
        raw_dir: The folder; it is made.
        num_cases: How many cases.
        shape: Voxels along z, y, x, of 1 mm.

    Returns:
        The folder.
    """
    cube = (1.0, 1.0, 1.0)
    for number in range(1, num_cases + 1):
        rng = np.random.default_rng([20, number])
        middle = [size / 2 for size in shape]
        brain = ball(shape, middle, min(shape) * 0.45, cube)
        center = [size / 2 + rng.uniform(-1, 1) for size in shape]
        labels = np.zeros(shape, np.uint8)
        for label, radius in ((2, 0.3), (4, 0.2), (1, 0.12)):
            labels[ball(shape, center, min(shape) * radius, cube) & brain] = label
        name = f"BraTS20_Training_{number:03d}"
        folder = raw_dir / name
        folder.mkdir(parents=True)
        for place, modality in enumerate(("t1", "t1ce", "t2", "flair")):
            image = rng.normal(300, 20, shape) + 60 * np.cos(place + labels.astype(float))
            image = np.where(brain, image, 0).astype(np.int16)
            save_nifti(folder / f"{name}_{modality}.nii", image, cube, "LPS")
        save_nifti(folder / f"{name}_seg.nii", labels, cube, "LPS")
    return raw_dir


OWN_SHAPE = (10, 22, 20)
OWN_SPACING: Spacing = (3.0, 1.5, 1.0)


def make_nnunet(
    root: Path,
    num_cases: int = 6,
    *,
    modalities: Sequence[str] = ("CT",),
    labels: dict[str, object] | None = None,
    **entries: object,
) -> Path:
    """Make a folder in nnU-Net's layout: an organ with label 1, and in it a lesion with label 7.

    Cases differ in shape and spacing, and their files are stored from the head to the feet.

    Args:
        root: The folder; it is made.
        num_cases: How many cases.
        modalities: Name of every modality.
        labels: The labels in ``dataset.json``.
        entries: Further entries of ``dataset.json``.

    Returns:
        The folder.
    """
    content = {
        "channel_names": {str(n): name for n, name in enumerate(modalities)},
        "labels": labels or {"background": 0, "organ": 1, "lesion": 7},
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
        **entries,
    }
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    (root / "dataset.json").write_text(json.dumps(content))
    for number in range(num_cases):
        images, label_map, spacing = own_case(number, len(modalities))
        name = f"scan-{number:02d}"
        for channel, image in enumerate(images):
            save_nifti(root / "imagesTr" / f"{name}_{channel:04d}.nii.gz", image, spacing, "IPL")
        save_nifti(root / "labelsTr" / f"{name}.nii.gz", label_map, spacing, "IPL")
    return root


def own_case(number: int, num_modalities: int) -> tuple[list[np.ndarray], np.ndarray, Spacing]:
    """Return the images of a case, its label map with 0, 1 and 7, and its spacing."""
    rng = np.random.default_rng([33, number])
    depth, height, width = OWN_SHAPE
    shape = (depth + number % 3, height - number % 2, width)
    z, y, x = OWN_SPACING
    spacing: Spacing = (z, y, x + 0.1 * (number % 2))
    center = [size * rng.uniform(0.45, 0.55) for size in shape]
    organ = ball(shape, center, 9.0, spacing)
    lesion = ball(shape, center, 4.0, spacing)
    labels = np.where(organ & lesion, 7, organ).astype(np.uint8)
    images = []
    for channel in range(num_modalities):
        image = rng.normal(-80, 15, shape) + organ * (150 + 40 * channel) + lesion * 90
        images.append(image.astype(np.float32))
    return images, labels, spacing


def make_folders(root: Path, num_cases: int = 6, num_modalities: int = 1) -> tuple[Path, Path]:
    """Make a folder of images and one of label maps, without ``dataset.json``.

    Args:
        root: The folder in which both are made.
        num_cases: How many cases.
        num_modalities: How many modalities; the names of one are not numbered.
    """
    images, labels = root / "images", root / "labels"
    for folder in (images, labels):
        folder.mkdir(parents=True)
    for number in range(num_cases):
        own, label_map, spacing = own_case(number, num_modalities)
        for channel, image in enumerate(own):
            suffix = f"_{channel:04d}" if num_modalities > 1 else ""
            save_nifti(images / f"p{number}{suffix}.nii.gz", image, spacing, "LAS")
        save_nifti(labels / f"p{number}.nii.gz", label_map, spacing, "LAS")
    return images, labels
