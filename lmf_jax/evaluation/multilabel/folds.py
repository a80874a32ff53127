"""Out-of-fold results of a cross-validation of models of several labels."""

from pathlib import Path
from typing import Any

import numpy as np

from lmf_jax.evaluation.folds import append_folds, join_arrays, write_joint_results
from lmf_jax.evaluation.multilabel.report import format_test_table
from lmf_jax.evaluation.multilabel.run import FOLD_METRICS, FinishedMultilabel, read_run
from lmf_jax.evaluation.multilabel.summary import summarize_test
from lmf_jax.runs.folds import fold_dirs


def join_folds(run_dir: str | Path) -> dict[str, Any]:
    """Write ``predictions.npz`` and ``test.json`` of a cross-validation from those of its folds.

    The logits of different models are not on one scale, so the ``logits`` of the whole are the
    calibrated logits of each fold (float64), whose sigmoid are the calibrated probabilities. The
    labels of an image are predicted by the thresholds of the fold that tested it.
    ``predictions.npz`` also has the ``fold`` of each image, from 1.

    Args:
        run_dir: The folder of the cross-validation, all of whose folds are finished.

    Returns:
        The contents of ``test.json``: the metrics over all images, as of
        :func:`~lmf_jax.evaluation.multilabel.summary.summarize_test`, and ``folds``, see
        :func:`~lmf_jax.evaluation.folds.summarize_folds`.

    Raises:
        UserError: If a fold is not finished, or one of its files is missing or broken.
    """
    runs = [read_run(folder) for folder in fold_dirs(run_dir)]
    logits = [run.calibrator.calibrate(run.logits) for run in runs]
    arrays, groups = join_arrays(runs, {"labels": [run.labels for run in runs], "logits": logits})
    sizes = [len(run.ids) for run in runs]
    thresholds = np.repeat([run.thresholds for run in runs], sizes, axis=0)
    names = runs[0].dataset["class_names"]
    results = summarize_test(arrays["labels"], arrays["logits"], names, thresholds, groups)
    return write_joint_results(
        Path(run_dir), "predictions", arrays, groups, results, runs, FOLD_METRICS
    )


def format_folds(run: FinishedMultilabel) -> str:
    """Return the table of the metrics over all folds, and a line per fold.

    Args:
        run: The contents of the folder of a cross-validation with its joint results.
    """
    table = format_test_table(run.test, run.dataset["class_counts"]["train"])
    return append_folds(table, run.test, FOLD_METRICS, "images")
