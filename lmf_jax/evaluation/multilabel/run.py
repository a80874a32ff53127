"""Write and read the test results in the folder of a multi-label run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.calibration.file import write_calibration
from lmf_jax.evaluation.folds import check_folds
from lmf_jax.evaluation.multilabel.calibration import (
    LABEL_METHODS,
    LabelCalibrator,
    read_label_calibrator,
    summarize_label_calibration,
)
from lmf_jax.evaluation.multilabel.summary import summarize_test
from lmf_jax.evaluation.multilabel.thresholds import read_thresholds
from lmf_jax.evaluation.operating.point import ClassPart
from lmf_jax.evaluation.predictions import (
    VALIDATION_FILE,
    Predictions,
    check_finite,
    read_predictions,
)
from lmf_jax.runs.atomic_files import write_results
from lmf_jax.runs.files import (
    MULTILABEL,
    RunFiles,
    check,
    is_number,
    is_whole,
    missing,
    num_folds,
    parse,
    read_text,
    read_training_files,
    require,
)

MISSING_LABEL = -1
HISTORY_KEYS = ("epoch", "train_loss", "val_loss", "val_map", "val_auroc", "learning_rate")
RANKING_METRICS = ("mean_average_precision", "mean_auroc")
"""Means over the labels, with intervals; null if undefined."""
F1_METRICS = ("macro_f1", "micro_f1", "samples_f1")
LABEL_RANKING_METRICS = ("auroc", "average_precision")
LABEL_F1_METRICS = ("f1", "precision", "recall", "threshold")
FOLD_METRICS = {"mean_average_precision": "mAP", "mean_auroc": "macro AUROC"}
"""Metrics of each fold of a cross-validation, and their titles."""
ODIR_METRICS = ("kappa", "f1", "auc", "final")


@dataclass(frozen=True, kw_only=True)
class FinishedMultilabel(RunFiles):
    """Contents of the folder of a finished multi-label run.

    Attributes:
        labels: 0, 1 or -1 for a missing label of the test images ``[n, C]``.
        logits: Their logits ``[n, C]``, not calibrated. Of a cross-validation, the calibrated
            logits of all images, each by the fold that tested it.
        calibrator: Fitted on the validation images; that of a cross-validation changes nothing.
        calibration: Contents of ``calibration.json``; None for a cross-validation, whose folds have
            it, as for the next two.
        thresholds: Probability from which each label is predicted ``[C]``.
        validation: Predictions of the validation images.
    """

    labels: Integer[np.ndarray, "n labels"]
    logits: Float[np.ndarray, "n labels"]
    calibrator: LabelCalibrator
    calibration: Mapping[str, Any] | None = None
    thresholds: Float[np.ndarray, " labels"] | None = None
    validation: Predictions | None = None


def read_run(run_dir: str | Path) -> FinishedMultilabel:
    """Read the folder of a multi-label run that was trained and tested.

    Args:
        run_dir: The folder that ``train.py`` wrote.

    Returns:
        The contents of its files, checked to be complete and consistent.

    Raises:
        UserError: If the folder or a file is missing, unreadable or incomplete, or the run has
            another task; the message names the file.
    """
    run_dir = Path(run_dir)
    files = read_training_files(run_dir, MULTILABEL, HISTORY_KEYS)
    names = files["dataset"]["class_names"]
    of_folds = num_folds(files) is not None
    predictions, test = read_tested(run_dir, names, of_folds=of_folds)
    files |= {**vars(predictions), "test": test}
    if of_folds:
        return FinishedMultilabel(**files, calibrator=LabelCalibrator.identity(len(names)))
    return FinishedMultilabel(
        **files,
        calibrator=read_label_calibrator(run_dir, names),
        calibration=_read_calibration(run_dir / "calibration.json"),
        thresholds=read_thresholds(run_dir, names),
        validation=read_validation(run_dir, len(names)),
    )


def read_tested(
    folder: Path, label_names: Sequence[str], *, of_folds: bool = False
) -> tuple[Predictions, dict[str, Any]]:
    """Read ``predictions.npz`` and ``test.json`` of a test.

    Args:
        folder: The folder of a run, or of a test on another dataset.
        label_names: The names of the labels.
        of_folds: Whether the folder is that of a cross-validation.

    Returns:
        The predictions, and the contents of ``test.json``.

    Raises:
        UserError: If a file is missing or broken, or the files do not match.
    """
    predictions = _read_predictions(folder / "predictions.npz", len(label_names))
    test = _read_test(folder / "test.json", label_names, predictions.labels, of_folds)
    return predictions, test


def label_parts(run: FinishedMultilabel, label: int) -> tuple[ClassPart, ClassPart]:
    """Return the images of validation and test of which one label is known, from its view.

    Args:
        run: The contents of its folder, with the validation part.
        label: Index of the label.
    """
    assert run.validation is not None
    validation, test = (
        ClassPart(
            np.asarray(part.labels[known, label] == 1),
            run.calibrator.probabilities(part.logits)[known, label],
            None if part.groups is None else part.groups[known],
        )
        for part in (run.validation, run)
        for known in [part.labels[:, label] != MISSING_LABEL]
    )
    return validation, test


def read_validation(run_dir: str | Path, num_labels: int) -> Predictions:
    """Read the predictions of the validation images of a run.

    Args:
        run_dir: The folder of a multi-label run.
        num_labels: Number of labels of the run.

    Raises:
        UserError: If the file is missing or broken.
    """
    return _read_predictions(Path(run_dir) / VALIDATION_FILE, num_labels)


def write_test(
    run_dir: Path,
    test: Predictions,
    label_names: Sequence[str],
    calibrator: LabelCalibrator,
    thresholds: Float[np.ndarray, " labels"],
) -> dict[str, Any]:
    """Write ``predictions.npz``, ``test.json`` and ``calibration.json`` of a test.

    Args:
        run_dir: The folder of the run.
        test: The predictions of the test images.
        label_names: The ``C`` names.
        calibrator: Fitted on the validation images.
        thresholds: Calibrated probability from which each label is predicted ``[C]``.

    Returns:
        The contents of ``test.json``, and under ``calibration`` those of ``calibration.json``.

    Raises:
        UserError: If a logit is NaN or infinite.
    """
    check_finite(test.logits, "test")
    # The slow part comes first, so that all files are written together.
    results = summarize(test, label_names, calibrator, thresholds)
    calibration = summarize_label_calibration(calibrator, label_names, test.labels, test.logits)
    write_results(run_dir, "predictions", test.arrays(), test.groups, results)
    write_calibration(run_dir, calibration)
    return {**results, "calibration": calibration}


def summarize(
    predictions: Predictions,
    label_names: Sequence[str],
    calibrator: LabelCalibrator,
    thresholds: Float[np.ndarray, " labels"],
) -> dict[str, Any]:
    """Return the contents of ``test.json``; arguments are those of :func:`write_test`."""
    logits = calibrator.calibrate(predictions.logits)
    return summarize_test(predictions.labels, logits, label_names, thresholds, predictions.groups)


def _read_predictions(path: Path, num_labels: int) -> Predictions:
    predictions = read_predictions(path, (num_labels,), num_labels)
    are_labels = bool(np.isin(predictions.labels, (-1, 0, 1)).all())
    check(path, are_labels, "its labels are not 0, 1 or -1")
    return predictions


def _read_calibration(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise missing(path)
    calibration: dict[str, Any] = parse(path, read_text(path))
    require(path, calibration, ("method", "temperature", "metrics"))
    require(path, calibration["metrics"], LABEL_METHODS, "its metrics")
    for metrics in calibration["metrics"].values():
        require(path, metrics, ("log_loss", "brier"), "its metrics")
        check(path, all(map(is_number, metrics.values())), "its metrics are not numbers")
    return calibration


def _read_test(
    path: Path,
    label_names: Sequence[str],
    labels: Integer[np.ndarray, "n labels"],
    of_folds: bool,
) -> dict[str, Any]:
    """Read ``test.json``, or that of a cross-validation, whose labels have several thresholds."""
    test: dict[str, Any] = parse(path, read_text(path))
    if of_folds:
        require(path, test, ("folds",))
        check_folds(path, test["folds"], list(FOLD_METRICS), len(labels), nullable=True)
    require(path, test, (*RANKING_METRICS, *F1_METRICS, "odir", "per_label", "intervals"))
    _check_overall(path, test)
    for name, column in zip(label_names, labels.T, strict=True):
        counts = {"positives": int((column == 1).sum()), "negatives": int((column == 0).sum())}
        _check_label(path, test, name, counts, of_folds)
    return test


def _check_overall(path: Path, test: Mapping[str, Any]) -> None:
    intervals = test["intervals"]
    keys = ("level", "resamples", "drawn", "units", "per_label", *RANKING_METRICS)
    require(path, intervals, keys, "its intervals")
    is_described = is_number(intervals["level"], 0, 1) and is_whole(intervals["resamples"])
    is_described = is_described and isinstance(intervals["drawn"], str)
    check(path, is_described, "the settings of its intervals are not a level, counts and names")
    for name in F1_METRICS:
        check(path, is_number(test[name], 0, 1), f"its {name} is not a fraction")
        _check_metric(path, name, test[name], intervals.get(name))  # earlier runs have none
    for name in RANKING_METRICS:
        _check_metric(path, name, test[name], intervals[name])
    require(path, test["odir"], ODIR_METRICS, "its odir")
    for name in ODIR_METRICS:
        _check_metric(path, f"odir {name}", test["odir"][name], None)


def _check_label(
    path: Path, test: Mapping[str, Any], name: str, counts: Mapping[str, int], of_folds: bool
) -> None:
    """Raise UserError unless the metrics of a label are complete and possible.

    Args:
        path: The file, for the error.
        test: Its contents.
        name: Name of the label.
        counts: Number of test images with and without the label.
        of_folds: Whether the label has several thresholds, of which the file has none.
    """
    owner, per_label, intervals = f"label {name}", test["per_label"], test["intervals"]["per_label"]
    require(path, per_label, (name,), "its per_label")
    require(path, intervals, (name,), "its intervals of labels")
    of_label, ends = per_label[name], intervals[name]
    require(path, of_label, (*LABEL_RANKING_METRICS, *LABEL_F1_METRICS, *counts), owner)
    require(path, ends, LABEL_RANKING_METRICS, f"the intervals of {owner}")
    for metric in LABEL_RANKING_METRICS:
        _check_metric(path, f"{metric} of {owner}", of_label[metric], ends[metric])
    for metric in LABEL_F1_METRICS:
        is_valid = is_number(of_label[metric], 0, 1)
        is_valid |= of_folds and metric == "threshold" and of_label[metric] is None
        check(path, is_valid, f"the {metric} of {owner} is not a fraction")
        _check_metric(path, f"{metric} of {owner}", of_label[metric], ends.get(metric))
    is_same = all(of_label[key] == count for key, count in counts.items())
    check(path, is_same, f"{owner} has other images than in predictions.npz")


def _check_metric(path: Path, name: str, value: Any, interval: Any) -> None:
    is_valid = value is None or is_number(value, -1.001, 1.001)
    check(path, is_valid, f"its {name} is neither null nor a fraction")
    is_pair = isinstance(interval, list) and len(interval) == 2
    is_interval = interval is None or (
        is_pair and all(is_number(end, -1.001, 1.001) for end in interval)
    )
    check(path, is_interval, f"the interval of its {name} is not a pair of fractions")
