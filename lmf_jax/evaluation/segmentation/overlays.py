"""Images and label maps of the worst, middle and best cases of a test."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from lmf_jax.evaluation.shown_images import (
    ShownImages,
    are_images,
    read_shown_images,
    write_shown_images,
)

NUM_OF_EACH = 2
"""Number of the worst, of the middle and of the best cases that are shown."""


@dataclass(frozen=True, eq=False)
class Overlays(ShownImages):
    """Images of cases with their true and predicted label maps, the worst case first.

    The image of a volume is the slice with the most foreground.

    Attributes:
        labels: True class of every pixel ``[k, h, w]``.
        predictions: Predicted class of every pixel ``[k, h, w]``.
    """

    labels: UInt8[np.ndarray, "k h w"]
    predictions: UInt8[np.ndarray, "k h w"]


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
    write_shown_images(run_dir / "overlays.npz", overlays, compressed=True)


def read_overlays(run_dir: str | Path, num_cases: int, num_classes: int) -> Overlays | None:
    """Read ``overlays.npz``; return None if it does not exist.

    Args:
        run_dir: The folder of the run.
        num_cases: Number of test cases that the overlays belong to.
        num_classes: Number of classes of the label maps.

    Raises:
        UserError: If the file is broken.
    """
    return read_shown_images(
        Path(run_dir) / "overlays.npz",
        Overlays,
        lambda arrays: _are_overlays(arrays, num_cases, num_classes),
        f"up to {3 * NUM_OF_EACH} images, their indices among the cases and their label maps",
    )


def _are_overlays(arrays: Mapping[str, np.ndarray], num_cases: int, num_classes: int) -> bool:
    images, maps = arrays["images"], (arrays["labels"], arrays["predictions"])
    return (
        are_images(arrays, 3 * NUM_OF_EACH, num_cases)
        and len(images) > 0
        and all(values.dtype == np.uint8 for values in maps)
        and all(values.shape == images.shape[:3] for values in maps)
        and all(values.max() < num_classes for values in maps)
    )
