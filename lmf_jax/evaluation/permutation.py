"""Paired permutation tests of the difference between two models.

Under the null hypothesis, the predictions of the two models on an image, or on all images of a
lesion or patient, are exchangeable. The test exchanges them in all combinations, or in 10,000
random ones, and counts how often the difference is as large as the observed one. Its size is exact
for any number of images (Fisher 1935; Edgington and Onghena 2007).
"""

from collections.abc import Iterator
from math import lcm

import numpy as np
from jaxtyping import Float, Integer

from lmf_jax.evaluation.resampling import Groups, unit_codes

NUM_PERMUTATIONS = 10_000
SMALLEST_UNITS = 6
"""Minimum number of differing units for a two-sided p-value below 0.05."""

_CHUNK_ELEMENTS = 2**24
"""Maximum number of signs that are drawn at once: 128 MB in float64."""


def paired_test(
    labels: Integer[np.ndarray, " n"],
    predictions_a: Integer[np.ndarray, " n"],
    predictions_b: Integer[np.ndarray, " n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
    seed: int = 0,
) -> float:
    """Test whether two models have the same macro F1 on the same images.

    Args:
        labels: Class ids ``[n]``.
        predictions_a: Predicted class ids of the first model ``[n]``.
        predictions_b: Predicted class ids of the second model ``[n]``.
        num_classes: Number of classes ``C`` of the dataset.
        groups: Name of the lesion or patient of each image ``[n]``, whose predictions are exchanged
            together; "" for images without one. None if all images are independent.
        seed: Seed of the random exchanges.

    Returns:
        The two-sided p-value, in (0, 1]. It cannot be below 0.05 if the models differ in fewer than
        six units.

    Example:
        >>> import numpy as np
        >>> labels = np.repeat([0, 1], 10)
        >>> paired_test(labels, labels, 1 - labels, num_classes=2) < 0.001
        True
    """
    return macro_f1_test(
        labels,
        predictions_a[None],
        predictions_b[None],
        num_classes=num_classes,
        groups=groups,
        seed=seed,
    )


def macro_f1_test(
    labels: Integer[np.ndarray, " n"],
    first: Integer[np.ndarray, "first n"],
    second: Integer[np.ndarray, "second n"],
    *,
    num_classes: int,
    groups: Groups | None = None,
    seed: int = 0,
) -> float:
    """Test whether two sets of seeds have the same mean macro F1.

    The runs of the two sets are exchanged pair by pair; sets of unequal size are repeated up to
    their least common multiple.

    Args:
        labels: Class ids ``[n]``.
        first: Predicted class ids, a row for each seed ``[S, n]``.
        second: Predicted class ids of the other model ``[T, n]``.
        num_classes: Number of classes ``C`` of the dataset.
        groups: Lesion or patient of each image, see :func:`paired_test`.
        seed: Seed of the random exchanges.

    Returns:
        The two-sided p-value, in (0, 1].
    """
    repeats = lcm(len(first), len(second))
    first, second = (np.tile(side, (repeats // len(side), 1)) for side in (first, second))
    units = np.unique(unit_codes(len(labels), groups), return_inverse=True)[1]
    differing = np.unique(units[(first != second).any(axis=0)])
    support = np.bincount(labels.astype(int), minlength=num_classes)
    tables = [
        tuple(_hits_and_predictions(labels, row, units, num_classes) for row in pair)
        for pair in zip(first, second, strict=True)
    ]

    moves = np.stack([(b - a)[differing] for a, b in tables], axis=1)
    if len(differing):  # Sorting makes the result independent of the order of the images.
        moves = moves[np.lexsort(moves.reshape(len(moves), -1).T)]

    def difference(exchanged: Float[np.ndarray, "draws differing"]) -> Float[np.ndarray, " draws"]:
        total = np.zeros(len(exchanged))
        for number, (a, b) in enumerate(tables):
            moved = np.tensordot(exchanged, moves[:, number], axes=1)
            total += _macro_f1(a.sum(axis=0) + moved, support)
            total -= _macro_f1(b.sum(axis=0) - moved, support)
        return total / repeats

    observed = difference(np.zeros((1, len(differing))))
    num_as_large, num_draws = 0, 0
    for exchanged in exchanges(len(differing), seed):
        # The tolerance covers the rounding of equal differences.
        num_as_large += int((abs(difference(exchanged)) >= abs(observed) - 1e-9).sum())
        num_draws += len(exchanged)
    return num_as_large / num_draws


def mean_test(
    differences: Float[np.ndarray, " n"], *, groups: Groups | None = None, seed: int = 0
) -> float:
    """Test whether the mean of paired differences is 0, by flipping their signs.

    Args:
        differences: Difference of two models on each case ``[n]``.
        groups: Lesion or patient of each case, whose signs are flipped together; None if all cases
            are independent.
        seed: Seed of the random flips.

    Returns:
        The two-sided p-value, in (0, 1]. It cannot be below 0.05 with fewer than six units that
        differ.
    """
    units = np.unique(unit_codes(len(differences), groups), return_inverse=True)[1]
    sums = np.bincount(units, differences)
    sums = np.sort(sums[sums != 0])  # Independent of the order of the cases.
    tolerance = 1e-9 * abs(sums).sum()
    num_as_large, num_draws = 0, 0
    for exchanged in exchanges(len(sums), seed):
        num_as_large += int((abs((1 - 2 * exchanged) @ sums) >= abs(sums.sum()) - tolerance).sum())
        num_draws += len(exchanged)
    return num_as_large / num_draws


def exchanges(num_units: int, seed: int) -> Iterator[Float[np.ndarray, "draws {num_units}"]]:
    """Yield which units to exchange (1) or keep (0): all combinations, or random ones.

    The first combination keeps all, so that a p-value is never 0 (Phipson and Smyth 2010).
    """
    if 2**num_units <= NUM_PERMUTATIONS:
        yield (np.arange(2**num_units)[:, None] >> np.arange(num_units) & 1).astype(float)
        return
    yield np.zeros((1, num_units))
    rng = np.random.default_rng(seed)
    remaining, chunk = NUM_PERMUTATIONS - 1, max(1, _CHUNK_ELEMENTS // num_units)
    while remaining:
        size = min(chunk, remaining)
        yield rng.integers(2, size=(size, num_units), dtype=np.int8).astype(float)
        remaining -= size


def _hits_and_predictions(
    labels: Integer[np.ndarray, " n"],
    predictions: Integer[np.ndarray, " n"],
    units: Integer[np.ndarray, " n"],
    num_classes: int,
) -> Float[np.ndarray, "units 2 {num_classes}"]:
    """Count the correct predictions and all predictions of each unit by predicted class."""
    cells = units * num_classes + predictions
    size = (int(units.max()) + 1) * num_classes
    hits = np.bincount(cells, labels == predictions, minlength=size)
    counts = np.bincount(cells, minlength=size)
    return np.stack([hits, counts], axis=-1).reshape(-1, num_classes, 2).swapaxes(1, 2)


def _macro_f1(
    counts: Float[np.ndarray, "draws 2 classes"], support: Integer[np.ndarray, " classes"]
) -> Float[np.ndarray, " draws"]:
    hits, predicted = counts[:, 0], counts[:, 1]
    denominator = support + predicted
    return (2 * hits / np.where(denominator > 0, denominator, 1)).mean(axis=1)
