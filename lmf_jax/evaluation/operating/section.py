"""Section of a classification report on thresholds: curves and operating points."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.classification.scores import has_counterexamples
from lmf_jax.evaluation.operating.curves import (
    DecisionCurve,
    PrecisionRecallCurve,
    RocCurve,
    decision_curve,
    precision_recall_curve,
    roc_curve,
)
from lmf_jax.evaluation.operating.description import (
    class_label,
    describe_target,
    format_threshold,
    guarantee,
)
from lmf_jax.evaluation.operating.file import Points, UsedCalibrator, fits_calibrator
from lmf_jax.evaluation.resampling import Groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 7
"""Maximum number of classes whose curves are drawn: the rarest ones."""


class ClassCurves(NamedTuple):
    """Curves of one class on the test part."""

    roc: RocCurve
    precision_recall: PrecisionRecallCurve
    decision: DecisionCurve


def class_curves(
    labels: Integer[np.ndarray, " n"],
    probabilities: Float[np.ndarray, "n classes"],
    class_names: Sequence[str],
    groups: Groups | None = None,
) -> dict[str, ClassCurves]:
    """Compute the curves of up to seven classes, the rarest of a larger number.

    Args:
        labels: Class ids of the test images ``[n]``.
        probabilities: Calibrated probabilities ``[n, C]``.
        class_names: The ``C`` names by class id.
        groups: Lesion or patient of each image; None if all are independent.

    Returns:
        Curves by name, in the order of the class ids; empty if all images are of one class.
    """
    counts = np.bincount(labels, minlength=len(class_names))
    defined = np.flatnonzero(has_counterexamples(labels, len(class_names)))
    rarest = defined[np.argsort(counts[defined], kind="stable")[:MAX_CLASSES]]
    curves = {}
    for class_id in sorted(rarest.tolist()):
        one = labels == class_id, probabilities[:, class_id]
        curves[class_names[class_id]] = ClassCurves(
            roc_curve(*one, groups=groups),
            precision_recall_curve(*one, groups=groups),
            decision_curve(*one, groups=groups),
        )
    return curves


def curve_figures(curves: Mapping[str, ClassCurves], points: Points) -> dict[str, "Figure"]:
    """Draw the curves of all classes, with the operating points on the ROC curves.

    Args:
        curves: Output of :func:`class_curves`.
        points: Operating points of the calibrator of the run.

    Returns:
        Figures by the name of their file; none without curves.
    """
    from lmf_jax.evaluation.operating.figures import (
        draw_decision_curves,
        draw_precision_recall_curves,
        draw_roc_curves,
    )

    if not curves:
        return {}
    marks: dict[str, list[tuple[float, float]]] = {}
    for point in points.values():
        rates = point["rates"]
        if rates["sensitivity"] and rates["specificity"]:
            mark = 1 - rates["specificity"]["value"], rates["sensitivity"]["value"]
            marks.setdefault(point["class"], []).append(mark)
    return {
        "roc": draw_roc_curves({name: found.roc for name, found in curves.items()}, marks),
        "precision_recall": draw_precision_recall_curves(
            {name: found.precision_recall for name, found in curves.items()}
        ),
        "decision_curve": draw_decision_curves(
            {name: found.decision for name, found in curves.items()}
        ),
    }


def current_points(points: Points, calibrator: UsedCalibrator) -> Points:
    """Return the operating points that were made with this calibrator."""
    return {name: point for name, point in points.items() if fits_calibrator(point, calibrator)}


def operating_section(
    points: Points, calibrator: UsedCalibrator, curves: Mapping[str, Any], num_classes: int
) -> dict[str, Any]:
    """Return the variables of ``section.html.j2``.

    Args:
        points: The operating points of a run.
        calibrator: The calibrator of the run.
        curves: The curves that are drawn, by class or label.
        num_classes: Number of classes or labels of the run.
    """
    current = current_points(points, calibrator)
    return {
        "rows": [
            {
                "name": name,
                "class": class_label(point),
                "target": describe_target(point),
                "threshold": format_threshold(point["threshold"]),
                "guarantee": guarantee(point),
                "guaranteed": point["guaranteed"],
                "rates": {key: _cell(estimate) for key, estimate in point["rates"].items()},
            }
            for name, point in current.items()
        ],
        "outdated": [name for name in points if name not in current],
        "shown": len(curves),
        "num_classes": num_classes,
    }


def _cell(estimate: Mapping[str, float] | None) -> dict[str, Any]:
    if estimate is None:
        return {"value": None, "interval": None}
    return {"value": estimate["value"], "interval": [estimate["low"], estimate["high"]]}
