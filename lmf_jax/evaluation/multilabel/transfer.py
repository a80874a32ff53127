"""Difference between the test of a multi-label run and a test on another dataset.

Average precision, F1 and the predictive values change with the frequency of a label. AUROC does
not, so its change tells whether images with and without a label are told apart as well as before.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from lmf_jax.evaluation.external import Change
from lmf_jax.evaluation.multilabel.scores import Labels, Logits, score_labels
from lmf_jax.evaluation.multilabel.statistics import defined_interval, ranking_samples
from lmf_jax.evaluation.resampling import LEVEL, Groups


class LabelScores(NamedTuple):
    """Labels and scores of one test.

    Attributes:
        labels: 0, 1 or -1 for a missing label ``[n, C]``.
        logits: ``[n, C]``.
        groups: Patient of each image ``[n]``; None if all images are independent.
    """

    labels: Labels
    logits: Logits
    groups: Groups | None


class LabelTransfer(NamedTuple):
    """How a model changes from its own test to a test on another dataset.

    Attributes:
        own_prevalence: Fraction of the images of the test of the run with each label, of those of
            which it is known ``[C]``; NaN if it is known of none.
        other_prevalence: The same of the other dataset.
        mean_auroc: Mean AUROC of the labels that have one in both tests.
        auroc: AUROC of each label; None if it is undefined in one of the tests.
    """

    own_prevalence: Float[np.ndarray, " labels"]
    other_prevalence: Float[np.ndarray, " labels"]
    mean_auroc: Change
    auroc: list[Change | None]


def explain_transfer(
    own: LabelScores, other: LabelScores, *, level: float = LEVEL, seed: int = 0
) -> LabelTransfer | None:
    """Compare the test of a run with a test of the same model on another dataset.

    The intervals are bootstrap percentiles for the choice of the images or patients of both tests,
    which are independent.

    Args:
        own: The test of the run.
        other: The test on the other dataset.
        level: Nominal coverage of the intervals, in (0, 1).
        seed: Seed of the resamples.

    Returns:
        The changes; None if no label has an AUROC in both tests.

    Raises:
        ValueError: As :func:`lmf_jax.evaluation.multilabel.scores.rank_by_label`.
    """
    tests = (own, other)
    observed = [np.asarray(score_labels(test.labels, test.logits).auroc) for test in tests]
    shared = ~np.isnan(observed[0]) & ~np.isnan(observed[1])
    if not shared.any():
        return None
    samples = [
        np.asarray(ranking_samples(*test[:2], groups=test.groups, seed=seed + number).auroc, float)
        for number, test in enumerate(tests)
    ]
    means = [_mean_of(auroc, shared) for auroc in (*observed, *samples)]
    return LabelTransfer(
        own_prevalence=_prevalence(own.labels),
        other_prevalence=_prevalence(other.labels),
        mean_auroc=_change(means[0], means[1], means[3] - means[2], level),
        auroc=[
            _change(observed[0][c], observed[1][c], samples[1][:, c] - samples[0][:, c], level)
            if shared[c]
            else None
            for c in range(len(shared))
        ],
    )


def _mean_of(
    auroc: Float[np.ndarray, "*rows labels"], shared: Bool[np.ndarray, " labels"]
) -> Float[np.ndarray, "*rows"]:
    """Return the mean over the shared labels that are defined; NaN if none is."""
    values = auroc[..., shared]
    count = (~np.isnan(values)).sum(axis=-1)
    means = np.nansum(values, axis=-1) / np.maximum(count, 1)
    return np.asarray(np.where(count > 0, means, np.nan))


def _prevalence(labels: Labels) -> Float[np.ndarray, " labels"]:
    known = (labels != -1).sum(axis=0)
    return np.where(known > 0, (labels == 1).sum(axis=0) / np.maximum(known, 1), np.nan)


def _change(
    own: Float[np.ndarray, ""] | np.floating,
    other: Float[np.ndarray, ""] | np.floating,
    differences: Float[np.ndarray, " resamples"],
    level: float,
) -> Change:
    low, high = defined_interval(differences, level=level).tolist()
    difference = float(other - own)
    return Change(float(own), float(other), difference, min(low, difference), max(high, difference))
