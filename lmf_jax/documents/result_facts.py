"""Facts on the test of a run: metrics with their intervals, in total and per class."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lmf_jax.documents.facts import Block, Cell, Fact, JsonFile, Sentence, sentence, table
from lmf_jax.documents.run_files import CALIBRATION, DocumentedRun
from lmf_jax.evaluation.formatting import (
    format_count,
    format_distance,
    format_fraction,
    format_percent,
    format_range,
)
from lmf_jax.evaluation.resampling import FEW_UNITS, num_units

Blocks = tuple[Block, ...]

OVERALL: Mapping[str, Mapping[str, str]] = {
    "classification": {
        "macro_f1": "macro F1",
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced accuracy",
        "mcc": "Matthews correlation coefficient (MCC)",
        "macro_precision": "macro precision",
        "macro_recall": "macro recall",
        "auroc": "macro AUROC, one class against the rest",
        "average_precision": "macro average precision, one class against the rest",
        "ece": "debiased calibration error (ECE)",
    },
    "segmentation": {
        "dsc": "Dice coefficient (DSC)",
        "iou": "intersection over union (IoU)",
        "precision": "precision",
        "recall": "recall",
        "hd95": "Hausdorff distance (HD95)",
    },
}
"""Metrics of the whole test and their titles."""

PER_CLASS: Mapping[str, Mapping[str, str]] = {
    "classification": {
        "precision": "precision",
        "recall": "recall (sensitivity)",
        "f1": "F1",
        "auroc": "AUROC",
        "average_precision": "average precision",
    },
    "segmentation": OVERALL["segmentation"],
}

METHODS = {
    "posterior": (
        "posterior (Bayesian bootstrap with priors for small classes; AUROC and average precision: "
        "bootstrap percentiles; ECE: the errors under which the observed one is not extreme)"
    ),
    "expanded percentile": "expanded percentile (bootstrap percentiles, expanded for few cases)",
}
UNITS = {
    "groups": "lesions or patients, each with all of its images (groups)",
    "images": "images, taken as independent (images)",
    "cases": "cases, taken as independent (cases)",
}


def units(run: DocumentedRun) -> Blocks:
    """Count the independent units of the test."""
    if run.groups is None:
        return sentence(
            f"The test part names no lesions or patients: its {run.example}s are taken as "
            "independent, and the intervals are too narrow if they are not."
        )
    number = num_units(len(run.groups), run.groups)
    return sentence(
        "Number of lesions or patients in the test part: {}.",
        run.arrays.tell(format_count(number), "groups"),
    )


def intervals(run: DocumentedRun) -> Blocks:
    """State the method of the intervals."""
    test = run.test
    others = (
        "other test cases" if run.is_segmentation else "other test images of equal class counts"
    )
    return sentence(
        "Intervals: level {}; method: {}; resampled units: {}; number of resamples: {}.",
        test.fact("intervals", "level", show=percent),
        test.fact("intervals", "method", show=lambda name: METHODS.get(name, name)),
        test.fact("intervals", "drawn", show=lambda name: UNITS.get(name, name)),
        test.fact("intervals", "resamples", show=format_count),
    ) + sentence(
        f"The intervals describe {others}; they do not cover the variation between training runs."
    )


def overall(run: DocumentedRun) -> Blocks:
    """State the metrics of the whole test with their intervals."""
    titles = dict(OVERALL[run.task])
    if CALIBRATION in run.optional and "ece" in titles:  # that of pixels is not in test.json
        titles["ece"] += ", before calibration"
    return metrics_table(run.test, titles)


def metrics_table(test: JsonFile, titles: Mapping[str, str]) -> Blocks:
    """Return the table of the metrics of a whole test.

    Args:
        test: Contents of a ``test.json``.
        titles: Metrics and their titles.
    """
    rows = []
    for name, title in titles.items():
        show = shown_by(name)
        value = test.fact(name, show=show)
        if value is None:
            continue
        unit = test.fact("hd95_unit") if name == "hd95" else None
        rows.append((title, value, interval(test, "intervals", name, show=show), unit or ""))
    columns = 4 if test.get("hd95_unit") else 3
    header = ("metric", "value", "interval", "unit")
    return table(header[:columns], [row[:columns] for row in rows])


def percent(fraction: float) -> str:
    """Format a level, 0.95 as ``95 %``."""
    return f"{100 * fraction:.4g} %"


def shown_by(metric: str) -> Callable[[Any], str]:
    """Return the function that formats a metric."""
    return format_distance if metric == "hd95" else format_fraction


def interval(
    file: JsonFile, *key: str | int, show: Callable[[Any], str] = format_fraction
) -> Fact | None:
    """Return the fact of an interval ``[low, high]``; None if the file has none."""
    return file.fact(*key, show=lambda ends: format_range(ends, show))


def headline(run: DocumentedRun) -> Blocks:
    """State the main metric of the test with its interval."""
    name = "dsc" if run.is_segmentation else "macro_f1"
    title = OVERALL[run.task][name]
    return sentence(
        f"Main metric of the test, {title}: {{}} ({{}} interval {{}}).",
        run.test.fact(name, show=format_fraction),
        run.test.fact("intervals", "level", show=percent),
        interval(run.test, "intervals", name),
    )


def per_class(run: DocumentedRun) -> Blocks:
    """State the metrics of each class with their intervals."""
    return class_table(run.test, run.task, run)


def class_table(test: JsonFile, task: str, run: DocumentedRun) -> Blocks:
    """Return the table of the metrics of each class, with the intervals in parentheses.

    Args:
        test: Contents of a ``test.json`` with the classes of the run.
        task: The task of the run.
        run: The run, for the names of the classes.
    """
    titles = PER_CLASS[task]
    rows: list[list[Cell]] = []
    for class_id, name in enumerate(run.class_names):
        row: list[Cell] = [class_name(run, class_id)]
        row.append(test.fact("intervals", "units", name, show=format_count))
        is_absent = not test.get("per_class", name, "support")
        for metric in titles:
            show = shown_by(metric)
            is_undefined = is_absent and not run.is_segmentation
            value = test.fact("per_class", name, metric, show=show)
            ends = interval(test, "intervals", "per_class", name, metric, show=show)
            row.append(None if is_undefined else with_interval(value, ends))
        rows.append(row)
    header = [f"{title} (interval)" for title in titles.values()]
    return table(("class", "independent units", *header), rows)


def with_interval(value: Fact | None, ends: Fact | None) -> Cell:
    """Return the cell of a value with its interval in parentheses."""
    if value is None or ends is None:
        return value
    return Sentence("{} ({})", (value, ends))


def class_name(run: DocumentedRun, class_id: int) -> Fact:
    """Return the fact of the name of a class."""
    return run.config.tell(run.class_names[class_id], "dataset", "class_names", class_id)


def absent(run: DocumentedRun) -> Blocks:
    """Name the classes that the test lacks."""
    if run.is_segmentation:
        rule = "the overlap metrics of a case are one if none is predicted, and zero otherwise"
    else:
        rule = "they count as zero in the macro precision, recall and F1, and in no other mean"
    return _classes_with(run, lambda count: count == 0, "Classes that the test lacks", rule)


def few_units(run: DocumentedRun) -> Blocks:
    """Name the classes with few independent units in the test."""
    rule = "their metrics are uncertain, and so are the means over the classes"
    words = "Classes with few independent units in the test"
    return _classes_with(run, lambda count: 0 < count < FEW_UNITS, words, rule)


def _classes_with(
    run: DocumentedRun, is_named: Callable[[int], bool], words: str, rule: str
) -> Blocks:
    units = run.test.get("intervals", "units") or {}
    names = [name for name, count in units.items() if is_named(count)]
    if not names:
        return ()
    facts = [
        fact
        for name in names
        for fact in (
            class_name(run, run.class_names.index(name)),
            run.test.tell(format_count(units[name]), "intervals", "units", name),
        )
    ]
    return sentence(f"{words}: {', '.join('{} ({})' for _ in names)}; {rule}.", *facts)


def confusions(run: DocumentedRun) -> Blocks:
    """State the most frequent errors, as fractions of the true class."""
    if run.confusion is None:
        return ()
    support = run.confusion.sum(axis=1)
    fractions = run.confusion / support.clip(min=1)[:, None]
    np.fill_diagonal(fractions, 0)
    largest = np.argsort(-fractions, axis=None, kind="stable")[:5]
    rows = [
        (
            class_name(run, int(true)),
            class_name(run, int(predicted)),
            run.arrays.tell(format_count(int(run.confusion[true, predicted])), "logits"),
            run.arrays.tell(format_count(int(support[true])), "labels"),
            run.arrays.tell(f"{format_percent(fractions[true, predicted])} %", "logits"),
        )
        for true, predicted in zip(*np.unravel_index(largest, fractions.shape), strict=True)
        if fractions[true, predicted] > 0
    ]
    header = ("true class", "predicted class", "images", "of", "fraction of the true class")
    return table(header, rows)


TOPICS = {
    "units": units,
    "intervals": intervals,
    "headline": headline,
    "overall": overall,
    "per_class": per_class,
    "absent": absent,
    "few_units": few_units,
    "confusions": confusions,
}
