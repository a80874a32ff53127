"""Report of a classification run: a self-contained HTML file, and a table for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

from lmf_jax.evaluation.calibration import (
    Calibrator,
    accuracy_intervals,
    calibration_lines,
    describe_calibrator,
    format_loss,
)
from lmf_jax.evaluation.classification.external import read_external
from lmf_jax.evaluation.classification.metrics import confusion_matrix, predicted_classes
from lmf_jax.evaluation.classification.mistakes import Mistakes
from lmf_jax.evaluation.classification.run import FOLD_METRICS, FinishedRun, read_run
from lmf_jax.evaluation.classification.scores import reliability_bins
from lmf_jax.evaluation.classification.subgroups import SUBGROUP_METRICS, SUBGROUP_TITLES
from lmf_jax.evaluation.classification.summary import class_notes
from lmf_jax.evaluation.conformal.file import fits_calibrator, read_sets
from lmf_jax.evaluation.conformal.summary import report_section
from lmf_jax.evaluation.folds import fold_rows
from lmf_jax.evaluation.formatting import (
    align_table,
    format_count,
    format_fraction,
    format_metrics,
)
from lmf_jax.evaluation.operating.file import read_points
from lmf_jax.evaluation.operating.section import (
    class_curves,
    current_points,
    curve_figures,
    operating_section,
)
from lmf_jax.evaluation.page import write_page
from lmf_jax.evaluation.subgroup_results import subgroup_tables
from lmf_jax.losses.class_weights import class_margins
from lmf_jax.runs.files import best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmf_jax.evaluation.classification.explanations import ExplainedImage
    from lmf_jax.evaluation.classification.figures import ReliabilityCurve

OVERALL_TITLES = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "auroc": "macro AUROC",
    "average_precision": "macro average precision",
    "ece": "calibration error (ECE)",
}
"""Metrics of the whole test part and their titles in the table, in its order."""

HISTORY_TITLES = {"val_accuracy": "accuracy", "val_macro_f1": "macro F1"}


def write_report(run_dir: str | Path) -> Path:
    """Write the report of a classification run, see :func:`lmf_jax.evaluation.write_report`.

    Args:
        run_dir: The folder that ``train.py`` wrote.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: If the folder or one of its files is missing or broken; the message names the
            file.
    """
    run_dir = Path(run_dir)
    run = read_run(run_dir)
    confusion = _confusion(run)
    names = run.dataset["class_names"]
    points = read_points(run_dir, names)
    curves = class_curves(run.labels, run.calibrator.probabilities(run.logits), names, run.groups)
    figures = _draw_figures(run, confusion)
    figures |= curve_figures(curves, current_points(points, run.calibrator))
    subgroups = SUBGROUP_METRICS.read(run_dir, len(run.labels))
    externals = read_external(run_dir, names)
    return write_page(
        run_dir,
        run,
        "classification/report.html.j2",
        figures,
        classes=_class_rows(run),
        confusions=_largest_confusions(confusion, run.dataset["class_names"]),
        best=best_epoch(run.history) if run.history else None,
        folds=fold_rows(run.test, FOLD_METRICS),
        class_notes=class_notes(run.test),
        subgroups=None if subgroups is None else subgroup_tables(subgroups, SUBGROUP_TITLES),
        externals=externals,
        external_subgroups={
            external.name: subgroup_tables(external.subgroups, SUBGROUP_TITLES)
            for external in externals
            if external.subgroups is not None
        },
        sets=_set_section(run_dir, run),
        probability_metrics=_probability_metrics(run),
        operating=operating_section(points, run.calibrator, curves, len(names)),
    )


def format_test_table(
    test: Mapping[str, Any],
    train_counts: Sequence[int],
    part: str = "test",
    calibration: Mapping[str, Any] | None = None,
) -> str:
    """Format the metrics of each class and of the whole part as plain text.

    Args:
        test: The contents of ``test.json``.
        train_counts: Number of training images of each class, in the order of the classes.
        part: Part of the data that the metrics were computed on.
        calibration: The contents of ``calibration.json``, if the run has been calibrated.

    Returns:
        A line per class and the macro means, a line per metric of the whole part with its interval,
        up to two lines on calibration and notes, at most 80 columns wide; no newline at the end.
    """
    per_class = test["per_class"]
    cells = [
        _table_cells(_without_absent(metrics), metrics["support"], train_count)
        for metrics, train_count in zip(per_class.values(), train_counts, strict=True)
    ]
    macro = {name: test[f"macro_{name}"] for name in ("precision", "recall", "f1")}
    support = sum(metrics["support"] for metrics in per_class.values())
    rows = [
        ("class", ("precision", "recall", "f1", part, "train")),
        *zip(per_class, cells, strict=True),
        ("macro mean", _table_cells(macro, support, sum(train_counts))),
    ]
    overall = format_metrics(
        test,
        OVERALL_TITLES,
        part=part,
        notes=class_notes(test, part),
        format_value=lambda _, value: format_fraction(value),
        widths=(23, 6),
    )
    lines = [] if calibration is None else calibration_lines(calibration)
    return "\n".join([align_table(rows), "", overall, *lines])


def _set_section(run_dir: Path, run: FinishedRun) -> dict[str, Any] | None:
    sets = read_sets(run_dir, run.dataset["class_names"])
    return report_section(
        sets, is_current=sets is not None and fits_calibrator(sets, run.calibrator)
    )


def _without_absent(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a class, which are all undefined if it has no test image."""
    if metrics["support"]:
        return dict(metrics)
    return {name: None for name in metrics} | {"support": 0}


def _table_cells(metrics: Mapping[str, float | None], test: int, train: int) -> tuple[str, ...]:
    fractions = (format_fraction(metrics[name]) for name in ("precision", "recall", "f1"))
    return (*fractions, format_count(test), format_count(train))


def _confusion(run: FinishedRun) -> Integer[np.ndarray, "classes classes"]:
    predictions = predicted_classes(run.logits)
    num_classes = run.logits.shape[-1]
    return np.asarray(confusion_matrix(run.labels, predictions, num_classes=num_classes))


def _draw_figures(
    run: FinishedRun, confusion: Integer[np.ndarray, "classes classes"]
) -> dict[str, "Figure"]:
    # Imported here because training prints its table without matplotlib.
    from lmf_jax.evaluation.classification import figures
    from lmf_jax.evaluation.classification.explanations import draw_explanations
    from lmf_jax.evaluation.figures import draw_training_curves

    class_names = run.dataset["class_names"]
    class_counts = run.dataset["class_counts"]
    drawn = {
        "per_class_f1": figures.draw_per_class_f1(run.test["per_class"], class_counts["train"]),
        "confusion_matrix": figures.draw_confusion_matrix(confusion, class_names),
        "class_distribution": figures.draw_class_distribution(
            class_counts, class_names, _margins(run)
        ),
        "reliability": figures.draw_reliability(_reliability_curves(run)),
    }
    if run.history:
        drawn["training_curves"] = draw_training_curves(run.history, HISTORY_TITLES)
    if run.mistakes is not None and len(run.mistakes.indices):
        drawn["mistakes"] = draw_explanations(_explained_mistakes(run, run.mistakes))
    return drawn


def _reliability_curves(run: FinishedRun) -> list["ReliabilityCurve"]:
    """Return the curve of the uncalibrated probabilities and, if there is one, the calibrated."""
    from lmf_jax.evaluation.classification.figures import ReliabilityCurve

    identity = Calibrator.identity(run.logits.shape[-1])
    # Those of a cross-validation are calibrated, each by its fold.
    calibrators = {"not calibrated" if run.history else "calibrated in each fold": identity}
    if run.calibrator.method != "none":
        title = f"calibrated ({describe_calibrator(run.calibrator)})"
        calibrators = {"before calibration": identity, title: run.calibrator}
    curves = []
    for title, calibrator in calibrators.items():
        probabilities = calibrator.probabilities(run.logits)
        bins = reliability_bins(run.labels, probabilities)
        low, high = accuracy_intervals(run.labels, probabilities, groups=run.groups)
        curves.append(ReliabilityCurve(title, bins, low, high))
    return curves


def _probability_metrics(run: FinishedRun) -> list[dict[str, Any]]:
    """Return title and test metrics of each method of calibration; nothing for an older run."""
    if run.calibration is None:
        return []
    titles = {
        "none": "none",
        "temperature": f"temperature scaling, T = {format_loss(run.calibrator.temperature)}",
        "vector": "vector scaling",
    }
    return [
        {
            "title": titles[method],
            "is_used": method == run.calibrator.method,
            **metrics,
            "log_loss": format_loss(metrics["log_loss"]),
        }
        for method, metrics in run.calibration["metrics"].items()
    ]


def _explained_mistakes(run: FinishedRun, mistakes: Mistakes) -> list["ExplainedImage"]:
    from lmf_jax.evaluation.classification.explanations import ExplainedImage, Explanation
    from lmf_jax.evaluation.classification.gradcam import resize_heat

    names, sides = run.dataset["class_names"], mistakes.images.shape[1:3]
    logits = run.logits[mistakes.indices]
    probabilities = run.calibrator.probabilities(logits)
    columns = {
        "why the predicted class": (
            mistakes.heat_of_predicted,
            mistakes.slices_of_predicted,
            predicted_classes(logits),
        ),
        "why the true class": (
            mistakes.heat_of_true,
            mistakes.slices_of_true,
            run.labels[mistakes.indices],
        ),
    }
    heats = {title: np.asarray(resize_heat(heat, *sides)) for title, (heat, *_) in columns.items()}
    if mistakes.map_size == (1, 1):  # A single cell has no location.
        heats = {title: np.zeros_like(heat) for title, heat in heats.items()}
    return [
        ExplainedImage(
            name=str(run.ids[index]),
            image=mistakes.images[i],
            explanations={
                title: Explanation(
                    heats[title][i],
                    names[class_ids[i]],
                    float(probabilities[i, class_ids[i]]),
                    image=None if slices is None else slices[i],
                )
                for title, (_, slices, class_ids) in columns.items()
            },
            true_class=names[run.labels[index]],
        )
        for i, index in enumerate(mistakes.indices)
    ]


def _margins(run: FinishedRun) -> list[float] | None:
    train_counts = run.dataset["class_counts"]["train"]
    if min(train_counts) < 1:
        return None
    margins = class_margins(train_counts, max_margin=run.config["max_margin"])
    return [float(margin) for margin in margins]


def _class_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """Return name, training count, test metrics and intervals of each class, by class id."""
    train_counts = run.dataset["class_counts"]["train"]
    intervals = run.test["intervals"]["per_class"]
    return [
        {
            "name": name,
            "train": train_count,
            "intervals": intervals[name],
            **_without_absent(metrics),
        }
        for (name, metrics), train_count in zip(
            run.test["per_class"].items(), train_counts, strict=True
        )
    ]


def _largest_confusions(
    confusion: Integer[np.ndarray, "classes classes"], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return up to three errors with the largest fractions of their true class.

    Fractions and not counts, so that errors on a frequent class do not hide those on a rare one.
    """
    support = confusion.sum(axis=1)
    fractions = confusion / support.clip(min=1)[:, None]
    np.fill_diagonal(fractions, 0)
    largest = np.argsort(-fractions, axis=None, kind="stable")[:3]
    return [
        {
            "true": class_names[row],
            "predicted": class_names[column],
            "count": int(confusion[row, column]),
            "support": int(support[row]),
        }
        for row, column in zip(*np.unravel_index(largest, fractions.shape), strict=True)
        if fractions[row, column] > 0
    ]
