"""The most confident mistakes of a test, and where in the images the model found its reasons.

They are kept beside the predictions when the test is done, so that a report needs no model. The
file holds images of the test part: whoever passes a run or its report on passes them on.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Integer, UInt8

from lmf_jax.errors import UserError
from lmf_jax.evaluation.metrics import predicted_classes
from lmf_jax.evaluation.scores import softmax

MOST_SHOWN = 5
"""Mistakes that are kept."""


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
    np.savez(temporary, **vars(mistakes))
    os.replace(temporary, run_dir / "mistakes.npz")


def read_mistakes(run_dir: str | Path) -> Mistakes | None:
    """Read ``mistakes.npz``; None where there is no such file.

    Raises:
        UserError: if the file is broken.
    """
    path = Path(run_dir) / "mistakes.npz"
    if not path.exists():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Mistakes(**arrays)
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is broken ({error}); evaluate the run again.") from error
