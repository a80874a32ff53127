"""The most confident mistakes of a test, and where in the images the model found its reasons.

They are kept beside the predictions when the test is done, so that a report needs no model. The
file holds images of the test part: whoever passes a run or its report on passes them on.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.scores import softmax
from lmf_jax.npz import read_arrays

MOST_SHOWN = 5
"""Mistakes that are kept."""

LARGEST_MISTAKES = 2**31
"""Bytes of ``mistakes.npz``: five images of 11,900 pixels a side."""


@dataclass(frozen=True, eq=False)
class Mistakes:
    """Wrong predictions with their reasons, the most confident first.

    Attributes:
        places: place of each among the predictions ``[m]``.
        images: RGB as the model got them, before normalisation, ``[m, h, w, 3]``.
        heat_of_predicted: Grad-CAM of the class that was predicted ``[m, map_h, map_w]``.
        heat_of_true: Grad-CAM of the true class.
    """

    places: Int[np.ndarray, " m"]
    images: UInt8[np.ndarray, "m h w 3"]
    heat_of_predicted: Float[np.ndarray, "m map_h map_w"]
    heat_of_true: Float[np.ndarray, "m map_h map_w"]

    @property
    def map_size(self) -> tuple[int, int]:
        """Rows and columns of the heat."""
        rows, columns = self.heat_of_true.shape[1:]
        return rows, columns


def confident_mistakes(
    labels: Integer[np.ndarray, " n"], logits: Float[np.ndarray, "n classes"]
) -> Int[np.ndarray, " m"]:
    """Return the places of the wrong predictions of the largest probability, at most five.

    Args:
        labels: class ids ``[n]``.
        logits: scores ``[n, C]``.
    """
    wrong = np.flatnonzero(predicted_classes(logits) != labels)
    confidence = softmax(logits[wrong]).max(axis=1)
    return wrong[np.argsort(-confidence, kind="stable")[:MOST_SHOWN]]


def write_mistakes(run_dir: Path, mistakes: Mistakes) -> None:
    """Write ``mistakes.npz`` into the folder of a run, whole or not at all."""
    temporary = run_dir / "mistakes.tmp.npz"
    temporary.unlink(missing_ok=True)  # a link there may lead anywhere
    np.savez(temporary, **vars(mistakes))
    os.replace(temporary, run_dir / "mistakes.npz")


def read_mistakes(run_dir: str | Path, num_predictions: int) -> Mistakes | None:
    """Read ``mistakes.npz``; None where there is no such file.

    Args:
        run_dir: the folder of the run.
        num_predictions: of which these are some.

    Raises:
        UserError: if the file is broken.
    """
    path = Path(run_dir) / "mistakes.npz"
    if not path.exists():
        return None
    names = [field.name for field in fields(Mistakes)]
    arrays = read_arrays(path, largest=LARGEST_MISTAKES, names=names)
    if not _are_mistakes(**arrays, num_predictions=num_predictions):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UserError(
            f"{path} is broken: its {shapes} are not up to {MOST_SHOWN} images, their places among "
            "the predictions and their heat; evaluate the run again."
        )
    return Mistakes(**arrays)


def _are_mistakes(
    places: np.ndarray,
    images: np.ndarray,
    heat_of_predicted: np.ndarray,
    heat_of_true: np.ndarray,
    num_predictions: int,
) -> bool:
    """Whether arrays have the types and shapes that :class:`Mistakes` says, and possible values."""
    heats = (heat_of_predicted, heat_of_true)
    m = len(places) if places.ndim == 1 else MOST_SHOWN + 1
    return (
        places.dtype.kind in "iu"
        and m <= MOST_SHOWN
        and bool(np.all((places >= 0) & (places < num_predictions)))
        and images.dtype == np.uint8
        and (images.ndim, len(images), images.shape[-1], images.size > 0) == (4, m, 3, m > 0)
        and all(heat.dtype.kind == "f" and np.isfinite(heat).all() for heat in heats)
        and all((heat.ndim, len(heat), heat.size > 0) == (3, m, m > 0) for heat in heats)
        and heat_of_true.shape == heat_of_predicted.shape
    )
