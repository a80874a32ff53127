"""Operating points: a threshold chosen on validation, with its error rates on the test part."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from lmf_jax.evaluation.operating.effective_size import design_effect, within_unit_correlation
from lmf_jax.evaluation.operating.rates import Rates, decision_rates, prediction_interval
from lmf_jax.evaluation.operating.thresholds import (
    GUARANTEE_LEVEL,
    Target,
    Threshold,
    choose_threshold,
)
from lmf_jax.evaluation.resampling import LEVEL, Groups, num_units, unit_codes


class ClassPart(NamedTuple):
    """Images of one part of the data, seen from one class.

    Attributes:
        is_class: Whether each image is of the class ``[n]``.
        probability: Its calibrated probability of the class ``[n]``, in [0, 1].
        groups: Lesion or patient of each image ``[n]``; None if all are independent.
    """

    is_class: Bool[np.ndarray, " n"]
    probability: Float[np.ndarray, " n"]
    groups: Groups | None = None


def operating_point(
    class_name: str,
    target: Target,
    validation: ClassPart,
    test: ClassPart,
    *,
    prevalence: float | None = None,
) -> dict[str, Any]:
    """Choose a threshold on validation images and measure it on test images.

    Args:
        class_name: The class.
        target: The requirement on the threshold.
        validation: The images that the threshold is chosen on.
        test: Other images.
        prevalence: Another prevalence to compute predictive values at, in (0, 1). A threshold for a
            PPV or a cost ratio is chosen for it.

    Returns:
        ``class``, ``target`` (``kind``, ``value``), ``threshold``; ``guaranteed`` at
        ``guarantee_level``, with the ``estimate`` and the lower ``bound`` of the target's metric on
        validation; ``drawn`` (``groups`` or ``images``: the independent units), the counts of
        ``validation`` and ``test``; ``prediction``: the interval in which the ``sensitivity`` of
        the ``images`` of the test part was expected; ``rates``: those of :class:`Rates` on the test
        part, each with its interval; and ``at_prevalence``: the ``prevalence`` with its ``rates``,
        or None.

    Raises:
        ValueError: See :func:`lmf_jax.evaluation.operating.thresholds.choose_threshold`.
    """
    chosen = choose_threshold(
        validation.is_class,
        validation.probability,
        target,
        groups=validation.groups,
        prevalence=prevalence,
    )
    is_positive = test.probability >= chosen.value
    rates = decision_rates(test.is_class, is_positive, groups=test.groups)
    elsewhere = None
    if prevalence is not None:
        there = decision_rates(
            test.is_class, is_positive, groups=test.groups, prevalence=prevalence
        )
        elsewhere = {"prevalence": prevalence, "rates": _rates_to_json(there)}
    return {
        "class": class_name,
        "target": {"kind": target.kind, "value": target.value},
        "threshold": chosen.value,
        "guaranteed": chosen.guaranteed,
        "guarantee_level": GUARANTEE_LEVEL,
        "estimate": chosen.estimate,
        "bound": chosen.bound,
        "drawn": "images" if validation.groups is None else "groups",
        "validation": _counts(validation, chosen),
        "test": _counts(test, chosen),
        "prediction": _prediction(validation, test, chosen),
        "interval_level": LEVEL,
        "rates": _rates_to_json(rates),
        "at_prevalence": elsewhere,
    }


def predicted_sensitivity(
    validation: ClassPart, test: ClassPart, threshold: float
) -> tuple[float, float]:
    """Return where the sensitivity of a sample like the test part is expected, from validation.

    Only the number of test images of the class and of their units is used.

    Args:
        validation: The images that the threshold was chosen on.
        test: The sample.
        threshold: The threshold.

    Returns:
        The ends of the 95 % prediction interval.
    """
    old, new = (
        unit_codes(len(part.is_class), part.groups)[part.is_class] for part in (validation, test)
    )
    scores = validation.probability[validation.is_class]
    correlation = within_unit_correlation(scores, old, threshold)
    hits = int((scores >= threshold).sum())
    return prediction_interval(
        hits,
        len(scores) - hits,
        len(new),
        design_effect=design_effect(old, correlation),
        new_design_effect=design_effect(new, correlation),
    )


def _prediction(validation: ClassPart, test: ClassPart, chosen: Threshold) -> dict[str, Any]:
    ends = predicted_sensitivity(validation, test, chosen.value)
    return {"level": LEVEL, "images": int(test.is_class.sum()), "sensitivity": list(ends)}


def _counts(part: ClassPart, chosen: Threshold) -> dict[str, int]:
    is_positive = part.probability >= chosen.value
    members = None if part.groups is None else part.groups[part.is_class]
    return {
        "true_positives": int((part.is_class & is_positive).sum()),
        "false_negatives": int((part.is_class & ~is_positive).sum()),
        "false_positives": int((~part.is_class & is_positive).sum()),
        "true_negatives": int((~part.is_class & ~is_positive).sum()),
        "class_units": num_units(int(part.is_class.sum()), members),
    }


def _rates_to_json(rates: Rates) -> dict[str, dict[str, float] | None]:
    return {
        name: None if estimate is None else estimate._asdict()
        for name, estimate in rates._asdict().items()
    }
