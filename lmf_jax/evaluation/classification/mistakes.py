"""The most confident mistakes of a test, with the Grad-CAM heat of each.

They are stored next to the predictions, so that a report needs no model. The file contains test
images: sharing a run or its report shares these images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.scores import softmax
from lmf_jax.evaluation.result_files import read_shown_images, write_npz

MAX_MISTAKES = 5
"""Maximum number of mistakes that are kept."""

MAX_BYTES = 2**31
"""Maximum size of ``mistakes.npz``: five images of 11,900 pixels a side."""

ARRAYS = ("places", "images", "heat_of_predicted", "heat_of_true")
"""Names of the arrays of ``mistakes.npz``, in the order of the attributes of :class:`Mistakes`."""


@dataclass(frozen=True, eq=False)
class Mistakes:
    """Wrong predictions with their heat, the most confident first.

    Attributes:
        indices: Index of each among the predictions ``[m]``.
        images: RGB input of the model before normalization ``[m, h, w, 3]``.
        heat_of_predicted: Grad-CAM of the predicted class ``[m, map_h, map_w]``.
        heat_of_true: Grad-CAM of the true class ``[m, map_h, map_w]``.
    """

    indices: Int[np.ndarray, " m"]
    images: UInt8[np.ndarray, "m h w 3"]
    heat_of_predicted: Float[np.ndarray, "m map_h map_w"]
    heat_of_true: Float[np.ndarray, "m map_h map_w"]

    @property
    def map_size(self) -> tuple[int, int]:
        """Height and width of the heat maps."""
        height, width = self.heat_of_true.shape[1:]
        return height, width

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by their names in ``mistakes.npz``."""
        return dict(zip(ARRAYS, vars(self).values(), strict=True))


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
    write_npz(run_dir / "mistakes.npz", mistakes.arrays)


def read_mistakes(run_dir: str | Path, num_predictions: int) -> Mistakes | None:
    """Read ``mistakes.npz``; return None if it does not exist.

    Args:
        run_dir: The folder of the run.
        num_predictions: Number of predictions that the mistakes belong to.

    Raises:
        UserError: If the file is broken.
    """
    arrays = read_shown_images(
        Path(run_dir) / "mistakes.npz",
        ARRAYS,
        lambda arrays: _are_mistakes(arrays, num_predictions),
        expected=f"up to {MAX_MISTAKES} images, their indices among the predictions and their heat",
        max_bytes=MAX_BYTES,
    )
    return None if arrays is None else Mistakes(*(arrays[name] for name in ARRAYS))


def _are_mistakes(arrays: Mapping[str, np.ndarray], num_predictions: int) -> bool:
    """Return whether types, shapes and values are those of :class:`Mistakes`."""
    indices, images, *heats = (arrays[name] for name in ARRAYS)
    m = len(indices) if indices.ndim == 1 else MAX_MISTAKES + 1
    return (
        indices.dtype.kind in "iu"
        and m <= MAX_MISTAKES
        and bool(np.all((indices >= 0) & (indices < num_predictions)))
        and images.dtype == np.uint8
        and (images.ndim, len(images), images.shape[-1], images.size > 0) == (4, m, 3, m > 0)
        and all(heat.dtype.kind == "f" and np.isfinite(heat).all() for heat in heats)
        and all((heat.ndim, len(heat), heat.size > 0) == (3, m, m > 0) for heat in heats)
        and heats[0].shape == heats[1].shape
    )
