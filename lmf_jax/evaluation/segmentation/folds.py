"""Results of all cases in a cross-validation of segmenters."""

from pathlib import Path
from typing import Any

from lmf_jax.evaluation.folds import append_folds, join_arrays, write_joint_results
from lmf_jax.evaluation.segmentation.report import format_test_table
from lmf_jax.evaluation.segmentation.run import FOLD_METRICS, FinishedSegmentation, read_run
from lmf_jax.evaluation.segmentation.summary import summarize_test
from lmf_jax.runs.folds import fold_dirs


def join_folds(run_dir: str | Path) -> dict[str, Any]:
    """Write ``cases.npz`` and ``test.json`` of a cross-validation from those of its folds.

    Args:
        run_dir: The folder of the cross-validation, all of whose folds are finished.

    Returns:
        The contents of ``test.json``: the metrics over all cases, as of
        :func:`~lmf_jax.evaluation.segmentation.summary.summarize_test`, and ``folds``, see
        :func:`~lmf_jax.evaluation.folds.summarize_folds`.

    Raises:
        UserError: If a fold is not finished, or one of its files is missing or broken.
    """
    runs = [read_run(folder) for folder in fold_dirs(run_dir)]
    values = {"counts": [run.counts for run in runs], "hd95": [run.hd95 for run in runs]}
    arrays, groups = join_arrays(runs, values)
    names, unit = runs[0].dataset["class_names"], runs[0].test["hd95_unit"]
    cases = {name: arrays[name] for name in ("ids", "counts", "hd95")}
    results = summarize_test(**cases, class_names=names, groups=groups, hd95_unit=unit)
    return write_joint_results(Path(run_dir), "cases", arrays, groups, results, runs, FOLD_METRICS)


def format_folds(run: FinishedSegmentation) -> str:
    """Return the table of the metrics over all folds, and a line per fold.

    Args:
        run: The contents of the folder of a cross-validation with its joint results.
    """
    table = format_test_table(run.test)
    return append_folds(table, run.test, FOLD_METRICS, "cases")
