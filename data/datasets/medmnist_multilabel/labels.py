"""Labels and official split of a MedMNIST file whose images may have several labels.

Label names and counts are those of the MedMNIST package, version 3.0.2 (Apache-2.0), ``info.py``.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from data.datasets.medmnist import labels as medmnist
from data.datasets.medmnist.labels import flag_of
from data.labels import PARTS, WHOLE_IMAGE, Labels
from lmf_jax.errors import UserError
from lmf_jax.npz import open_array, open_npz

LABELS: Mapping[str, tuple[str, ...]] = {
    "chestmnist": (
        "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule", "pneumonia",
        "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural", "hernia",
    ),
}  # fmt: skip
"""Label names by flag, in the order of the columns."""

EXPECTED_COUNTS: Mapping[str, Mapping[str, int]] = {
    "chestmnist": {"train": 78468, "validation": 11219, "test": 22433},
}
"""Images by flag and part, the same at every size."""

_MOST_LABELS = 1000
_MOST_VALUES = 10**8
"""Maximum number of labels of all images of a part; ChestMNIST has a million."""

raw_files = medmnist.raw_files


def read_labels(path: Path) -> Labels:
    """Read the labels and the official split of a MedMNIST file, in the order of its parts.

    The labels of a flag that is not in ``LABELS`` are "0", "1", ... by column.

    Args:
        path: The npz file; its name begins with the flag, which determines the label names.

    Raises:
        UserError: If the file is damaged, lacks an array, or has other contents than 2D 8-bit
            images with two or more labels of 0 and 1 each.
    """
    with open_npz(path) as archive:
        counts = medmnist.part_sizes(path, archive)
        vectors = {part: _read_part(path, archive, part, counts[part]) for part in PARTS}
    widths = {part: of_part.shape[1] for part, of_part in vectors.items()}
    if len(set(widths.values())) > 1:
        found = ", ".join(f"{width} in {part}" for part, width in widths.items())
        raise UserError(f"{path} holds different numbers of labels ({found}); expected one number.")
    return Labels(
        class_names=WHOLE_IMAGE,
        ids=medmnist.image_ids(counts),
        labels=np.zeros(sum(counts.values()), np.int32),
        parts=np.repeat(PARTS, list(counts.values())),
        label_names=_label_names(path, widths["train"]),
        label_vectors=np.concatenate(list(vectors.values())),
    )


def _read_part(
    path: Path, archive: zipfile.ZipFile, part: str, count: int
) -> Int32[np.ndarray, "n labels"]:
    """Return the label vectors of a part, after checking their number and values."""
    with open_array(path, archive, f"{medmnist.PART_NAMES[part]}_labels") as labels:
        name, shape = labels.name, labels.shape
        if len(shape) < 2 or shape[1:] == (1,):
            raise UserError(
                f"{path} gives every image one class in {name}, of {shape}; expected a column for "
                "each label; use --task classification."
            )
        if labels.dtype.kind not in "iu" or len(shape) > 2 or shape[0] != count:
            raise UserError(
                f"{path} holds {name} as {labels.dtype} of {shape}; expected whole numbers of "
                f"({count}, labels), a row for every image of the part."
            )
        if not (0 < shape[1] <= _MOST_LABELS and shape[0] * shape[1] <= _MOST_VALUES):
            raise UserError(
                f"{path} holds {name} of {shape}; expected at most {_MOST_LABELS} labels of an "
                f"image and {_MOST_VALUES} in each part."
            )
        values = labels.read_all()
    wrong = values[(values != 0) & (values != 1)]
    if wrong.size:
        raise UserError(
            f"{path} holds the value {wrong[0]} in {name}; expected 1 for a label that the image "
            "has, else 0."
        )
    return values.astype(np.int32)


def _label_names(path: Path, count: int) -> tuple[str, ...]:
    """Return the label names of a known flag, or the numbers of the columns."""
    known = LABELS.get(flag_of(path))
    if known is not None and len(known) != count:
        raise UserError(
            f"{path} has {count} labels; expected the {len(known)} of {flag_of(path)}, or a file "
            "of another name."
        )
    return known or tuple(map(str, range(count)))
