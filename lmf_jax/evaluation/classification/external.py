"""Tests of a classification run on other datasets."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from lmf_jax.errors import printable
from lmf_jax.evaluation.calibration import probability_metrics
from lmf_jax.evaluation.classification.metrics import predicted_classes
from lmf_jax.evaluation.classification.run import FinishedRun, read_tested, write_test
from lmf_jax.evaluation.classification.subgroups import (
    SUBGROUP_METRICS,
    summarize_test_subgroups,
)
from lmf_jax.evaluation.classification.transfer import (
    Outcomes,
    Transfer,
    explain_transfer,
)
from lmf_jax.evaluation.external import (
    ExternalTest,
    check_change,
    make_folder,
    read_tests,
    write_record,
)
from lmf_jax.evaluation.formatting import format_difference, format_fraction, format_interval
from lmf_jax.evaluation.predictions import Predictions
from lmf_jax.evaluation.subgroup_results import write_subgroups
from lmf_jax.runs.files import check, is_fraction, is_number, require


def write_external(
    folder: Path,
    run: FinishedRun,
    calibrated: Predictions,
    facts: Mapping[str, Any],
    metadata: Mapping[str, Shaped[np.ndarray, " n"]] | None = None,
) -> ExternalTest:
    """Write the predictions, the metrics, the subgroups and the comparison of an external test.

    The files are ``predictions.npz``, ``test.json``, ``external.json`` and, with metadata,
    ``subgroups.json``.

    Args:
        folder: The folder ``external/<name>`` of the run, which is made.
        run: The contents of the run folder.
        calibrated: Predictions of the images of the other dataset, with calibrated logits.
        facts: Description of the other dataset and of what was left out: ``dataset``, ``leakage``
            and further keys, JSON-serializable.
        metadata: Value of each of these images by column, unicode; "" is unknown.

    Raises:
        UserError: If a logit is NaN or infinite, or the folder cannot be made.
    """
    class_names = run.dataset["class_names"]
    make_folder(folder)
    test = write_test(folder, calibrated, class_names)
    own_logits = run.calibrator.calibrate(run.logits)
    transfer = explain_transfer(
        Outcomes(run.labels, predicted_classes(own_logits), run.groups),
        Outcomes(calibrated.labels, predicted_classes(calibrated.logits), calibrated.groups),
        num_classes=len(class_names),
    )
    record = {
        **facts,
        "images": len(calibrated.ids),
        "transfer": None if transfer is None else _transfer_record(transfer, class_names),
        "calibration": {
            "own": probability_metrics(run.labels, own_logits, run.groups),
            "other": probability_metrics(calibrated.labels, calibrated.logits, calibrated.groups),
        },
    }
    subgroups = summarize_test_subgroups(
        calibrated.labels, calibrated.logits, metadata or {}, calibrated.groups
    )
    write_subgroups(folder, subgroups)
    write_record(folder, record)
    return ExternalTest(name=folder.name, record=record, test=test, subgroups=subgroups)


def read_external(run_dir: str | Path, class_names: Sequence[str]) -> list[ExternalTest]:
    """Read all external tests of a run, sorted by name; none if there are none.

    Raises:
        UserError: If a file is missing or broken; the message names it.
    """
    return read_tests(run_dir, class_names, _check_record, read_tested, SUBGROUP_METRICS)


def _check_record(path: Path, record: Mapping[str, Any], class_names: Sequence[str]) -> None:
    require(path, record, ("calibration",))
    require(path, record["calibration"], ("own", "other"), "its calibration")
    for metrics in record["calibration"].values():
        require(path, metrics, ("log_loss", "brier", "ece", "ece_interval"), "its calibration")
        ends = metrics["ece_interval"]
        are_numbers = is_number(metrics["ece"]) and isinstance(ends, list) and len(ends) == 2
        check(path, are_numbers and all(map(is_number, ends)), "its calibration is not numbers")
    if record["transfer"] is None:
        return
    transfer = record["transfer"]
    changes = ("accuracy", "within_classes", "balanced_accuracy")
    require(path, transfer, (*changes, "by_prevalence", "per_class"), "its transfer")
    check(path, is_fraction(transfer["by_prevalence"]), "its by_prevalence is no difference")
    per_class = transfer["per_class"]
    has_classes = isinstance(per_class, Mapping) and list(per_class) == list(class_names)
    check(path, has_classes, "its classes are not those of config.json")
    for row in per_class.values():
        require(path, row, ("own_prevalence", "other_prevalence", "recall"), "its transfer")
        check_change(path, row["recall"], is_optional=True)
    for name in changes:
        check_change(path, transfer[name])


def _transfer_record(transfer: Transfer, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        "accuracy": transfer.accuracy._asdict(),
        "by_prevalence": transfer.by_prevalence,
        "within_classes": transfer.within_classes._asdict(),
        "balanced_accuracy": transfer.balanced_accuracy._asdict(),
        "per_class": {
            name: {
                "own_prevalence": float(transfer.own_prevalence[class_id]),
                "other_prevalence": float(transfer.other_prevalence[class_id]),
                "recall": None if change is None else change._asdict(),
            }
            for class_id, (name, change) in enumerate(
                zip(class_names, transfer.recall, strict=True)
            )
        },
    }


def format_external(external: ExternalTest) -> str:
    """Format how an external test differs from the test of the run, at most 80 columns wide.

    Args:
        external: Output of :func:`write_external`.

    Returns:
        A table of prevalence and recall by class, and the parts of the change in accuracy; no
        newline at the end.
    """
    transfer = external.record["transfer"]
    if transfer is None:
        return "The test of the run and this dataset have no class in common."
    rows = [("class", "own", "other", "own", "other", "change of recall")]
    for name, row in transfer["per_class"].items():
        prevalences = (
            format_fraction(row["own_prevalence"]),
            format_fraction(row["other_prevalence"]),
        )
        recall = row["recall"]
        if recall is None:
            rows.append((printable(name), *prevalences, "n/a", "n/a", ""))
            continue
        values = (format_fraction(recall["own"]), format_fraction(recall["other"]))
        rows.append((printable(name), *prevalences, *values, _difference(recall)))
    width = min(max(len(row[0]) for row in rows), 30)
    lines = [f"{'':<{width}}     prevalence          recall"]
    for name, *cells, change in rows:
        texts = "".join(f"{cell:>8}" for cell in cells)
        lines.append(f"{name[:width]:<{width}}{texts}  {change}".rstrip())
    accuracy, calibration = transfer["accuracy"], external.record["calibration"]
    return "\n".join(
        [
            *lines,
            "",
            f"accuracy           {format_fraction(accuracy['own'])} own, "
            f"{format_fraction(accuracy['other'])} here: {_difference(accuracy)}",
            f"  other prevalence {format_difference(transfer['by_prevalence'])}",
            f"  other recalls    {_difference(transfer['within_classes'])}",
            f"calibration error  {_error(calibration['own'])} own, "
            f"{_error(calibration['other'])} here",
            "own: the test of the run; [ ]: 95 % interval for the choice of the images,",
            "lesions or patients of both tests",
            *textwrap.wrap(external.averaging_note, 80),
        ]
    )


def _difference(change: Mapping[str, float]) -> str:
    ends = format_interval((change["low"], change["high"]), format_difference)
    return f"{format_difference(change['difference'])} {ends}"


def _error(metrics: Mapping[str, Any]) -> str:
    return f"{format_fraction(metrics['ece'])} {format_interval(metrics['ece_interval'])}"
