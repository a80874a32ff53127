"""Metrics of a segmented case: counts and overlap of each class, and surface distances.

A class that is absent from both label maps counts as perfect: its overlap is 1 and its distance 0.
For a class in only one of them, the overlap is 0 and the distance is the diagonal of the case, the
largest possible distance.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Integer
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import KDTree

OVERLAP_METRICS = ("dsc", "iou", "precision", "recall")
CASE_METRICS = (*OVERLAP_METRICS, "hd95")
"""Names of the metrics of a case and class in ``test.json``."""

QUANTILE = 0.95


def case_counts(
    labels: Integer[np.ndarray, "*space"],
    prediction: Integer[np.ndarray, "*space"],
    num_classes: int,
) -> Int[np.ndarray, "{num_classes} 3"]:
    """Count true positives, false positives and false negatives of each class.

    Args:
        labels: True class of every pixel or voxel.
        prediction: Predicted class of every pixel or voxel.
        num_classes: Number of classes ``C``.

    Returns:
        True positives, false positives and false negatives of each class, int64 ``[C, 3]``.

    Raises:
        ValueError: If the shapes differ or a value is not a class id.
    """
    _check_class_ids(labels, prediction, num_classes)
    narrow = np.min_scalar_type(num_classes**2 - 1)  # Volumes have up to 50 million voxels.
    cells = labels.astype(narrow).ravel() * narrow.type(num_classes)
    cells += prediction.astype(narrow).ravel()
    confusion = np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)
    true_positives = confusion.diagonal()
    predicted, actual = confusion.sum(axis=0), confusion.sum(axis=1)
    counts = (true_positives, predicted - true_positives, actual - true_positives)
    return np.stack(counts, axis=-1).astype(np.int64)


def overlap_metrics(
    counts: Integer[np.ndarray, "*batch classes 3"],
) -> dict[str, Float[np.ndarray, "*batch classes"]]:
    """Compute the overlap of truth and prediction.

    Args:
        counts: True positives, false positives and false negatives of any number of cases, from
            :func:`case_counts`.

    Returns:
        ``dsc``, the Dice similarity coefficient 2TP / (2TP + FP + FN), ``iou``, TP / (TP + FP +
        FN), ``precision``, TP / (TP + FP), and ``recall``, TP / (TP + FN), float64 in [0, 1]. All
        are 1 for a class in neither truth nor prediction; otherwise 0/0 is 0.
    """
    true_positives, false_positives, false_negatives = np.moveaxis(counts, -1, 0)
    is_absent = (true_positives + false_positives + false_negatives) == 0
    wrong = false_positives + false_negatives
    fractions = {
        "dsc": (2 * true_positives, 2 * true_positives + wrong),
        "iou": (true_positives, true_positives + wrong),
        "precision": (true_positives, true_positives + false_positives),
        "recall": (true_positives, true_positives + false_negatives),
    }
    return {
        name: np.where(is_absent, 1.0, part / np.maximum(whole, 1))
        for name, (part, whole) in fractions.items()
    }


def hausdorff_95(
    labels: Integer[np.ndarray, "*space"],
    prediction: Integer[np.ndarray, "*space"],
    num_classes: int,
    spacing: Sequence[float | int],
) -> Float[np.ndarray, " {num_classes}"]:
    """Compute the 95 % Hausdorff distance of each class between truth and prediction.

    It is the 95th percentile of the distances from each surface element of one object to the
    nearest one of the other, and the larger of the two directions, as in MONAI and Metrics Reloaded
    (Maier-Hein, Reinke et al. 2024, doi:10.1038/s41592-023-02151-z). MedPy pools the distances of
    both directions before taking the percentile; a distant false positive then vanishes in the
    large surface of the true object.

    The surface of an object consists of its pixels or voxels with a face on another class or on the
    edge of the image. Distances are exact, between centers. They are found with a k-d tree: the
    cost of a distance transform grows with the bounding box of both objects, which for the
    background is the whole volume.

    Args:
        labels: True class of every pixel or voxel.
        prediction: Predicted class of every pixel or voxel.
        num_classes: Number of classes ``C``.
        spacing: Size of a pixel or voxel along each axis, in mm, or 1 for distances in pixels.

    Returns:
        Distance of each class in the unit of the spacing, float64 ``[C]``: 0 for a class in neither
        label map, and the diagonal of the image or volume for a class in only one of them.

    Raises:
        ValueError: If the shapes differ, a value is not a class id, or the spacing is invalid.
    """
    _check_class_ids(labels, prediction, num_classes)
    if len(spacing) != labels.ndim or not all(0 < size < math.inf for size in spacing):
        raise ValueError(
            f"spacing is {tuple(spacing)} for label maps of shape {labels.shape}; expected a "
            "positive size for each axis."
        )
    sizes = np.asarray(spacing, float)
    diagonal = float(np.linalg.norm(labels.shape * sizes))
    boxes = [_boxes(values, num_classes) for values in (labels, prediction)]
    distances = np.zeros(num_classes)
    for class_id, (first, second) in enumerate(zip(*boxes, strict=True)):
        if first is None and second is None:
            continue
        if first is None or second is None:
            distances[class_id] = diagonal
            continue
        box = tuple(
            slice(min(a.start, b.start), max(a.stop, b.stop))
            for a, b in zip(first, second, strict=True)
        )
        objects = labels[box] == class_id, prediction[box] == class_id
        distances[class_id] = _distance(*objects, sizes)
    return distances


def _boxes(
    values: Integer[np.ndarray, "*space"], num_classes: int
) -> list[tuple[slice, ...] | None]:
    """Return the bounding box of each class; None for an absent class."""
    return find_objects(values.astype(np.int32) + 1, max_label=num_classes)  # SciPy ignores 0.


def _distance(
    first: Bool[np.ndarray, "*space"],
    second: Bool[np.ndarray, "*space"],
    sizes: Float[np.ndarray, " axes"],
) -> float:
    # Cropping changes no surface: beyond the box, there is the edge of the image or another class.
    a, b = (values & ~binary_erosion(values) for values in (first, second))
    return max(_directed_distance(a, b, sizes), _directed_distance(b, a, sizes))


def _directed_distance(
    source: Bool[np.ndarray, "*space"],
    target: Bool[np.ndarray, "*space"],
    sizes: Float[np.ndarray, " axes"],
) -> float:
    distances = np.zeros(np.count_nonzero(source))
    apart = np.argwhere(source & ~target)  # The distance of all others is 0.
    if len(apart):
        tree = KDTree(np.argwhere(target) * sizes, balanced_tree=False)  # Much faster to build.
        distances[: len(apart)] = tree.query(apart * sizes)[0]
    return float(np.quantile(distances, QUANTILE))


def _check_class_ids(labels: np.ndarray, prediction: np.ndarray, num_classes: int) -> None:
    if labels.shape != prediction.shape or labels.size == 0:
        raise ValueError(
            f"labels have shape {labels.shape} and the prediction {prediction.shape}; expected the "
            "same nonempty shape."
        )
    for name, values in (("labels contain", labels), ("prediction contains", prediction)):
        low, high = values.min(), values.max()
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{name} the value {low if low < 0 else high}; expected class ids from 0 to "
                f"{num_classes - 1}."
            )
