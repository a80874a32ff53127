"""Credible intervals of the metrics of a confusion matrix, for small test sets.

The percentile bootstrap is too narrow for a class with few images: if three of three predictions
are correct, every resample has recall 1. Here, to draw one confusion matrix, every image, or every
lesion or patient with all its images, gets a Gamma(1) weight (the Bayesian bootstrap, Rubin 1981),
and pseudo-images are added to each class. Without groups, each row of a drawn matrix follows the
exact posterior: the recall of a class is Beta(right + prior.right, wrong + prior.wrong), and its
errors are Dirichlet over the other classes.

No single prior gives good coverage for both accurate and inaccurate classifiers. Therefore the ends
of an interval have separate priors, as in the Clopper-Pearson interval: :data:`PESSIMISTIC` for the
lower end and :data:`OPTIMISTIC` for the upper end. They were chosen by the coverage that ``python
-m benchmarks.coverage`` measures.
"""

from collections import Counter
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Integer

from lmf_jax.evaluation.classification.metrics import ClassificationMetrics, classification_metrics
from lmf_jax.evaluation.resampling import LEVEL, Groups, percentile_interval, unit_codes

NUM_DRAWS = 2000


class Prior(NamedTuple):
    """Pseudo-images that are added to each class.

    Attributes:
        right: Number of correctly predicted pseudo-images.
        wrong: Number of wrongly predicted ones.
        errors: Number of pseudo-images that spread the wrong predictions over the other classes, in
            proportion to how often each class is predicted.
    """

    right: float
    wrong: float
    errors: float


PESSIMISTIC = Prior(right=0.5, wrong=0.75, errors=1.0)
OPTIMISTIC = Prior(right=1.0, wrong=0.1, errors=1.0)
NEUTRAL = Prior(right=0.75, wrong=0.5, errors=1.0)


class UnitTable(NamedTuple):
    """Independent units (images, lesions or patients) by their confusion matrices.

    Units with equal matrices share one row, so that a test of a million independent images has at
    most ``C * C`` rows.

    Attributes:
        cells: Confusion matrices of a unit, one per model.
        repeats: Number of units with these matrices.
        unit_size: Mean number of images of each class in the units that contain the class; 1 for an
            absent class.
    """

    cells: Int[np.ndarray, "rows models classes classes"]
    repeats: Int[np.ndarray, " rows"]
    unit_size: Float[np.ndarray, " classes"]


def macro_f1_interval(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, " n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float]:
    """Compute an interval of the macro F1 with nominal coverage on small test sets.

    The interval is for the macro F1 of the confusion matrix that is expected with as many images
    per class as this test set has. It covers the choice of test images but not the randomness of
    training.

    Args:
        labels: Class ids ``[n]``.
        predictions: Predicted class ids ``[n]``.
        num_classes: Number of classes ``C`` of the dataset.
        groups: Name of the lesion or patient of each image ``[n]``; "" for images without one. None
            if all images are independent.
        level: Nominal coverage, in (0, 1).
        seed: Seed of the random draws.

    Returns:
        The ends, in [0, 1]; the interval contains the observed macro F1.

    Raises:
        ValueError: If there is no image, or a label or prediction is outside ``[0, C)``.

    Example:
        >>> import numpy as np
        >>> labels = np.array([0] * 16 + [1] * 4)
        >>> low, high = macro_f1_interval(labels, labels, num_classes=2)
        >>> 0.6 < low < 0.9, high
        (True, 1.0)
    """
    ends = metric_intervals(
        labels, predictions, num_classes=num_classes, groups=groups, level=level, seed=seed
    )
    low, high = np.asarray(ends.macro_f1)
    return float(low), float(high)


def metric_intervals(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, " n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> ClassificationMetrics:
    """Compute the intervals of all metrics of a confusion matrix.

    Args:
        labels: Class ids ``[n]``.
        predictions: Predicted class ids ``[n]``.
        num_classes: Number of classes ``C`` of the dataset.
        groups: Lesion or patient of each image, see :func:`macro_f1_interval`.
        level: Nominal coverage, in (0, 1).
        seed: Seed of the random draws.

    Returns:
        The metrics with a leading axis of low and high; each interval contains the observed value.

    Raises:
        ValueError: See :func:`macro_f1_interval`.
    """
    table = unit_table(labels, predictions[None], num_classes=num_classes, groups=groups)
    confusion = np.tensordot(table.repeats, table.cells[:, 0], axes=1)
    observed = classification_metrics(confusion)
    rng = np.random.default_rng(seed)
    weighted = draw_cells(table, rng)[:, 0]
    pessimistic, optimistic = (
        classification_metrics(draw_confusions(weighted, confusion, table.unit_size, prior, rng))
        for prior in (PESSIMISTIC, OPTIMISTIC)
    )
    return ClassificationMetrics(
        *(
            np.stack(
                [
                    np.minimum(percentile_interval(np.asarray(low), level=level)[0], value),
                    np.maximum(percentile_interval(np.asarray(high), level=level)[1], value),
                ]
            )
            for low, high, value in zip(pessimistic, optimistic, observed, strict=True)
        )
    )


def metric_difference(
    labels: Integer[np.ndarray, " n"],
    first: Integer[np.ndarray, "first n"],
    second: Integer[np.ndarray, "second n"],
    *,
    num_classes: int,
    metric: Literal["macro_f1", "balanced_accuracy"] = "macro_f1",
    groups: Groups | None = None,
    level: float = LEVEL,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Compute the difference in a metric of two models on the same images, with its interval.

    Both models share the draws of the images, so that the difficulty of an image for both cancels.
    Several seeds enter by their mean.

    Args:
        labels: Class ids ``[n]``.
        first: Predicted class ids, a row for each seed ``[S, n]``.
        second: Predicted class ids of the other model ``[T, n]``.
        num_classes: Number of classes ``C`` of the dataset.
        metric: The metric.
        groups: Lesion or patient of each image, see :func:`macro_f1_interval`.
        level: Nominal coverage, in (0, 1).
        seed: Seed of the random draws.

    Returns:
        First minus second and the two ends of its interval, in [-1, 1]; the interval contains the
        difference.

    Raises:
        ValueError: See :func:`macro_f1_interval`.
    """
    predictions = np.concatenate([first, second])
    table = unit_table(labels, predictions, num_classes=num_classes, groups=groups)
    confusions = np.tensordot(table.repeats, table.cells, axes=1)
    rng = np.random.default_rng(seed)
    weighted = draw_cells(table, rng)
    scores = np.stack(
        [
            getattr(
                classification_metrics(
                    draw_confusions(weighted[:, model], confusion, table.unit_size, NEUTRAL, rng)
                ),
                metric,
            )
            for model, confusion in enumerate(confusions)
        ],
        axis=-1,
    )
    observed = np.asarray(getattr(classification_metrics(confusions), metric))
    n = len(first)
    samples = scores[:, :n].mean(axis=1) - scores[:, n:].mean(axis=1)
    difference = float(observed[:n].mean() - observed[n:].mean())
    low, high = percentile_interval(samples, level=level)
    return difference, min(float(low), difference), max(float(high), difference)


def unit_table(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, "models n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
) -> UnitTable:
    """Compute the confusion matrices of every unit.

    Args:
        labels: Class ids ``[n]``.
        predictions: Predicted class ids of each model ``[M, n]``.
        num_classes: Number of classes ``C`` of the dataset.
        groups: Lesion or patient of each image, see :func:`macro_f1_interval`.

    Raises:
        ValueError: If there is no image, or a label or prediction is outside ``[0, C)``.
    """
    _check_ids("labels", labels, num_classes)
    _check_ids("predictions", predictions, num_classes)
    cells = labels.astype(int) * num_classes + predictions  # Narrow integers would overflow.
    unit_of = np.unique(unit_codes(len(labels), groups), return_inverse=True)[1]
    kinds, repeats = _count_kinds(cells, unit_of)
    table = np.zeros((len(kinds), len(predictions), num_classes**2), int)
    for row, kind in enumerate(kinds):
        for image in kind:
            for model, cell in enumerate(image):
                table[row, model, cell] += 1
    in_class = np.unique(unit_of * num_classes + labels.astype(int)) % num_classes
    units_of_class = np.bincount(in_class, minlength=num_classes)
    images_of_class = np.bincount(labels.astype(int), minlength=num_classes)
    return UnitTable(
        cells=table.reshape(len(kinds), len(predictions), num_classes, num_classes),
        repeats=repeats,
        unit_size=np.where(images_of_class > 0, images_of_class / units_of_class.clip(min=1), 1.0),
    )


def _count_kinds(
    cells: Int[np.ndarray, "models n"], unit_of: Int[np.ndarray, " n"]
) -> tuple[list[tuple[tuple[int, ...], ...]], Int[np.ndarray, " kinds"]]:
    """Count the units with equal cells.

    Returns:
        The kinds of units, sorted to be independent of the order of the images, as one tuple of
        cells (one per model) per image; and the number of units of each kind.
    """
    if unit_of.max() + 1 == len(unit_of):  # Every image is a unit.
        columns, repeats = np.unique(cells, axis=1, return_counts=True)
        return [(tuple(column),) for column in columns.T.tolist()], repeats
    order = np.argsort(unit_of, kind="stable")
    starts = np.searchsorted(unit_of[order], np.arange(1, unit_of.max() + 1))
    counts = Counter(
        tuple(sorted(map(tuple, cells[:, rows].T.tolist()))) for rows in np.split(order, starts)
    )
    kinds = sorted(counts)
    return kinds, np.array([counts[kind] for kind in kinds])


def draw_cells(
    table: UnitTable, rng: np.random.Generator, *, num_draws: int = NUM_DRAWS
) -> Float[np.ndarray, "{num_draws} models classes classes"]:
    """Draw confusion matrices whose units have Gamma(1) weights, the same for all models.

    Args:
        table: Output of :func:`unit_table`.
        rng: Random number generator.
        num_draws: Number of draws ``R``.

    Returns:
        Weighted confusion matrices ``[R, M, C, C]``.
    """
    # The sum of k Gamma(1) weights is Gamma(k).
    weights = rng.gamma(table.repeats, size=(num_draws, len(table.repeats)))
    sums = weights @ table.cells.reshape(len(table.cells), -1).astype(float)
    return sums.reshape(num_draws, *table.cells.shape[1:])


def draw_confusions(
    weighted: Float[np.ndarray, "draws classes classes"],
    confusion: Integer[np.ndarray, "classes classes"],
    unit_size: Float[np.ndarray, " classes"],
    prior: Prior,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draws classes classes"]:
    """Add the pseudo-images of a prior, and rescale each row to the class count of the test set.

    Args:
        weighted: Draws of one model, from :func:`draw_cells`.
        confusion: The observed counts ``[C, C]``.
        unit_size: Number of images ``[C]`` that a pseudo-image of each class counts for: a prior
            observation is a whole unit.
        prior: The pseudo-images.
        rng: Random number generator.

    Returns:
        Draws of the expected confusion matrix ``[R, C, C]`` with the row sums of ``confusion``.
    """
    num_draws, num_classes = weighted.shape[:2]
    diagonal = np.eye(num_classes, dtype=bool)
    by_class = (num_draws, num_classes)
    right = weighted[:, diagonal]
    wrong = weighted.sum(axis=-1) - right
    right = right + unit_size * rng.gamma(prior.right, size=by_class)
    wrong = wrong.clip(min=0) + unit_size * rng.gamma(prior.wrong, size=by_class)
    recall = right / (right + wrong)

    spread = np.where(diagonal, 0.0, confusion.sum(axis=0))
    spread = np.where(spread.sum(axis=1, keepdims=True) > 0, spread, ~diagonal)
    spread = spread / spread.sum(axis=1, keepdims=True).clip(min=1)
    errors = np.where(diagonal, 0.0, weighted)
    errors += unit_size[:, None] * rng.gamma(prior.errors * spread, size=weighted.shape)
    totals = errors.sum(axis=-1, keepdims=True)
    # Gamma variables of tiny shape can underflow to 0 in all cells; use the prior's mean instead.
    errors = np.where(totals > 0, errors / np.where(totals > 0, totals, 1), spread)
    rates = errors * (1 - recall)[..., None]
    rates[:, diagonal] = recall
    return rates * confusion.sum(axis=1)[:, None]


def _check_ids(name: str, ids: Integer[np.ndarray, "..."], num_classes: int) -> None:
    if ids.size == 0:
        raise ValueError(f"There are no {name}; expected at least one image.")
    if ids.min() < 0 or ids.max() >= num_classes:
        raise ValueError(
            f"The {name} run from {ids.min()} to {ids.max()}; expected class ids from 0 to "
            f"{num_classes - 1}."
        )
