"""Labels, official split and images of a MedMNIST file.

Classes and counts are those of the MedMNIST package, version 3.0.2 (Apache-2.0), ``info.py``.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Shaped

from data.labels import PARTS, Labels
from lmf_jax.errors import UserError
from lmf_jax.npz import Array, open_array, open_npz

_ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver",
    "lung-left", "lung-right", "pancreas", "spleen",
)  # fmt: skip

CLASSES: Mapping[str, tuple[str, ...]] = {
    "pathmnist": (
        "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle",
        "normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma epithelium",
    ),
    "dermamnist": (
        "actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma",
        "benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi",
        "vascular lesions",
    ),
    "octmnist": (
        "choroidal neovascularization", "diabetic macular edema", "drusen", "normal",
    ),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": (
        "basophil", "eosinophil", "erythroblast",
        "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)", "lymphocyte",
        "monocyte", "neutrophil", "platelet",
    ),
    "tissuemnist": (
        "Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule",
        "Glomerular endothelial cells", "Interstitial endothelial cells", "Leukocytes",
        "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}  # fmt: skip
"""Class names by flag and class id, without the flags of several labels per image."""

EXPECTED_COUNTS: Mapping[str, Mapping[str, int]] = {
    "pathmnist": {"train": 89996, "validation": 10004, "test": 7180},
    "dermamnist": {"train": 7007, "validation": 1003, "test": 2005},
    "octmnist": {"train": 97477, "validation": 10832, "test": 1000},
    "pneumoniamnist": {"train": 4708, "validation": 524, "test": 624},
    "retinamnist": {"train": 1080, "validation": 120, "test": 400},
    "breastmnist": {"train": 546, "validation": 78, "test": 156},
    "bloodmnist": {"train": 11959, "validation": 1712, "test": 3421},
    "tissuemnist": {"train": 165466, "validation": 23640, "test": 47280},
    "organamnist": {"train": 34561, "validation": 6491, "test": 17778},
    "organcmnist": {"train": 12975, "validation": 2392, "test": 8216},
    "organsmnist": {"train": 13932, "validation": 2452, "test": 8827},
}
"""Images by flag and part, the same at every size."""

PART_NAMES = dict(zip(PARTS, ("train", "val", "test"), strict=True))
"""Part names of MedMNIST."""

_LARGEST_SIDE = 4096
_MOST_IMAGES = 10**7  # as many as seven digits name
_MOST_CLASSES = 1000


def flag_of(path: Path) -> str:
    """Return the flag in the name of a MedMNIST file: ``dermamnist`` of ``dermamnist_64.npz``."""
    flag = re.match("[a-z]*", path.name.lower())
    return flag[0] if flag else ""


def read_labels(path: Path) -> Labels:
    """Read the labels and the official split of a MedMNIST file, in the order of its parts.

    The classes of a flag that is not in ``CLASSES`` are "0", "1", ... up to the largest label.

    Args:
        path: The npz file; its name begins with the flag, which determines the classes.

    Raises:
        UserError: If the file is damaged, lacks an array, or has other contents than 2D 8-bit
            images with one class each.
    """
    with open_npz(path) as archive:
        counts = part_sizes(path, archive)
        labels = {part: _read_part(path, archive, part, counts[part]) for part in PARTS}
    return Labels(
        class_names=_class_names(path, labels),
        ids=image_ids(counts),
        labels=np.concatenate(list(labels.values())),
        parts=np.repeat(PARTS, list(counts.values())),
    )


def part_sizes(path: Path, archive: zipfile.ZipFile) -> dict[str, int]:
    """Return the number of images of every part, after checking their shapes and types.

    Args:
        path: The npz file, for errors.
        archive: The open file.

    Raises:
        UserError: If an array of images is missing, or holds no 2D 8-bit images.
    """
    return {part: shape[0] for part, shape in _image_shapes(path, archive).items()}


def image_ids(counts: Mapping[str, int]) -> Shaped[np.ndarray, " n"]:
    """Return the name of every image, in the order of the parts.

    Args:
        counts: Number of images of every part.
    """
    return np.array([f"{part}-{row:07d}" for part in PARTS for row in range(counts[part])])


def raw_files(path: Path) -> Iterator[Path]:
    """Yield every file of the dataset."""
    yield path


def encoded_images(path: Path) -> Iterator[bytes]:
    """Yield the images of a MedMNIST file as PGM or PPM, in the order of ``read_labels``.

    These formats are a line of text and the pixels, so their bytes, which the fingerprint of the
    dataset covers, do not depend on a compression library.

    One image is in memory at a time. A wrong checksum at the end of the archive is found only when
    the last image is read.

    Args:
        path: The npz file.

    Raises:
        UserError: If the file is damaged, lacks an array, or has other contents than 2D 8-bit
            images.
    """
    with open_npz(path) as archive:
        _image_shapes(path, archive)
        for part in PARTS:
            with open_array(path, archive, f"{PART_NAMES[part]}_images") as images:
                height, width = images.shape[1:3]
                kind = b"P5" if len(images.shape) == 3 else b"P6"
                for _ in range(images.shape[0]):
                    pixels = images.read(images.shape[1:])
                    yield b"%s %d %d 255\n" % (kind, width, height) + pixels.tobytes()


def _image_shapes(path: Path, archive: zipfile.ZipFile) -> dict[str, tuple[int, ...]]:
    """Return the shape of the images of every part, after checking all of them."""
    shapes = {}
    for part in PARTS:
        with open_array(path, archive, f"{PART_NAMES[part]}_images") as images:
            _check_images(images)
            shapes[part] = images.shape
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise UserError(
            f"{path} holds images of different sizes ({', '.join(map(str, shapes.values()))}); "
            "expected one size in all parts."
        )
    return shapes


def _check_images(images: Array) -> None:
    """Reject arrays that are not stacks of grayscale or RGB images."""
    path, name, shape = images.path, images.name, images.shape
    if len(shape) == 5 or (len(shape) == 4 and shape[3] > 4):
        raise UserError(
            f"{path} holds volumes, {name} of {shape}; expected 2D images, [n, height, width] or "
            "[n, height, width, 3]; choose a dataset of MedMNIST without 3D in its name."
        )
    if images.dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)):
        raise UserError(
            f"{path} holds {name} as {images.dtype} of {shape}; expected uint8 of "
            "[n, height, width] or [n, height, width, 3]."
        )
    if images.fortran_order:
        raise UserError(
            f"{path} holds {name} in Fortran order; expected C order: save the array again after "
            "np.ascontiguousarray."
        )
    if not 1 <= shape[0] <= _MOST_IMAGES:
        raise UserError(
            f"{path} holds {shape[0]} images in {name}; expected 1 to {_MOST_IMAGES} in each part."
        )
    if not all(1 <= side <= _LARGEST_SIDE for side in shape[1:3]):
        raise UserError(
            f"{path} holds images of {shape[1]}x{shape[2]} pixels in {name}; expected sides of 1 "
            f"to {_LARGEST_SIDE}."
        )


def _read_part(
    path: Path, archive: zipfile.ZipFile, part: str, count: int
) -> Int32[np.ndarray, " n"]:
    """Return the labels of a part, after checking their number and values."""
    flag = flag_of(path)
    with open_array(path, archive, f"{PART_NAMES[part]}_labels") as labels:
        name, shape = labels.name, labels.shape
        if len(shape) == 2 and shape[1] > 1:
            raise UserError(
                f"{path} gives every image {shape[1]} labels in {name}; expected one class per "
                "image; use --task multilabel."
            )
        if labels.dtype.kind not in "iu" or shape not in ((count,), (count, 1)):
            raise UserError(
                f"{path} holds {name} as {labels.dtype} of {shape}; expected whole numbers of "
                f"({count}, 1), one for every image of the part."
            )
        values = labels.read((count,))
    most = len(CLASSES[flag]) if flag in CLASSES else _MOST_CLASSES
    wrong = values[(values < 0) | (values >= most)]
    if wrong.size:
        raise UserError(
            f"{path} holds the class {wrong[0]} in {name}; expected 0 to {most - 1}, "
            f"{f'the classes of {flag}' if flag in CLASSES else 'a class id'}."
        )
    return values.astype(np.int32)


def _class_names(path: Path, labels: Mapping[str, Int32[np.ndarray, " _"]]) -> tuple[str, ...]:
    """Return the class names of a known flag, or the numbers up to the largest label."""
    known = CLASSES.get(flag_of(path))
    count = 1 + max(int(values.max()) for values in labels.values())
    return known or tuple(str(label) for label in range(count))
