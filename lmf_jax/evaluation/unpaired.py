"""Permutation test of the difference between a subgroup and the rest of a test part.

The images of a subgroup and of the rest are different, so nothing pairs them. Under the null
hypothesis, it does not matter which lesions or patients of a class belong to the subgroup. The test
reassigns them at random, class by class, so that another mix of classes is no difference
(Edgington and Onghena 2007, Randomization Tests, chapter 4).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Shaped

from lmf_jax.evaluation.permutation import NUM_PERMUTATIONS
from lmf_jax.evaluation.resampling import Groups, unit_codes

_CHUNK_ELEMENTS = 2**22
"""Maximum number of random keys that are drawn at once: 32 MB in float64."""

_FEW_KINDS = 50
"""With fewer kinds of units, NumPy draws the count of each kind; else it shuffles the units."""

Kind = tuple[tuple[int, float], ...]
"""Sorted class and score of each image of a unit."""


class UnpairedDifference(NamedTuple):
    """Difference of two sets of images, and the two-sided p-value; None if no class is in both."""

    difference: float | None
    p_value: float | None


def unpaired_test(
    scores: Shaped[np.ndarray, " n"],
    in_subgroup: Bool[np.ndarray, " n"],
    labels: Integer[np.ndarray, " n"],
    *,
    groups: Groups | None = None,
    num_permutations: int = NUM_PERMUTATIONS,
    seed: int = 0,
) -> UnpairedDifference:
    """Test whether a subgroup has other scores than the rest.

    The statistic is the mean over the classes of the difference of the mean score; classes that
    only one side has are left out. With correct predictions as the scores it is a difference in
    macro recall, and with a single class one of the mean score.

    Units (images, lesions or patients) with all images on one side are exchanged with units of
    their rarest class. Of units with images on both sides, such as patients with a left and a right
    eye, the images of one class are exchanged within the unit.

    Args:
        scores: Score of each image ``[n]``, such as whether its prediction is correct.
        in_subgroup: Whether it is in the subgroup ``[n]``.
        labels: Its class id ``[n]``; zeros if scores of all images are compared.
        groups: Lesion or patient of each image; None if all images are independent.
        num_permutations: Number of random assignments.
        seed: Seed of the assignments.

    Returns:
        Mean of the subgroup minus that of the rest, and the p-value, in (0, 1].
    """
    labels, num_classes = _rarest_first(labels)
    scores = scores.astype(float)
    totals = _sums(labels, scores, num_classes)
    observed, is_defined = _differences(_sums(labels, scores, num_classes, in_subgroup), totals)
    if not is_defined:
        return UnpairedDifference(None, None)
    unit_of = np.unique(unit_codes(len(labels), groups), return_inverse=True)[1]
    num_inside = np.bincount(unit_of, in_subgroup).astype(int)
    is_mixed = ((num_inside > 0) & (num_inside < np.bincount(unit_of)))[unit_of]
    rng = np.random.default_rng(seed)
    inside = np.zeros((num_permutations, 2, num_classes))
    whole = ~is_mixed
    if whole.any():
        inside += _exchange_units(
            _kinds(labels[whole], scores[whole], unit_of[whole]),
            _kinds(*(values[whole & in_subgroup] for values in (labels, scores, unit_of))),
            num_classes,
            num_permutations,
            rng,
        )
    if is_mixed.any():
        inside += _exchange_within_units(
            labels[is_mixed],
            scores[is_mixed],
            unit_of[is_mixed],
            in_subgroup[is_mixed],
            num_classes,
            num_permutations,
            rng,
        )
    drawn, _ = _differences(inside, totals)
    # The tolerance covers the rounding of equal differences.
    as_large = int((abs(drawn) >= abs(observed) - 1e-9).sum())
    # The observed assignment is one of them, so that p is never 0 (Phipson and Smyth 2010).
    return UnpairedDifference(float(observed), (as_large + 1) / (num_permutations + 1))


def _rarest_first(labels: Integer[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """Return class numbers in the order of the class sizes, and the number of classes."""
    present, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.argsort(np.argsort(counts, kind="stable"))
    return rank[labels], len(present)


def _sums(
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    num_classes: int,
    where: Bool[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, "2 {num_classes}"]:
    """Return the number of images and the sum of the scores of each class."""
    weights = np.ones(len(labels)) if where is None else where.astype(float)
    counts = np.bincount(labels, weights, num_classes)
    return np.stack([counts, np.bincount(labels, weights * scores, num_classes)])


def _differences(
    inside: Float[np.ndarray, "*draws 2 classes"], totals: Float[np.ndarray, "2 classes"]
) -> tuple[Float[np.ndarray, "*draws"], bool]:
    """Return the mean difference over the classes of both sides, and whether there is one."""
    outside = totals - inside
    in_both = (inside[..., 0, :] > 0) & (outside[..., 0, :] > 0)
    first, second = (side[..., 1, :] / side[..., 0, :].clip(min=1) for side in (inside, outside))
    number = in_both.sum(axis=-1)
    differences = np.where(in_both, first - second, 0).sum(axis=-1) / number.clip(min=1)
    return np.asarray(differences), bool(np.any(number > 0))


def _kinds(
    labels: Int[np.ndarray, " n"], scores: Float[np.ndarray, " n"], unit_of: Int[np.ndarray, " n"]
) -> Counter[Kind]:
    """Count the units with equal classes and scores."""
    images: dict[int, list[tuple[int, float]]] = {}
    columns = (labels.tolist(), scores.tolist(), unit_of.tolist())
    for label, score, unit in zip(*columns, strict=True):
        images.setdefault(unit, []).append((label, score))
    return Counter(tuple(sorted(of_unit)) for of_unit in images.values())


def _exchange_units(
    units: Counter[Kind],
    inside: Counter[Kind],
    num_classes: int,
    num_permutations: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draws 2 classes"]:
    """Return the sums of the subgroup with other units of the same rarest class in it."""
    sums = np.zeros((num_permutations, 2, num_classes))
    for kinds in _by_rarest_class(units):
        size = sum(inside[kind] for kind in kinds)
        if not size:
            continue
        table = np.zeros((len(kinds), 2, num_classes))
        for row, kind in enumerate(kinds):
            for label, score in kind:
                table[row, :, label] += 1, score
        drawn = rng.multivariate_hypergeometric(
            [units[kind] for kind in kinds],
            size,
            size=num_permutations,
            method="marginals" if len(kinds) < _FEW_KINDS else "count",
        )
        sums += np.tensordot(drawn, table, axes=1)
    return sums


def _by_rarest_class(units: Counter[Kind]) -> Iterator[Sequence[Kind]]:
    strata: dict[int, list[Kind]] = {}
    for kind in sorted(units):  # independent of the order of the images
        strata.setdefault(kind[0][0], []).append(kind)
    yield from strata.values()


def _exchange_within_units(
    labels: Int[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    unit_of: Int[np.ndarray, " n"],
    in_subgroup: Bool[np.ndarray, " n"],
    num_classes: int,
    num_permutations: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, "draws 2 classes"]:
    """Return the sums of the subgroup with other images of the same unit and class in it."""
    order = np.lexsort((in_subgroup, scores, labels, unit_of))
    labels, scores, in_subgroup = labels[order], scores[order], in_subgroup[order]
    cell_of = np.unique(unit_of[order] * num_classes + labels, return_inverse=True)[1]
    of_class = labels[:, None] == np.arange(num_classes)
    sums = np.zeros((num_permutations, 2, num_classes))
    sums[:, 0] = of_class[in_subgroup].sum(axis=0)  # the same in every assignment
    chunk = max(1, _CHUNK_ELEMENTS // len(labels))
    for start in range(0, num_permutations, chunk):
        rows = min(chunk, num_permutations - start)
        # Sorting random keys within a cell shuffles its scores among its places.
        keys = cell_of + rng.random((rows, len(labels)))
        shuffled = scores[np.argsort(keys, axis=1)]
        sums[start : start + rows, 1] = shuffled[:, in_subgroup] @ of_class[in_subgroup]
    return sums
