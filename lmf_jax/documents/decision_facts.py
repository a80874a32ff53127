"""Facts on calibration, operating points, prediction sets, subgroups and external tests.

A run has the files of these only after their commands.
"""

from typing import Any

from lmf_jax.documents.facts import Block, JsonFile, Missing, sentence, table
from lmf_jax.documents.result_facts import (
    class_name,
    interval,
    percent,
    with_interval,
)
from lmf_jax.documents.run_files import CALIBRATION, PREDICTION_SETS, DocumentedRun
from lmf_jax.evaluation.formatting import format_count, format_fraction, format_setting

Blocks = tuple[Block, ...]


CALIBRATION_METHODS = {
    "none": "none (the probabilities are those of the model)",
    "temperature": (
        "temperature (all logits are divided by one number; the predicted classes do not change)"
    ),
    "vector": "vector (the logit of each class has its own factor and offset)",
}
CALIBRATION_METRICS = {"ece": "debiased calibration error (ECE)", "brier": "Brier score"}
CALIBRATION_METRICS |= {"log_loss": "log loss", "accuracy": "accuracy"}


def calibration(run: DocumentedRun) -> Blocks:
    """State how the probabilities are calibrated, and the errors before and after."""
    file = run.optional.get(CALIBRATION)
    if run.is_cross_validation:
        return sentence(
            "Each fold is calibrated on its own validation part; the probabilities of all folds "
            "together are those after calibration."
        )
    if file is None:
        return (Missing("calibration", CALIBRATION, "python -m lmf_jax evaluate RUN"),)
    method = file.get("method")
    return (
        *sentence(
            "Calibration, fitted on the validation part: {}.",
            file.fact("method", show=lambda name: CALIBRATION_METHODS.get(name, name)),
        ),
        *(
            sentence("Temperature: {}.", file.fact("temperature", show=lambda t: f"{t:.4g}"))
            if method == "temperature"
            else ()
        ),
        *sentence(
            f"Number of {run.classified}s of this fit: {{}}; independent units among them: {{}}.",
            file.fact("validation", "images", show=format_count),
            file.fact("validation", "units", show=format_count),
        ),
        *table(
            ("metric of the test", "before calibration", "after calibration"),
            [
                (title, *(_calibration_cell(file, of, name) for of in ("none", method)))
                for name, title in CALIBRATION_METRICS.items()
            ],
        ),
    )


def _calibration_cell(file: JsonFile, method: str, name: str) -> Any:
    value = file.fact("metrics", method, name, show=format_fraction)
    if name != "ece":
        return value
    return with_interval(value, interval(file, "metrics", method, "ece_interval"))


def missing(run: DocumentedRun, subject: str, file: str, command: str) -> Blocks:
    """Name the command that writes a file.

    Args:
        run: The run.
        subject: What the file would report.
        file: Name of the file.
        command: The command.
    """
    if run.is_cross_validation:  # its folds have the validation parts
        file, command = f"fold-N/{file}", command.replace("RUN", "RUN/fold-N")
    return (Missing(subject, file, command),)


def prediction_sets(run: DocumentedRun) -> Blocks:
    """State the level and the coverage of the prediction sets."""
    if run.is_segmentation:
        return ()
    file = run.optional.get(PREDICTION_SETS)
    if file is None:
        command = "python -m lmf_jax sets RUN --level VALUE"
        return missing(run, "prediction sets", PREDICTION_SETS, command)
    rows = []
    for class_id, name in enumerate(run.class_names):
        key = ("per_class", name)
        rows.append(
            (
                class_name(run, class_id),
                file.fact(*key, "units", show=format_count),
                file.fact(*key, "promised", show=format_setting),
                file.fact(*key, "threshold", show=lambda value: f"{value:.2g}"),
                *_set_cells(file, *key, "test"),
            )
        )
    header = ("class", "validation units", "promised", "threshold", "coverage in the test")
    return (
        *sentence(
            "Prediction sets: the set of an image has every class whose calibrated probability "
            "reaches a threshold; the level is {}: the fraction of new images of a class whose set "
            "has the class, on average over validation parts.",
            file.fact("level", show=percent),
        ),
        *sentence(
            "Validation units of a class that this promise needs: {}; without them the class has a "
            "threshold and no promise.",
            file.fact("units_needed", show=format_count),
        ),
        *table((*header, "mean number of classes"), rows),
        *sentence(
            "All classes together: coverage in the test {}, {} classes in a set on average.",
            file.fact("test", "coverage", show=format_fraction),
            file.fact("test", "size", show=_two_decimals),
        ),
    )


def _set_cells(file: JsonFile, *key: str | int) -> tuple[Any, Any]:
    coverage = file.fact(*key, "coverage", show=format_fraction)
    ends = interval(file, *key, "interval")
    return with_interval(coverage, ends), file.fact(*key, "size", show=_two_decimals)


def _two_decimals(value: float) -> str:
    return f"{value:.2f}"


TOPICS = {
    "calibration": calibration,
    "prediction_sets": prediction_sets,
}
