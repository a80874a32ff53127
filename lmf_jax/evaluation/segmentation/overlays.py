"""Images and label maps of the test cases that a report shows: the worst, the middle and the best.

They are stored next to the test results, so that a report needs neither the model nor the data. The
file contains test images: sharing a run or its report shares these images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from lmf_jax.evaluation.result_files import read_shown_images, write_npz

NUM_OF_EACH = 2
"""Number of the worst, of the middle and of the best cases that are shown."""

MAX_BYTES = 2**31
"""Maximum size of ``overlays.npz``: six images of 8,400 pixels a side."""

ARRAYS = ("places", "images", "labels", "predictions")
"""Names of the arrays of ``overlays.npz``, in the order of the attributes of :class:`Overlays`."""


@dataclass(frozen=True, eq=False)
class Overlays:
    """Images of cases with their true and predicted label maps, the worst case first.

    Attributes:
        indices: Index of each among the test cases ``[k]``.
        images: RGB input of the model before normalization ``[k, h, w, 3]``; for a volume the slice
            with the most foreground.
        labels: True class of every pixel ``[k, h, w]``.
        predictions: Predicted class of every pixel ``[k, h, w]``.
    """

    indices: Int[np.ndarray, " k"]
    images: UInt8[np.ndarray, "k h w 3"]
    labels: UInt8[np.ndarray, "k h w"]
    predictions: UInt8[np.ndarray, "k h w"]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by their names in ``overlays.npz``."""
        return dict(zip(ARRAYS, vars(self).values(), strict=True))


def shown_cases(dsc: Float[np.ndarray, " n"]) -> Int[np.ndarray, " k"]:
    """Return the indices of the cases to show, from the worst to the best.

    Args:
        dsc: Mean DSC of each case.
    """
    order = np.argsort(dsc, kind="stable")
    if len(order) <= 3 * NUM_OF_EACH:
        return order
    middle = (len(order) - NUM_OF_EACH) // 2
    return np.concatenate(
        [
            order[:NUM_OF_EACH],
            order[middle : middle + NUM_OF_EACH],
            order[-NUM_OF_EACH:],
        ]
    )


def write_overlays(run_dir: Path, overlays: Overlays) -> None:
    """Write ``overlays.npz`` atomically into the folder of a run."""
    write_npz(run_dir / "overlays.npz", overlays.arrays, compressed=True)


def read_overlays(run_dir: str | Path, num_cases: int, num_classes: int) -> Overlays | None:
    """Read ``overlays.npz``; return None if it does not exist.

    Args:
        run_dir: The folder of the run.
        num_cases: Number of test cases that the overlays belong to.
        num_classes: Number of classes of the label maps.

    Raises:
        UserError: If the file is broken.
    """
    arrays = read_shown_images(
        Path(run_dir) / "overlays.npz",
        ARRAYS,
        lambda arrays: _are_overlays(arrays, num_cases, num_classes),
        expected=f"up to {3 * NUM_OF_EACH} images, their indices among the cases and their label "
        "maps",
        max_bytes=MAX_BYTES,
    )
    return None if arrays is None else Overlays(*(arrays[name] for name in ARRAYS))


def _are_overlays(arrays: Mapping[str, np.ndarray], num_cases: int, num_classes: int) -> bool:
    """Return whether types, shapes and values are those of :class:`Overlays`."""
    indices, images, *maps = (arrays[name] for name in ARRAYS)
    k = len(indices) if indices.ndim == 1 else 0
    return (
        indices.dtype.kind in "iu"
        and 0 < k <= 3 * NUM_OF_EACH
        and bool(np.all((indices >= 0) & (indices < num_cases)))
        and images.dtype == np.uint8
        and (images.ndim, len(images), images.shape[-1]) == (4, k, 3)
        and images.size > 0
        and all(values.dtype == np.uint8 for values in maps)
        and all(values.shape == images.shape[:3] for values in maps)
        and all(values.max() < num_classes for values in maps)
    )
