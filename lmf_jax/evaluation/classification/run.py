"""Write and read the test results in the folder of a classification run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.calibration import (
    Calibrator,
    calibrator_of,
    read_calibration,
    summarize_calibration,
    write_calibration,
)
from lmf_jax.evaluation.classification.mistakes import Mistakes, read_mistakes
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.folds import check_folds
from lmf_jax.evaluation.operating.point import ClassPart
from lmf_jax.evaluation.predictions import (
    VALIDATION_FILE,
    Predictions,
    check_finite,
    read_predictions,
)
from lmf_jax.evaluation.result_files import MetricRules, read_test
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import (
    CLASSIFICATION,
    RunFiles,
    check,
    is_fraction,
    missing,
    num_folds,
    read_training_files,
    require,
)

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
FOLD_METRICS = {"macro_f1": "macro F1", "accuracy": "accuracy"}
"""Metrics of each fold of a cross-validation, and their titles."""
HISTORY_KEYS = ("epoch", "train_loss", "val_loss", "val_accuracy", "val_macro_f1", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class FinishedRun(RunFiles):
    """Contents of the folder of a finished classification run.

    Attributes:
        labels: Class ids of the test images ``[n]``.
        logits: Their scores ``[n, C]``, not calibrated. Of a cross-validation, the calibrated
            log-probabilities of all images, each by the fold that tested it.
        calibrator: Fitted on the validation images; that of a run without ``calibration.json``
            changes nothing.
        calibration: Contents of ``calibration.json``; None if the run has none.
        validation: Predictions of the validation images; None if the run has none.
        mistakes: The most confident mistakes; None if they were not kept.
    """

    labels: Integer[np.ndarray, " n"]
    logits: Float[np.ndarray, "n classes"]
    calibrator: Calibrator
    calibration: Mapping[str, Any] | None = None
    validation: Predictions | None = None
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
    predictions, test = read_tested(run_dir, class_names)
    if num_folds(files) is not None or "folds" in test:
        require(run_dir / "test.json", test, ("folds",))
        n = len(predictions.ids)
        check_folds(run_dir / "test.json", test["folds"], list(FOLD_METRICS), n)
    calibration = _read_calibration(run_dir, class_names)
    calibrator = Calibrator.identity(len(class_names))
    return FinishedRun(
        **files,
        **vars(predictions),
        calibrator=calibrator if calibration is None else calibrator_of(calibration),
        calibration=calibration,
        validation=read_validation(run_dir, len(class_names)),
        test=test,
        mistakes=read_mistakes(run_dir, len(predictions.ids)),
    )


def read_tested(folder: Path, class_names: Sequence[str]) -> tuple[Predictions, dict[str, Any]]:
    """Read ``predictions.npz`` and ``test.json`` of a test.

    Args:
        folder: The folder of a run, or of a test on another dataset.
        class_names: Names by class id.

    Returns:
        The predictions, and the contents of ``test.json``.

    Raises:
        UserError: If a file is missing or broken, or the files do not match.
    """
    predictions = _read_predictions(folder / "predictions.npz", len(class_names))
    counts = np.bincount(predictions.labels, minlength=len(class_names)).tolist()
    support = dict(zip(class_names, counts, strict=True))
    return predictions, read_test(folder / "test.json", METRIC_RULES, support, "predictions.npz")


def class_parts(run: FinishedRun, class_id: int) -> tuple[ClassPart, ClassPart]:
    """Return the validation and the test part of a run from the view of one class.

    Args:
        run: The contents of its folder, with the validation part.
        class_id: The class.
    """
    assert run.validation is not None
    validation, test = (
        ClassPart(
            np.asarray(part.labels == class_id),
            run.calibrator.probabilities(part.logits)[:, class_id],
            part.groups,
        )
        for part in (run.validation, run)
    )
    return validation, test


def read_validation(run_dir: str | Path, num_classes: int) -> Predictions | None:
    """Read the predictions of the validation images of a run.

    Args:
        run_dir: The folder of a classification run.
        num_classes: Number of classes of the run.

    Returns:
        The predictions; None for a run without ``validation_predictions.npz``.

    Raises:
        UserError: If the file is broken.
    """
    path = Path(run_dir) / VALIDATION_FILE
    return _read_predictions(path, num_classes) if path.exists() else None


def _read_calibration(run_dir: Path, class_names: Sequence[str]) -> dict[str, Any] | None:
    calibration = read_calibration(run_dir, len(class_names))
    if calibration is not None:
        path = run_dir / "calibration.json"
        are_same = calibration["class_names"] == list(class_names)
        check(path, are_same, "its classes are not those of config.json")
    return calibration


def _read_predictions(path: Path, num_classes: int) -> Predictions:
    predictions = read_predictions(path, (), num_classes)
    labels = predictions.labels
    are_ids = bool(np.all((labels >= 0) & (labels < num_classes)))
    check(path, are_ids, f"its labels are not class ids from 0 to {num_classes - 1}")
    return predictions


def write_test(run_dir: Path, test: Predictions, class_names: Sequence[str]) -> dict[str, Any]:
    """Write ``predictions.npz`` and ``test.json``, and return the contents of the latter.

    Args:
        run_dir: The folder of the run.
        test: The predictions of the test images.
        class_names: Names by class id.

    Raises:
        UserError: If a logit is NaN or infinite.
    """
    check_finite(test.logits, "test")
    # The slow part comes first, so that both files are written together.
    results = summarize_test(test.labels, test.logits, class_names, test.groups)
    write_results(run_dir, "predictions", test.arrays(), test.groups, results)
    return results


def write_test_calibration(
    run_dir: Path, class_names: Sequence[str], calibrator: Calibrator, test: Predictions
) -> dict[str, Any]:
    """Write ``calibration.json``: a calibrator and its effect on the test images.

    Args:
        run_dir: The folder of the run, which has ``validation_predictions.npz``.
        class_names: Names by class id.
        calibrator: Fitted on the validation images.
        test: The predictions of the test images.

    Returns:
        The contents of the file.

    Raises:
        UserError: If ``validation_predictions.npz`` is missing or broken.
    """
    validation = read_validation(run_dir, len(class_names))
    if validation is None:
        raise missing(run_dir / VALIDATION_FILE)
    parts = {
        name: (part.labels, part.logits, part.groups)
        for name, part in (("validation", validation), ("test", test))
    }
    calibration = summarize_calibration(calibrator, class_names, **parts)
    write_calibration(run_dir, calibration)
    return calibration
