"""Promises of finished runs, checked on other images: ``python -m benchmarks.promises``.

The validation and the test images of a run are pooled and halved at random, with all images of a
lesion or patient in the same half. A promise is made from one half, as the commands make it from
the validation part, and checked on the other one. Given the pooled images, halvings are independent
draws, and a promise that holds for exchangeable units holds for them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from jaxtyping import Bool, Float, Integer
from scipy import stats

from benchmarks.record import record
from lmf_jax.errors import UserError
from lmf_jax.evaluation.calibration import Calibrator, fit_calibrator
from lmf_jax.evaluation.calibration.scaling import fit_temperature
from lmf_jax.evaluation.classification.run import FinishedRun, read_run
from lmf_jax.evaluation.conformal.coverage import SetCoverage, measure_sets
from lmf_jax.evaluation.conformal.summary import Part
from lmf_jax.evaluation.conformal.thresholds import SetThresholds, fit_sets
from lmf_jax.evaluation.operating.effective_size import (
    design_effect,
    lower_bound,
    within_unit_correlation,
)
from lmf_jax.evaluation.operating.point import ClassPart, predicted_sensitivity
from lmf_jax.evaluation.operating.rates import beta_binomial
from lmf_jax.evaluation.operating.thresholds import GUARANTEE_LEVEL, Target, choose_threshold
from lmf_jax.evaluation.predictions import Predictions
from lmf_jax.evaluation.resampling import unit_codes

LEVELS = (0.8, 0.9, 0.95)
"""Levels of prediction sets, and sensitivities of operating points."""
ERROR = 0.01
"""Probability that a promise that is exactly kept is said to be missed, for each of two limits."""


@dataclass(frozen=True)
class Options:
    """Check the promises of finished runs on random halves of their validation and test images."""

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN", help="The folders of runs."),
    ]
    halvings: int = 200
    """Number of random halvings."""


@dataclass(frozen=True)
class Halving:
    """The halves of a run's validation and test images; the calibrator was fitted on the first."""

    first: Part
    second: Part


def pool(run: FinishedRun) -> Predictions:
    """Return the predictions of the validation and test images together.

    Raises:
        UserError: If the run has no predictions of its validation images.
    """
    validation = run.validation
    if validation is None:
        raise UserError(
            f"The run {run.config['run_dir']} has no predictions of its validation images; run "
            "python -m lmf_jax evaluate RUN first."
        )
    has_groups = validation.groups is not None and run.groups is not None
    return Predictions(
        ids=np.concatenate([validation.ids, run.ids]),
        labels=np.concatenate([validation.labels, run.labels]),
        logits=np.concatenate([validation.logits, run.logits]),
        groups=np.concatenate([validation.groups, run.groups]) if has_groups else None,
    )


def halve(pooled: Predictions, calibrator: Calibrator, count: int) -> Iterator[Halving]:
    """Yield random halves of the units, each with a new calibrator of the method of the run."""
    unit = np.unique(unit_codes(len(pooled.labels), pooled.groups), return_inverse=True)[1]
    num_units = int(unit.max()) + 1
    for number in range(count):
        drawn = np.random.default_rng(number).permutation(num_units)
        is_first = (drawn < num_units // 2)[unit]
        fitted = _fit_again(calibrator, pooled.labels[is_first], pooled.logits[is_first])
        probabilities = fitted.probabilities(pooled.logits)
        yield Halving(*(_part(pooled, probabilities, rows) for rows in (is_first, ~is_first)))


def _fit_again(
    calibrator: Calibrator,
    labels: Integer[np.ndarray, " n"],
    logits: Float[np.ndarray, "n classes"],
) -> Calibrator:
    if calibrator.method == "none":
        return calibrator
    if calibrator.method == "temperature":
        return replace(calibrator, temperature=fit_temperature(labels, logits))
    return fit_calibrator(labels, logits, calibrator.method)


def _part(
    pooled: Predictions,
    probabilities: Float[np.ndarray, "n classes"],
    rows: Bool[np.ndarray, " n"],
) -> Part:
    groups = None if pooled.groups is None else pooled.groups[rows]
    return Part(pooled.labels[rows], probabilities[rows], groups)


def check_sets(
    halvings: Sequence[Halving], class_names: Sequence[str], level: float
) -> list[dict[str, Any]]:
    """Check the coverage of the prediction sets of every class.

    Without groups and without equal probabilities, the number of covered units of the other half is
    beta-binomial, so that it is at least the 5 % quantile of that distribution in at least 95 % of
    the halvings. ``kept`` is "no" if the mean coverage or the fraction of such halvings is so small
    that a kept promise would show it with probability ``ERROR``, and "refused" if no halving makes
    the promise.

    Returns:
        A row for each class: mean number of ``units`` in a half, fraction of the halvings in which
        the class is ``promised``, mean ``coverage`` by unit over these, the fraction ``within`` the
        beta-binomial limit, mean ``size`` of a set, ``kept``, and the mean coverage where the class
        is ``refused``. Values that are undefined are "-".
    """
    rows = []
    made = [_make_sets(halving, level) for halving in halvings]
    for class_id, name in enumerate(class_names):
        thresholds = [fitted.classes[class_id] for fitted, _ in made]
        found = [measured[class_id] for _, measured in made]
        promised = [
            (threshold.units, coverage)
            for threshold, coverage in zip(thresholds, found, strict=True)
            if threshold.promised and coverage.units
        ]
        refused = [
            coverage.coverage
            for threshold, coverage in zip(thresholds, found, strict=True)
            if not threshold.promised and coverage.units
        ]
        rows.append(
            {
                "level": f"{level:g}",
                "class": name,
                "units": float(np.mean([threshold.units for threshold in thresholds])),
                "promised": float(np.mean([threshold.promised for threshold in thresholds])),
                **_judge(promised, level),
                "refused": float(np.mean(np.array(refused, float))) if refused else "-",
            }
        )
    return rows


def _make_sets(halving: Halving, level: float) -> tuple[SetThresholds, list[SetCoverage]]:
    first, second = halving.first, halving.second
    fitted = fit_sets(first.is_class(), first.probabilities, level=level, groups=first.groups)
    contained = fitted.contains(second.probabilities)
    return fitted, measure_sets(contained, second.is_class(), second.groups)[0]


def _judge(promised: Sequence[tuple[int, SetCoverage]], level: float) -> dict[str, Any]:
    if not promised:
        return {"coverage": "-", "within": "-", "size": "-", "kept": "refused"}
    coverages = np.array([found.coverage for _, found in promised], float)
    within = np.array([_is_within(units, found, level) for units, found in promised])
    n = len(promised)
    error = coverages.std() / n**0.5
    enough_on_average = coverages.mean() + stats.norm.isf(ERROR) * error >= level
    enough_within = within.sum() >= stats.binom.ppf(ERROR, n, 0.95)
    return {
        "coverage": float(coverages.mean()),
        "within": float(within.mean()),
        "size": float(np.mean([found.size for _, found in promised])),
        "kept": "yes" if enough_on_average and enough_within else "no",
    }


def _is_within(units: int, found: SetCoverage, level: float) -> bool:
    """Return whether at least the 5 % quantile of the units of the other half are covered."""
    assert found.coverage is not None
    rank = int(np.ceil(level * (units + 1) * (1 - 1e-9)))
    limit = stats.betabinom.ppf(0.05, found.units, rank, units + 1 - rank)
    return bool(found.coverage * found.units >= limit - 1e-6)


def check_sensitivity(
    halvings: Sequence[Halving], class_names: Sequence[str], target: float
) -> list[dict[str, Any]]:
    """Check the operating points of a sensitivity of every class.

    A guarantee is about the sensitivity on all images of the kind, and the other half is a sample
    of them: where the guarantee is just kept, the sample is below the target in many halvings. The
    fraction of these that the beta-binomial distribution expects is ``expected``, and
    ``missed`` is the fraction in which the other half refutes the guarantee, because the upper
    95 % bound of its sensitivity is below the target.

    Returns:
        A row for each class: mean number of ``images`` and ``units`` of the class in a half; the
        fraction of halvings whose sensitivity in the other half is ``inside`` the 95 % prediction
        interval; the fraction of ``guaranteed`` points, and of these the mean ``sensitivity`` and
        ``specificity`` of the other half, and ``below``, ``expected`` and ``missed``; and ``kept``:
        "no" if fewer than 90 % are inside, or if more are missed than 5 % would show with
        probability ``ERROR``. Values that are undefined are "-".
    """
    rows = []
    for class_id, name in enumerate(class_names):
        found = [
            outcome
            for halving in halvings
            if (outcome := _operate(halving, class_id, target)) is not None
        ]
        guaranteed = [outcome for outcome in found if outcome.guaranteed]
        rows.append(
            {
                "target": f"{target:g}",
                "class": name,
                **_mean_of(found, ("images", "units", "inside", "guaranteed")),
                **_mean_of(guaranteed, ("sensitivity", "specificity", "below", "expected")),
                **_mean_of(guaranteed, ("missed",)),
                "kept": _is_kept(found, guaranteed),
            }
        )
    return rows


class Outcome(NamedTuple):
    """An operating point of one half and its truth on the other, see :func:`check_sensitivity`."""

    images: int
    units: int
    inside: bool
    guaranteed: bool
    sensitivity: float
    specificity: float
    below: bool
    expected: float
    missed: bool


def _operate(halving: Halving, class_id: int, target: float) -> Outcome | None:
    """Return the outcome of a class; None if a half has no image of it."""
    first, second = (
        ClassPart(part.labels == class_id, part.probabilities[:, class_id], part.groups)
        for part in (halving.first, halving.second)
    )
    if not first.is_class.any() or not second.is_class.any():
        return None
    chosen = choose_threshold(
        first.is_class, first.probability, Target("sensitivity", target), groups=first.groups
    )
    low, high = predicted_sensitivity(first, second, chosen.value)
    positive = second.probability >= chosen.value
    sensitivity = float(positive[second.is_class].mean())
    old, new = (unit_codes(len(p.is_class), p.groups)[p.is_class] for p in (first, second))
    scores = first.probability[first.is_class]
    correlation = within_unit_correlation(scores, old, chosen.value)
    return Outcome(
        images=len(old),
        units=len(np.unique(old)),
        inside=low - 1e-9 <= sensitivity <= high + 1e-9,
        guaranteed=chosen.guaranteed,
        sensitivity=sensitivity,
        specificity=float((~positive[~second.is_class]).mean()),
        below=sensitivity < target,
        expected=_expected_below(scores, chosen.value, old, new, correlation, target),
        missed=_refutes(second, chosen.value, new, target),
    )


def _expected_below(
    scores: Float[np.ndarray, " n"],
    threshold: float,
    old: Integer[np.ndarray, " n"],
    new: Integer[np.ndarray, " m"],
    correlation: float,
    target: float,
) -> float:
    """Return the predicted probability that the other half is below the target."""
    effect = design_effect(old, correlation)
    hits = int((scores >= threshold).sum())
    count = max(1, int(len(new) / design_effect(new, correlation)))
    outcomes = beta_binomial(count, hits / effect, (len(scores) - hits) / effect + 1)
    return float(outcomes[np.arange(count + 1) < target * count].sum())


def _refutes(
    part: ClassPart, threshold: float, units: Integer[np.ndarray, " m"], target: float
) -> bool:
    """Return whether the upper 95 % bound of the sensitivity is below the target."""
    scores = part.probability[part.is_class]
    effect = design_effect(units, within_unit_correlation(scores, units, threshold))
    hits = int((scores >= threshold).sum())
    largest = 1 - lower_bound(len(scores) - hits, hits, level=0.95, design_effect=effect)
    return bool(largest < target)


def _mean_of(found: Sequence[Outcome], names: Sequence[str]) -> dict[str, float | str]:
    return {
        name: float(np.mean([getattr(outcome, name) for outcome in found])) if found else "-"
        for name in names
    }


def _is_kept(found: Sequence[Outcome], guaranteed: Sequence[Outcome]) -> str:
    if not found:
        return "-"
    missed = sum(outcome.missed for outcome in guaranteed)
    most = stats.binom.ppf(1 - ERROR, len(guaranteed), 1 - GUARANTEE_LEVEL) if guaranteed else 0
    is_inside = np.mean([outcome.inside for outcome in found]) >= 0.9
    return "yes" if is_inside and missed <= most else "no"


def read_halvings(run_dir: str, count: int) -> tuple[list[Halving], list[str]]:
    """Return the halvings of a run and the names of its classes."""
    run = read_run(run_dir)
    return list(halve(pool(run), run.calibrator, count)), list(run.dataset["class_names"])


def main() -> None:
    """Check the promises of each run and print them by class."""
    options = tyro.cli(Options)
    if not options.runs:
        raise SystemExit("Give the folders of one or more runs.")
    halved = {Path(run).name: read_halvings(run, options.halvings) for run in options.runs}
    for place, check in ((None, check_sets), ("operating-points", check_sensitivity)):
        rows = (
            {"run": run, **row}
            for run, (halvings, names) in halved.items()
            for level in LEVELS
            for row in check(halvings, names, level)
        )
        record("promises", rows, place=place, halvings=options.halvings)


if __name__ == "__main__":
    main()
