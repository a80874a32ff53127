"""The report of a finished run: a self-contained HTML file, and a table for the terminal.

That of a segmentation is written by segmentation_report.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Integer

from lmf_jax.evaluation.classification.metrics import confusion_matrix, predicted_classes
from lmf_jax.evaluation.classification.mistakes import Mistakes
from lmf_jax.evaluation.classification.run import FinishedRun, read_run
from lmf_jax.evaluation.classification.scores import reliability_bins, softmax
from lmf_jax.evaluation.classification.summary import describe_few_units
from lmf_jax.evaluation.formatting import (
    align_table,
    format_count,
    format_fraction,
    format_interval,
    undefined_notes,
)
from lmf_jax.evaluation.page import render_page, save_figures, write_page
from lmf_jax.losses.class_weights import class_margins
from lmf_jax.runs.files import best_epoch

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lmf_jax.evaluation.classification.explanations import ExplainedImage

OVERALL_TITLES = {
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "MCC",
    "auroc": "macro AUROC",
    "average_precision": "macro average precision",
    "ece": "calibration error (ECE)",
}
"""Metrics of the whole test part in the terminal's table, in its order."""


def write_report(run_dir: str | Path) -> Path:
    """Write ``figures/*.png`` and ``report.html`` into the folder of a finished run.

    The report is a single file: figures and style are inside it, and it loads nothing from
    elsewhere. It is made from the files of the folder alone and can be written again at any time.

    Args:
        run_dir: the folder that ``train.py`` wrote.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: if the folder or one of its files is missing or broken; it names the file.
    """
    run_dir = Path(run_dir)
    run = read_run(run_dir)
    confusion = _confusion(run)
    figures = save_figures(run_dir / "figures", _draw_figures(run, confusion))
    return write_page(run_dir, _render(run, confusion, figures))


def format_test_table(
    test: Mapping[str, Any], train_counts: Sequence[int], part: str = "test"
) -> str:
    """Lay out the metrics of each class as plain text, at most 80 columns wide.

    Args:
        test: the metrics in the form of ``test.json``.
        train_counts: training images per class, in the order of the classes in ``test``.
        part: of the data that the metrics are of.

    Returns:
        A line per class and the macro means, then a line for each metric of the whole with its
        interval, and what "n/a" stands for; no newline at the end.
    """
    per_class = test["per_class"]
    numbers = [
        _table_numbers(_of_present(metrics), metrics["support"], train_count)
        for metrics, train_count in zip(per_class.values(), train_counts, strict=True)
    ]
    macro = {name: test[f"macro_{name}"] for name in ("precision", "recall", "f1")}
    support = sum(metrics["support"] for metrics in per_class.values())
    rows = [
        ("class", ("precision", "recall", "f1", part, "train")),
        *zip(per_class, numbers, strict=True),
        ("macro mean", _table_numbers(macro, support, sum(train_counts))),
    ]
    return f"{align_table(rows)}\n\n{_format_intervals(test, part)}"


def _format_intervals(test: Mapping[str, Any], part: str) -> str:
    """Write each metric of the whole part with its interval, a line each."""
    intervals = test["intervals"]
    lines = [
        f"{title:<23} {format_fraction(test[name]):>6}  "
        f"{format_interval(intervals[name]) if intervals[name] else ''}".rstrip()
        for name, title in OVERALL_TITLES.items()
    ]
    units = "images" if intervals["drawn"] == "images" else "lesions or patients"
    lines.append(f"[ ]: {100 * intervals['level']:g} % interval over other {part} {units}")
    for note in (*undefined_notes(test, part), *describe_few_units(test)):
        lines += textwrap.wrap(note, 80, break_on_hyphens=False)
    return "\n".join(lines)


def _of_present(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a class; those of one without images are not available."""
    if metrics["support"]:
        return dict(metrics)
    return {name: None for name in metrics} | {"support": 0}


def _table_numbers(metrics: Mapping[str, float | None], test: int, train: int) -> tuple[str, ...]:
    fractions = (format_fraction(metrics[name]) for name in ("precision", "recall", "f1"))
    return (*fractions, format_count(test), format_count(train))


def _confusion(run: FinishedRun) -> Integer[np.ndarray, "classes classes"]:
    predictions = predicted_classes(run.logits)
    num_classes = run.logits.shape[-1]
    return np.asarray(confusion_matrix(run.labels, predictions, num_classes=num_classes))


def _draw_figures(
    run: FinishedRun, confusion: Integer[np.ndarray, "classes classes"]
) -> dict[str, "Figure"]:
    # Imported here because training prints its table without any need of matplotlib.
    from lmf_jax.evaluation import figures
    from lmf_jax.evaluation.classification.explanations import draw_explanations

    class_names = run.dataset["class_names"]
    class_counts = run.dataset["class_counts"]
    bins = reliability_bins(run.labels, softmax(run.logits))
    drawn = {
        "per_class_f1": figures.draw_per_class_f1(run.test["per_class"], class_counts["train"]),
        "confusion_matrix": figures.draw_confusion_matrix(confusion, class_names),
        "training_curves": figures.draw_training_curves(run.history),
        "class_distribution": figures.draw_class_distribution(
            class_counts, class_names, _margins(run)
        ),
        "reliability": figures.draw_reliability(bins),
    }
    if run.mistakes is not None and len(run.mistakes.places):
        drawn["mistakes"] = draw_explanations(_explained_mistakes(run, run.mistakes))
    return drawn


def _explained_mistakes(run: FinishedRun, mistakes: Mistakes) -> list["ExplainedImage"]:
    from lmf_jax.evaluation.classification.explanations import ExplainedImage, Explanation
    from lmf_jax.evaluation.classification.gradcam import resize_heat

    names, sides = run.dataset["class_names"], mistakes.images.shape[1:3]
    probabilities = softmax(run.logits[mistakes.places])
    asked = {
        "why the predicted class": (mistakes.heat_of_predicted, probabilities.argmax(axis=1)),
        "why the true class": (mistakes.heat_of_true, run.labels[mistakes.places]),
    }
    heats = {title: np.asarray(resize_heat(heat, *sides)) for title, (heat, _) in asked.items()}
    if mistakes.map_size == (1, 1):  # one cell for the whole image shows no place
        heats = {title: np.zeros_like(heat) for title, heat in heats.items()}
    return [
        ExplainedImage(
            name=str(run.ids[place]),
            image=mistakes.images[i],
            explanations={
                title: Explanation(
                    heats[title][i], names[class_ids[i]], float(probabilities[i, class_ids[i]])
                )
                for title, (_, class_ids) in asked.items()
            },
            true_class=names[run.labels[place]],
        )
        for i, place in enumerate(mistakes.places)
    ]


def _margins(run: FinishedRun) -> list[float] | None:
    train_counts = run.dataset["class_counts"]["train"]
    if min(train_counts) < 1:
        return None
    margins = class_margins(train_counts, max_margin=run.config["max_margin"])
    return [float(margin) for margin in margins]


def _render(
    run: FinishedRun,
    confusion: Integer[np.ndarray, "classes classes"],
    figures: Mapping[str, Mapping[str, Any]],
) -> str:
    return render_page(
        "report.html.j2",
        run,
        figures,
        classes=_class_rows(run),
        confusions=_largest_confusions(confusion, run.dataset["class_names"]),
        best=best_epoch(run.history),
        class_notes=[*describe_few_units(run.test), *undefined_notes(run.test)],
    )


def _class_rows(run: FinishedRun) -> list[dict[str, Any]]:
    """Return name, training count and test metrics of each class, by class id."""
    train_counts = run.dataset["class_counts"]["train"]
    intervals = run.test["intervals"]["per_class"]
    return [
        {"name": name, "train": train_count, "intervals": intervals[name], **_of_present(metrics)}
        for (name, metrics), train_count in zip(
            run.test["per_class"].items(), train_counts, strict=True
        )
    ]


def _largest_confusions(
    confusion: Integer[np.ndarray, "classes classes"], class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return up to three errors, largest first by their share of the true class.

    By share, because by count the errors on a frequent class would hide those on a rare one.
    """
    support = confusion.sum(axis=1)
    shares = confusion / support.clip(min=1)[:, None]
    np.fill_diagonal(shares, 0)
    largest = np.argsort(-shares, axis=None, kind="stable")[:3]
    return [
        {
            "true": class_names[row],
            "predicted": class_names[column],
            "count": int(confusion[row, column]),
            "support": int(support[row]),
        }
        for row, column in zip(*np.unravel_index(largest, shares.shape), strict=True)
        if shares[row, column] > 0
    ]
