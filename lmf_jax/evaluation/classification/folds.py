"""Out-of-fold results of a cross-validation of classifiers."""

from pathlib import Path
from typing import Any

from scipy.special import log_softmax

from lmf_jax.evaluation.classification.report import format_test_table
from lmf_jax.evaluation.classification.run import FOLD_METRICS, FinishedRun, read_run
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.folds import append_folds, join_arrays, write_joint_results
from lmf_jax.runs.folds import fold_dirs


def join_folds(run_dir: str | Path) -> dict[str, Any]:
    """Write ``predictions.npz`` and ``test.json`` of a cross-validation from those of its folds.

    The logits of different models are not on one scale, so the ``logits`` of the whole are the
    calibrated log-probabilities of each fold (float64), whose softmax are the calibrated
    probabilities. ``predictions.npz`` also has the ``fold`` of each image, from 1.

    Args:
        run_dir: The folder of the cross-validation, all of whose folds are finished.

    Returns:
        The contents of ``test.json``: the metrics over all images, as of
        :func:`~lmf_jax.evaluation.classification.summary.summarize_test`, and ``folds``, see
        :func:`~lmf_jax.evaluation.folds.summarize_folds`.

    Raises:
        UserError: If a fold is not finished, or one of its files is missing or broken.
    """
    runs = [read_run(folder) for folder in fold_dirs(run_dir)]
    log_probabilities = [log_softmax(run.calibrator.calibrate(run.logits), axis=-1) for run in runs]
    values = {"labels": [run.labels for run in runs], "logits": log_probabilities}
    arrays, groups = join_arrays(runs, values)
    names = runs[0].dataset["class_names"]
    results = summarize_test(arrays["labels"], arrays["logits"], names, groups)
    return write_joint_results(
        Path(run_dir), "predictions", arrays, groups, results, runs, FOLD_METRICS
    )


def format_folds(run: FinishedRun) -> str:
    """Return the table of the metrics over all folds, and a line per fold.

    Args:
        run: The contents of the folder of a cross-validation with its joint results.
    """
    table = format_test_table(run.test, run.dataset["class_counts"]["train"])
    return append_folds(table, run.test, FOLD_METRICS, "images")
