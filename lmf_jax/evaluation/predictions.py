"""Predictions of one part of the data, and the files that hold them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, Shaped

from lmf_jax.errors import UserError
from lmf_jax.evaluation.result_files import read_test_arrays
from lmf_jax.runs.atomic_files import write_arrays
from lmf_jax.runs.files import check

VALIDATION_FILE = "validation_predictions.npz"
MAX_PREDICTIONS_BYTES = 2**32
"""Maximum size of ``predictions.npz``: a million images of a thousand classes."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions of the images of one part of the data, in the order of their rows.

    Attributes:
        ids: Names of the images ``[n]``, unicode.
        labels: Class ids ``[n]``; with several labels per image, 0, 1 or -1 for a missing label,
            ``[n, C]``.
        logits: Output of the model ``[n, C]``, not calibrated.
        groups: Lesion or patient of each image ``[n]``; None if unknown.
    """

    ids: Shaped[np.ndarray, " n"]
    labels: Integer[np.ndarray, "n ..."]
    logits: Float[np.ndarray, "n classes"]
    groups: Shaped[np.ndarray, " n"] | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of the file but the groups, which not every dataset has."""
        return {"ids": self.ids, "labels": self.labels, "logits": self.logits}


def write_validation(run_dir: Path, validation: Predictions) -> None:
    """Write ``validation_predictions.npz``.

    Args:
        run_dir: The folder of the run.
        validation: The predictions of its validation images.
    """
    write_arrays(run_dir / VALIDATION_FILE, validation.arrays(), validation.groups)


def read_predictions(path: Path, label_shape: tuple[int, ...], num_classes: int) -> Predictions:
    """Read the predictions of one part of the data.

    Args:
        path: The npz file.
        label_shape: Shape of the labels of one image.
        num_classes: Number of classes or labels of the run.

    Raises:
        UserError: If the file is missing or broken, has no image, or has a logit that is not
            finite.
    """
    arrays = read_test_arrays(
        path,
        ("labels", label_shape),
        ("logits", (num_classes,)),
        num_classes=num_classes,
        max_bytes=MAX_PREDICTIONS_BYTES,
    )
    check(path, len(arrays["ids"]) > 0, "it has no image")
    check(path, bool(np.isfinite(arrays["logits"]).all()), "its logits contain NaN or infinity")
    return Predictions(**arrays)


def check_finite(logits: Float[np.ndarray, "n classes"], part: str) -> None:
    """Raise UserError if a logit of this part of the data is NaN or infinite."""
    undefined = int((~np.isfinite(logits)).any(axis=-1).sum())
    if undefined:
        raise UserError(
            f"The model gives NaN or infinity for {undefined} of {len(logits)} {part} images; "
            "train again with a lower --learning-rate or in float32."
        )
