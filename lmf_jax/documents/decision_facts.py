"""Facts on calibration, operating points, prediction sets, subgroups and external tests."""

from lmf_jax.documents.facts import Block, Missing
from lmf_jax.documents.run_files import DocumentedRun

Blocks = tuple[Block, ...]


def calibration(run: DocumentedRun) -> Blocks:
    """State how the probabilities are calibrated, and the errors before and after."""
    return (Missing("calibration", "calibration.json", "python -m lmf_jax evaluate RUN"),)


def operating_points(run: DocumentedRun) -> Blocks:
    """State the thresholds and their sensitivity, specificity and predictive values."""
    command = "python -m lmf_jax operate RUN --class CLASS --sensitivity VALUE"
    return (Missing("operating points", "operating_points.json", command),)


def prediction_sets(run: DocumentedRun) -> Blocks:
    """State the level and the coverage of the prediction sets."""
    command = "python -m lmf_jax sets RUN --level VALUE"
    return (Missing("prediction sets", "prediction_sets.json", command),)


def subgroups(run: DocumentedRun) -> Blocks:
    """State the metrics of subgroups."""
    return (Missing("subgroups", "subgroups.json", "python -m lmf_jax evaluate RUN"),)


def external(run: DocumentedRun) -> Blocks:
    """State the metrics of tests on other datasets."""
    command = "python -m lmf_jax evaluate RUN --dataset NAME"
    return (Missing("external tests", "external/NAME/test.json", command),)


TOPICS = {
    "calibration": calibration,
    "operating_points": operating_points,
    "prediction_sets": prediction_sets,
    "subgroups": subgroups,
    "external": external,
}
