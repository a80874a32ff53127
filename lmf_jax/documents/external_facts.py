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


def external(run: DocumentedRun) -> Blocks:
    """State the metrics of tests on other datasets, and why they differ from the run's own."""
    tests = run.external_tests
    if not tests:
        command = "python -m lmf_jax evaluate RUN --dataset NAME"
        return (Missing("external tests", "external/NAME/test.json", command),)
    return tuple(
        block
        for record, test in tests
        for block in (
            *_data(record),
            *metrics_table(test, OVERALL[run.task]),
            *_change(run, record),
        )
    )


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
    """Compare the test with the run's own: accuracy, prevalence, recall and calibration."""
    accuracy = ("transfer", "accuracy")
    rows = []
    for class_id, name in enumerate(run.class_names):
        key = ("transfer", "per_class", name)
        rows.append(
            (
                class_name(run, class_id),
                record.fact(*key, "own_prevalence", show=format_fraction),
                record.fact(*key, "other_prevalence", show=format_fraction),
                record.fact(*key, "recall", "own", show=format_fraction),
                record.fact(*key, "recall", "other", show=format_fraction),
            )
        )
    errors = [
        with_interval(
            record.fact("calibration", test, "ece", show=format_fraction),
            interval(record, "calibration", test, "ece_interval"),
        )
        for test in ("own", "other")
    ]
    header = ("own prevalence", "prevalence here", "own recall", "recall here")
    is_explained = record.get("transfer") is not None
    return (
        *sentence(
            "Accuracy: {} on the run's own test and {} here, a difference of {} (interval {} to "
            "{}); of it, {} is due to other class frequencies.",
            record.fact(*accuracy, "own", show=format_fraction),
            record.fact(*accuracy, "other", show=format_fraction),
            record.fact(*accuracy, "difference", show=format_difference),
            record.fact(*accuracy, "low", show=format_difference),
            record.fact(*accuracy, "high", show=format_difference),
            record.fact("transfer", "by_prevalence", show=format_difference),
        ),
        *(table(("class", *header), rows) if is_explained else ()),
        *table(
            ("calibration error (ECE) of the run's own test", "here"),
            [errors],
        ),
    )


TOPICS = {"external": external}
