"""Thresholds of the probabilities, chosen on validation and stored in ``thresholds.json``."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from lmf_jax.evaluation.multilabel.scores import Labels, check_labels
from lmf_jax.runs.atomic_files import write_atomically
from lmf_jax.runs.files import check, is_number, parse, read_text, require

FILE_NAME = "thresholds.json"
DEFAULT_THRESHOLD = 0.5


def f1_thresholds(
    labels: Labels, probabilities: Float[np.ndarray, "n labels"]
) -> Float[np.ndarray, " labels"]:
    """Return the threshold of each label that maximizes its F1.

    A label is predicted if its probability is at least the threshold, which lies halfway between
    two neighboring probabilities. Of several with the largest F1 it is the largest. A label
    without a positive example has the threshold 0.5.

    Args:
        labels: Of the validation part: 0, 1 or -1 for a missing label, ``[n, C]``.
        probabilities: ``[n, C]``.

    Raises:
        ValueError: If there is no example, a label is not 0, 1 or -1, or a probability is NaN.
    """
    check_labels(labels, probabilities)
    return np.array(
        [
            _threshold(column[column != -1] == 1, scores[column != -1].astype(np.float64))
            for column, scores in zip(labels.T, probabilities.T, strict=True)
        ]
    )


def _threshold(is_positive: np.ndarray, scores: np.ndarray) -> float:
    if not is_positive.any():
        return DEFAULT_THRESHOLD
    order = np.argsort(-scores, kind="stable")
    falling, hits = scores[order], is_positive[order].cumsum()
    f1 = 2 * hits / (is_positive.sum() + np.arange(1, len(scores) + 1))
    below = np.append(falling[1:], 0.0)
    # Equal probabilities cannot be parted.
    last = int(np.argmax(np.where(np.append(falling[1:] < falling[:-1], True), f1, -1.0)))
    halfway = (falling[last] + below[last]) / 2
    return float(halfway if halfway > below[last] else falling[last])


def write_thresholds(
    run_dir: Path, label_names: Sequence[str], thresholds: Float[np.ndarray, " labels"]
) -> None:
    """Write ``thresholds.json``: the threshold of each label by name.

    Args:
        run_dir: The folder of a run.
        label_names: The ``C`` unique names.
        thresholds: ``[C]``, from :func:`f1_thresholds`.
    """
    values = dict(zip(label_names, map(float, thresholds), strict=True))
    text = json.dumps({"maximizes": "f1", "part": "validation", "thresholds": values}, indent=2)
    write_atomically(run_dir / FILE_NAME, text + "\n")


def read_thresholds(
    run_dir: str | Path, label_names: Sequence[str]
) -> Float[np.ndarray, " labels"]:
    """Read ``thresholds.json`` in the order of the labels.

    Args:
        run_dir: The folder of a run.
        label_names: The names of its labels.

    Raises:
        UserError: If the file is missing or broken, or has other labels.
    """
    path = Path(run_dir) / FILE_NAME
    found = parse(path, read_text(path))
    require(path, found, ("thresholds",))
    values = found["thresholds"]
    fits = isinstance(values, dict) and sorted(values) == sorted(label_names)
    check(path, fits, f"it does not hold a threshold for each of the {len(label_names)} labels")
    are_fractions = all(is_number(value, 0, 1) for value in values.values())
    check(path, are_fractions, "a threshold is not a number from 0 to 1")
    return np.array([values[name] for name in label_names], np.float64)
