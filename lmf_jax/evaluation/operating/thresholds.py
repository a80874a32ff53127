"""Choose the decision threshold of a class on validation images.

The threshold for a sensitivity is a nonparametric tolerance limit (Wilks 1941): the largest
threshold for which the sensitivity on new images of the same kind is at least the target with
confidence :data:`GUARANTEE_LEVEL`. A threshold at the k-th smallest of n independent scores has a
sensitivity that is Beta(n - k + 1, k) distributed over validation sets, whatever the distribution
of the scores. Images of one lesion or patient are not independent: counts are divided by their
design effect, see :mod:`lmf_jax.evaluation.operating.effective_size`. The threshold for a
specificity is the mirror image.

The positive predictive value (PPV) need not increase with the threshold, so a search over all
thresholds would find one that is good by chance. It is tested in fixed sequences instead (Bauer
1991, doi:10.1002/sim.4780100609; Angelopoulos et al. 2021, arXiv:2110.01052): from four starts that
do not depend on the labels, downward until the first threshold whose lower bound is below the
target, each with a quarter of the error probability.

Without enough units for the guarantee, the threshold is that of the plain estimate.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from lmf_jax.evaluation.operating.cuts import Cuts, cut_everywhere
from lmf_jax.evaluation.operating.effective_size import (
    design_effect,
    lower_bound,
    within_unit_correlation,
)
from lmf_jax.evaluation.resampling import Groups, unit_codes

GUARANTEE_LEVEL = 0.95
"""Confidence of a guaranteed target: it is missed for at most 5 % of validation sets."""

Kind = Literal["sensitivity", "specificity", "ppv", "cost_ratio"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_START_ODDS = (1, 2, 4, 8)
"""Starts of the search for a PPV: probabilities of this many times the odds of the target."""
_NUM_DRAWS = 4000
_SEED = 0


@dataclass(frozen=True)
class Target:
    """The requirement that a threshold is chosen for.

    Attributes:
        kind: ``sensitivity``, ``specificity`` or ``ppv``, each in (0, 1]; or ``cost_ratio``, the
            cost of a missed case over that of a false alarm, positive.
        value: Its value.
    """

    kind: Kind
    value: float

    def __post_init__(self) -> None:
        """Raise ValueError for a value outside the range of the kind."""
        high = np.inf if self.kind == "cost_ratio" else 1.0
        if not 0 < self.value <= high or np.isinf(self.value):
            expected = "a positive number" if self.kind == "cost_ratio" else "above 0, at most 1"
            raise ValueError(f"The {self.kind} is {self.value:g}; expected {expected}.")


class Threshold(NamedTuple):
    """A chosen threshold.

    Attributes:
        value: Images with at least this probability are positive.
        estimate: Value of the target's metric on validation; the expected cost per image, in units
            of a false alarm, for a cost ratio.
        bound: The metric's lower confidence bound at the threshold; None for a cost ratio, and for
            a PPV without a guarantee.
        guaranteed: Whether the bound is at least the target.
    """

    value: float
    estimate: float
    bound: float | None
    guaranteed: bool


def choose_threshold(
    is_class: Bool[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    target: Target,
    *,
    groups: Groups | None = None,
    prevalence: float | None = None,
    level: float = GUARANTEE_LEVEL,
) -> Threshold:
    """Choose the threshold of a class.

    Args:
        is_class: Whether each validation image is of the class ``[n]``.
        probability: Its calibrated probability of the class ``[n]``, in [0, 1].
        target: The requirement.
        groups: Lesion or patient of each image, see :func:`lmf_jax.evaluation.resampling.resample`.
        prevalence: Fraction of the class where the threshold will be used, in (0, 1), for a PPV or
            a cost ratio; None for that of the validation images.
        level: Confidence of the guarantee, in (0, 1).

    Raises:
        ValueError: If the images are all of the class or all of others, a probability is not in
            [0, 1], or no threshold has the PPV.
    """
    cuts = cut_everywhere(is_class, probability)
    if cuts.positives == 0 or cuts.negatives == 0:
        present, missing = ("none", "any") if cuts.positives == 0 else ("all", "others")
        raise ValueError(
            f"Of {len(is_class)} validation images, {present} are of the class; a threshold needs "
            f"{missing}."
        )
    prevalence = cuts.positives / len(is_class) if prevalence is None else prevalence
    if not 0 < prevalence < 1:
        raise ValueError(f"The prevalence is {prevalence:g}; expected a number between 0 and 1.")
    if target.kind == "cost_ratio":
        return _cheapest(cuts, target.value, prevalence)
    units = unit_codes(len(is_class), groups)
    if target.kind == "ppv":
        effects = _class_effects(is_class, probability, units)
        return _precise_enough(cuts, target.value, prevalence, effects, level)
    members = is_class if target.kind == "sensitivity" else ~is_class
    # Specificity is the sensitivity for the other classes, with the order of the scores reversed.
    scores = probability[members] if target.kind == "sensitivity" else 1 - probability[members]
    return _tolerance_limit(cuts, target, scores, units[members], level)


def units_suffice(units: Int[np.ndarray, " n"], target: float, level: float) -> bool:
    """Return whether these images could guarantee a sensitivity if all were found.

    Args:
        units: Unit of each image of the class ``[n]``.
        target: The sensitivity.
        level: Confidence of the guarantee.

    Returns:
        The answer if images of one unit are always found or missed together; fewer units cannot
        give a guarantee, however many images they have.
    """
    effect = design_effect(units, 1.0)
    return bool(lower_bound(len(units), 0, level=level, design_effect=effect) >= target)


def _tolerance_limit(
    cuts: Cuts,
    target: Target,
    scores: Float[np.ndarray, " n"],
    units: Int[np.ndarray, " n"],
    level: float,
) -> Threshold:
    """Return the largest threshold with a sensitivity, or the smallest with a specificity.

    Args:
        cuts: Counts at all thresholds.
        target: The sensitivity or specificity.
        scores: Scores of the images that it is a fraction of, larger if more likely to be right.
        units: Their units.
        level: Confidence of the guarantee.
    """
    # The correlation matters where the true fraction is the target: a larger threshold is wrong.
    quantile = float(np.quantile(scores, 1 - target.value, method="higher"))
    effect = design_effect(units, within_unit_correlation(scores, units, quantile))
    is_sensitivity = target.kind == "sensitivity"
    hits = cuts.true_positives if is_sensitivity else cuts.true_negatives
    bounds = lower_bound(hits, len(scores) - hits, level=level, design_effect=effect)
    guaranteed = units_suffice(units, target.value, level) and bool(bounds.max() >= target.value)
    estimates = hits / len(scores)
    good = np.flatnonzero((bounds if guaranteed else estimates) >= target.value)
    cut = good[-1] if is_sensitivity else good[0]
    return Threshold(
        float(cuts.thresholds[cut]), float(estimates[cut]), float(bounds[cut]), guaranteed
    )


def _cheapest(cuts: Cuts, cost_ratio: float, prevalence: float) -> Threshold:
    """Return the smallest threshold of the lowest expected cost."""
    missed = cost_ratio * prevalence * (1 - cuts.sensitivity)
    costs = missed + (1 - prevalence) * (1 - cuts.specificity)
    best = int(np.argmin(costs))
    return Threshold(float(cuts.thresholds[best]), float(costs[best]), None, False)


def _class_effects(
    is_class: Bool[np.ndarray, " n"],
    probability: Float[np.ndarray, " n"],
    units: Int[np.ndarray, " n"],
) -> tuple[float, float]:
    """Return the design effects of the images of the class and of the others."""
    first, second = (
        design_effect(
            units[members],
            within_unit_correlation(
                probability[members], units[members], float(np.median(probability[members]))
            ),
        )
        for members in (is_class, ~is_class)
    )
    return first, second


def _precise_enough(
    cuts: Cuts, target: float, prevalence: float, effects: tuple[float, float], level: float
) -> Threshold:
    """Return the smallest threshold with the PPV."""
    plain = cuts.ppv(prevalence)
    if not (plain >= target).any():
        best = int(np.argmax(plain))
        raise ValueError(
            f"No threshold has a PPV of {target:g} on the validation images; the largest is "
            f"{plain[best]:.3f}, at {cuts.thresholds[best]:.3f}."
        )
    level = 1 - (1 - level) / len(_START_ODDS)
    rng = np.random.default_rng(_SEED)
    bounds: dict[int, float] = {}
    for start in _starts(cuts, target, prevalence):
        for cut in range(start, -1, -1):
            if cut not in bounds:
                bounds[cut] = _ppv_bound(cuts, cut, prevalence, effects, level, rng)
            if bounds[cut] < target:
                break
    good = [cut for cut, bound in bounds.items() if bound >= target]
    cut = min(good) if good else int(np.flatnonzero(plain >= target)[0])
    bound = bounds[cut] if good else None
    return Threshold(float(cuts.thresholds[cut]), float(plain[cut]), bound, bool(good))


def _starts(cuts: Cuts, target: float, prevalence: float) -> list[int]:
    """Return the first cut of each sequence of tests, the lowest first.

    A calibrated probability is that of the validation prevalence; at another one, its odds change
    by the ratio of the odds of the prevalences.
    """
    here = cuts.positives / cuts.negatives
    odds = target / max(1 - target, 1e-9) * here * (1 - prevalence) / prevalence
    starts = np.multiply(odds, _START_ODDS)
    found = np.searchsorted(cuts.thresholds, starts / (1 + starts))
    return np.unique(found.clip(max=len(cuts.thresholds) - 1)).tolist()


def _ppv_bound(
    cuts: Cuts,
    cut: int,
    prevalence: float,
    effects: tuple[float, float],
    level: float,
    rng: np.random.Generator,
) -> float:
    """Return the lower bound of the PPV at a cut.

    Sensitivity and false-positive rate are drawn from the distributions whose quantiles are their
    Clopper-Pearson bounds, each on the side of a lower PPV.
    """
    class_effect, other_effect = effects
    hits, misses = cuts.true_positives[cut], cuts.false_negatives[cut]
    alarms, rejected = cuts.false_positives[cut], cuts.true_negatives[cut]
    found = rng.standard_gamma(hits / class_effect, _NUM_DRAWS)
    missed = rng.standard_gamma(misses / class_effect + 1, _NUM_DRAWS)
    alarmed = rng.standard_gamma(alarms / other_effect + 1, _NUM_DRAWS)
    left = rng.standard_gamma(rejected / other_effect, _NUM_DRAWS)
    true = prevalence * found / (found + missed)
    false = (1 - prevalence) * alarmed / (alarmed + left)
    return float(np.quantile(true / (true + false), 1 - level))
