"""Facts on the tests of a run on other datasets."""

from lmf_jax.documents.facts import Block, JsonFile, Missing, sentence, table
from lmf_jax.documents.result_facts import (
    OVERALL,
    class_name,
    interval,
    metrics_table,
    with_interval,
)
from lmf_jax.documents.run_files import DocumentedRun
from lmf_jax.evaluation.formatting import (
    format_count,
    format_difference,
    format_fraction,
    format_setting,
)

Blocks = tuple[Block, ...]

MISSING = (
    Missing(
        "external tests",
        "external/NAME/test.json",
        "python -m lmf_jax evaluate RUN --dataset NAME",
    ),
)
CHANGE = ("difference", "low", "high")


def external(run: DocumentedRun) -> Blocks:
    """State the metrics of tests on other datasets, and why they differ from the run's own."""
    if not run.external_tests:
        return MISSING
    return tuple(
        block
        for record, test in run.external_tests
        for block in (
            *_data(record),
            *metrics_table(test, OVERALL[run.task]),
            *_change(run, record),
        )
    )


def external_data(run: DocumentedRun) -> Blocks:
    """Name the datasets of the external tests."""
    found = tuple(block for record, _ in run.external_tests for block in _data(record))
    return found or MISSING


def _data(record: JsonFile) -> Blocks:
    return (
        *sentence(
            "External test on {}; number of images: {}.",
            record.fact("dataset"),
            record.fact("images", show=format_count),
        ),
        *sentence("Only images with this metadata: {}.", record.fact("where")),
        *_leakage(record),
    )


def _leakage(record: JsonFile) -> Blocks:
    if record.get("leakage", "checked"):
        return sentence(
            "Images left out because a lesion, patient or picture of them is in the training or "
            "validation part: {}.",
            record.fact("leakage", "images", show=format_count),
        )
    return sentence(
        "Whether images of the training part are among these was checked: {}.",
        record.fact("leakage", "checked", show=format_setting),
    )


def _change(run: DocumentedRun, record: JsonFile) -> Blocks:
    """Compare the test with the run's own: main metric, frequencies, recall and calibration."""
    metric, title = ("dsc", "Mean DSC") if run.is_segmentation else ("accuracy", "Accuracy")
    key = ("transfer", metric)
    return (
        *sentence(
            f"{title}: {{}} on the run's own test and {{}} here, a difference of {{}} (interval "
            "{} to {}).",
            record.fact(*key, "own", show=format_fraction),
            record.fact(*key, "other", show=format_fraction),
            *(record.fact(*key, end, show=format_difference) for end in CHANGE),
        ),
        *sentence(
            "Part of this difference that is due to other class frequencies: {}.",
            record.fact("transfer", "by_prevalence", show=format_difference),
        ),
        *_class_changes(run, record),
        *_calibration(record),
    )


def _class_changes(run: DocumentedRun, record: JsonFile) -> Blocks:
    if record.get("transfer") is None:  # the two tests have no class in common
        return ()
    frequency, metric = ("fraction", "dsc") if run.is_segmentation else ("prevalence", "recall")
    rows = []
    for class_id, name in enumerate(run.class_names):
        key = ("transfer", "per_class", name)
        rows.append(
            (
                class_name(run, class_id),
                record.fact(*key, f"own_{frequency}", show=format_fraction),
                record.fact(*key, f"other_{frequency}", show=format_fraction),
                record.fact(*key, metric, "own", show=format_fraction),
                record.fact(*key, metric, "other", show=format_fraction),
            )
        )
    title = metric.upper() if run.is_segmentation else metric
    header = (f"own {frequency}", f"{frequency} here", f"own {title}", f"{title} here")
    return table(("class", *header), rows)


def _calibration(record: JsonFile) -> Blocks:
    if record.get("calibration") is None:
        return ()
    errors = [
        with_interval(
            record.fact("calibration", test, "ece", show=format_fraction),
            interval(record, "calibration", test, "ece_interval"),
        )
        for test in ("own", "other")
    ]
    return table(("calibration error (ECE) of the run's own test", "here"), [errors])


TOPICS = {"external_data": external_data, "external": external}
