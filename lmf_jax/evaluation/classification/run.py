"""Write and read the test results in the folder of a classification run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Integer, Shaped

from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.mistakes import Mistakes, read_mistakes
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.result_files import MetricRules, read_test, read_test_arrays
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import CLASSIFICATION, RunFiles, check, is_fraction, read_training_files

TEST_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "mcc",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "auroc",
    "average_precision",
    "ece",
)
METRIC_RULES = MetricRules(
    overall=TEST_METRICS,
    per_class=("precision", "recall", "f1", "auroc", "average_precision"),
    is_valid=lambda _, value: is_fraction(value),
    nullable=("auroc", "average_precision"),
    null_class_intervals=True,
)
HISTORY_KEYS = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate")
MAX_PREDICTIONS_BYTES = 2**32
"""Maximum size of ``predictions.npz``: a million images of a thousand classes."""


@dataclass(frozen=True, kw_only=True)
class FinishedRun(RunFiles):
    """Contents of the folder of a finished classification run.

    Attributes:
        labels: Class ids of the test images ``[n]``.
        logits: Their scores ``[n, C]``.
        mistakes: The most confident mistakes; None if they were not kept.
    """

    labels: Integer[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    mistakes: Mistakes | None = None


def read_run(run_dir: str | Path) -> FinishedRun:
    """Read the folder of a classification run that was trained and tested.

    Args:
        run_dir: The folder that ``train.py`` wrote.

    Returns:
        The contents of its files, checked to be complete and consistent.

    Raises:
        UserError: If the folder or a file is missing, unreadable or incomplete, or the run has
            another task; the message names the file.
    """
    run_dir = Path(run_dir)
    files = read_training_files(run_dir, CLASSIFICATION, HISTORY_KEYS)
    class_names = files["dataset"]["class_names"]
    predictions = _read_predictions(run_dir / "predictions.npz", len(class_names))
    counts = np.bincount(predictions["labels"], minlength=len(class_names)).tolist()
    support = dict(zip(class_names, counts, strict=True))
    return FinishedRun(
        **files,
        **predictions,
        test=read_test(run_dir / "test.json", METRIC_RULES, support, "predictions.npz"),
        mistakes=read_mistakes(run_dir, len(predictions["labels"])),
    )


def _read_predictions(path: Path, num_classes: int) -> dict[str, Any]:
    arrays = read_test_arrays(
        path,
        ("labels", ()),
        ("logits", (num_classes,)),
        num_classes=num_classes,
        max_bytes=MAX_PREDICTIONS_BYTES,
    )
    labels = arrays["labels"]
    are_ids = len(labels) > 0 and bool(np.all((labels >= 0) & (labels < num_classes)))
    check(path, are_ids, f"its labels are not class ids from 0 to {num_classes - 1}")
    check(path, bool(np.isfinite(arrays["logits"]).all()), "its logits contain NaN or infinity")
    return arrays


def write_test(
    run_dir: Path,
    ids: Shaped[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Shaped[np.ndarray, " n"] | None = None,
) -> dict[str, Any]:
    """Write ``predictions.npz`` and ``test.json``, and return the contents of the latter.

    Args:
        run_dir: The folder of the run.
        ids: Name of each test image, unicode.
        labels: Class id of each.
        logits: Output of the model for each.
        class_names: Names by class id.
        groups: Lesion or patient of each, if known.

    Raises:
        UserError: If a logit is NaN or infinite.
    """
    undefined = int((~np.isfinite(logits)).any(axis=-1).sum())
    if undefined:
        raise UserError(
            f"The model gives NaN or infinity for {undefined} of {len(logits)} test images; train "
            "again with a lower --learning-rate or in float32."
        )
    # The slow part comes first, so that both files are written together.
    results = summarize_test(labels, logits, class_names, groups)
    arrays = {"ids": ids, "labels": labels, "logits": logits}
    write_results(run_dir, "predictions", arrays, groups, results)
    return results
