"""Stratified split of the paper, and long-tailed subsampling."""

import numpy as np
from jaxtyping import Int, Int64

from data.labels import PARTS, Rows

# Each use of a seed draws from a separate stream, so that no two are correlated.
_PAPER_SPLIT_STREAM = 0
_LONG_TAIL_STREAM = 1


def paper_split(labels: Int[np.ndarray, " n"], seed: int) -> Rows:
    """Split each class 70 : 15 : 15 at random, as in the tables of the paper.

    Of a class with n images, round(0.15 n) are for validation, as many for test, and the others for
    training. The rule reproduces every class count in Tables 1 and 5. A half is rounded up; the
    tables leave this open, since no class of the paper has such an n (10, 30, 50, ...). A class
    with fewer than four images is in training alone.

    Several images of one patient or lesion can be in different parts.

    Args:
        labels: Class of every row, [n].
        seed: Seed of the split; any whole number from 0.

    Returns:
        The sorted row numbers of "train", "validation" and "test".

    Raises:
        ValueError: If the seed is negative.

    Reference:
        Sadi et al., LMFLoss: a hybrid loss for imbalanced medical image classification, 2022,
        arXiv:2212.12741.
    """
    parts: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    for label in np.unique(labels):
        rows = _shuffled(np.flatnonzero(labels == label), seed, _PAPER_SPLIT_STREAM, int(label))
        held_out = (15 * len(rows) + 50) // 100  # in integers, so that all machines round alike
        parts["validation"].append(rows[:held_out])
        parts["test"].append(rows[held_out : 2 * held_out])
        parts["train"].append(rows[2 * held_out :])
    return {part: _sorted_rows(pieces) for part, pieces in parts.items()}


def long_tail(
    rows: Int64[np.ndarray, " m"],
    labels: Int[np.ndarray, " n"],
    imbalance_ratio: float,
    seed: int,
) -> Int64[np.ndarray, " _"]:
    """Subsample rows to a long tail: class sizes decrease exponentially with the class id.

    Class k of K keeps n_max * imbalance_ratio ** (-k / (K - 1)) of its rows, rounded, where n_max
    is the size of the largest class among the rows; at least one, and at most all of them.
    With the same seed, the rows kept at a larger ratio are among those kept at a smaller one.

    Args:
        rows: Row numbers to subsample, [m].
        labels: Class of every row of the dataset, [n], with ids 0 to K - 1.
        imbalance_ratio: Size of class 0 over size of class K - 1, from 1.
        seed: Seed of the selection; any whole number from 0.

    Returns:
        The kept row numbers, sorted.

    Raises:
        ValueError: If the ratio is below 1 or not finite, or the seed is negative.

    Reference:
        Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, 2019,
        arXiv:1906.07413 (the long-tailed CIFAR profile).
    """
    if not 1 <= imbalance_ratio < np.inf:
        raise ValueError(f"imbalance_ratio must be a finite number from 1, got {imbalance_ratio}.")
    num_classes = int(labels.max()) + 1
    counts = np.bincount(labels[rows], minlength=num_classes)
    kept = []
    for label in range(num_classes):
        fraction = imbalance_ratio ** (-label / max(1, num_classes - 1))
        size = max(1, round(int(counts.max()) * fraction))
        of_class = rows[labels[rows] == label]
        kept.append(_shuffled(of_class, seed, _LONG_TAIL_STREAM, label)[:size])
    return _sorted_rows(kept)


def _shuffled(
    rows: Int64[np.ndarray, " n"], seed: int, stream: int, label: int
) -> Int64[np.ndarray, " n"]:
    """Return the rows in a random order that depends only on the three numbers.

    Sorting by raw PCG64 output is stable across NumPy versions; ``Generator.permutation`` does not
    guarantee this.
    """
    if seed < 0:
        raise ValueError(f"A seed must be a whole number from 0, got {seed}.")
    keys = np.random.PCG64([seed, stream, label]).random_raw(len(rows))
    return rows[np.argsort(keys, kind="stable")]


def _sorted_rows(pieces: list[np.ndarray]) -> Int64[np.ndarray, " _"]:
    return np.sort(np.concatenate(pieces)).astype(np.int64)
