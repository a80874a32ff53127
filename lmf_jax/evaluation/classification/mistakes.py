"""The most confident mistakes of a test, with the Grad-CAM heat of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.scores import softmax
from lmf_jax.evaluation.shown_images import (
    ShownImages,
    are_images,
    read_shown_images,
    write_shown_images,
)

MAX_MISTAKES = 5
"""Maximum number of mistakes that are kept."""


@dataclass(frozen=True, eq=False)
class Mistakes(ShownImages):
    """Wrong predictions with their heat, the most confident first.

    Of volumes, the images are their middle axial slices, and the heat is that of the slice where
    it is largest.

    Attributes:
        heat_of_predicted: Grad-CAM of the predicted class ``[k, map_h, map_w]``.
        heat_of_true: Grad-CAM of the true class ``[k, map_h, map_w]``.
        slices_of_predicted: The slices of volumes that ``heat_of_predicted`` belongs to, as RGB;
            None for images.
        slices_of_true: Those of ``heat_of_true``.
    """

    heat_of_predicted: Float[np.ndarray, "k map_h map_w"]
    heat_of_true: Float[np.ndarray, "k map_h map_w"]
    slices_of_predicted: UInt8[np.ndarray, "k h w 3"] | None = None
    slices_of_true: UInt8[np.ndarray, "k h w 3"] | None = None

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the heat maps."""
        height, width = self.heat_of_true.shape[1:]
        return height, width


def confident_mistakes(
    labels: Integer[np.ndarray, " n"], logits: Float[np.ndarray, "n classes"]
) -> Int[np.ndarray, " m"]:
    """Return the indices of the wrong predictions with the largest probabilities, at most five.

    Args:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
    """
    wrong = np.flatnonzero(predicted_classes(logits) != labels)
    confidence = softmax(logits[wrong]).max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[:MAX_MISTAKES]]


def write_mistakes(run_dir: Path, mistakes: Mistakes) -> None:
    """Write ``mistakes.npz`` atomically into the folder of a run."""
    write_shown_images(run_dir / "mistakes.npz", mistakes)


def read_mistakes(run_dir: str | Path, num_predictions: int) -> Mistakes | None:
    """Read ``mistakes.npz``; return None if it does not exist.

    Args:
        run_dir: The folder of the run.
        num_predictions: Number of predictions that the mistakes belong to.

    Raises:
        UserError: If the file is broken.
    """
    return read_shown_images(
        Path(run_dir) / "mistakes.npz",
        Mistakes,
        lambda arrays: _are_mistakes(arrays, num_predictions),
        f"up to {MAX_MISTAKES} images, their indices among the predictions and their heat",
    )


def _are_mistakes(arrays: Mapping[str, np.ndarray], num_predictions: int) -> bool:
    heats = arrays["heat_of_predicted"], arrays["heat_of_true"]
    slices = [arrays[name] for name in ("slices_of_predicted", "slices_of_true") if name in arrays]
    m = len(arrays["images"])
    return (
        are_images(arrays, MAX_MISTAKES, num_predictions)
        and all(heat.dtype.kind == "f" and np.isfinite(heat).all() for heat in heats)
        and all((heat.ndim, len(heat), heat.size > 0) == (3, m, m > 0) for heat in heats)
        and heats[0].shape == heats[1].shape
        and len(slices) in (0, 2)
        and all((s.dtype, s.shape) == (np.uint8, arrays["images"].shape) for s in slices)
    )
