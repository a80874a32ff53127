"""Coverage and size of prediction sets on test images, by independent units.

Every lesion or patient counts once, however many images it has: the promise of the thresholds is
for an image drawn from a new unit, see :mod:`lmf_jax.evaluation.conformal.thresholds`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy import special

from lmf_jax.evaluation.conformal.thresholds import unit_shares
from lmf_jax.evaluation.resampling import LEVEL, Groups, unit_codes


@dataclass(frozen=True)
class SetCoverage:
    """Coverage and size of the sets of some images; each unit has the weight 1.

    Attributes:
        units: Number of independent units.
        images: Number of images.
        coverage: Fraction of the images whose set contains the class; None without images.
        interval: Its 95 % interval; None without images.
        size: Mean number of classes in a set; None without images.
        singletons: Fraction of the sets with exactly one class; None without images.
        empty: Fraction of the sets without a class; None without images.
    """

    units: int
    images: int
    coverage: float | None = None
    interval: tuple[float, float] | None = None
    size: float | None = None
    singletons: float | None = None
    empty: float | None = None


def measure_sets(
    sets: Bool[np.ndarray, "n classes"],
    is_class: Bool[np.ndarray, "n classes"],
    groups: Groups | None = None,
) -> tuple[list[SetCoverage], SetCoverage]:
    """Measure the sets of test images, by true class and all together.

    Args:
        sets: Whether the set of each image contains each class ``[n, C]``.
        is_class: Whether each image has each class ``[n, C]``.
        groups: Lesion or patient of each image, see :func:`lmf_jax.evaluation.resampling.resample`.

    Returns:
        The coverage of each class by class id, over the images that have it; and that of all pairs
        of an image and a class that it has.
    """
    sizes = sets.sum(axis=1)
    classes = [
        class_coverage(column, contained, sizes, groups)
        for column, contained in zip(is_class.T, sets.T, strict=True)
    ]
    image, _ = np.nonzero(is_class)
    codes = unit_codes(len(sets), groups)[image]
    return classes, _coverage(sets[is_class], sizes[image], codes, len(np.unique(image)))


def class_coverage(
    is_class: Bool[np.ndarray, " n"],
    contained: Bool[np.ndarray, " n"],
    sizes: Int[np.ndarray, " n"],
    groups: Groups | None = None,
) -> SetCoverage:
    """Measure the sets of the images of one class.

    Args:
        is_class: Whether each image has the class ``[n]``.
        contained: Whether its set contains the class ``[n]``.
        sizes: Number of classes in its set ``[n]``.
        groups: Lesion or patient of each image, see :func:`measure_sets`.
    """
    codes = unit_codes(len(is_class), groups)[is_class]
    return _coverage(contained[is_class], sizes[is_class], codes, int(is_class.sum()))


def unit_interval(covered: float | int, units: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a fraction that is a mean over independent units.

    A unit may be covered in part, so the number of covered units is not an integer; the quantiles
    of the beta distribution are then taken at that number. This is conservative: a value in [0, 1]
    varies at most as much as one of 0 and 1 with the same mean.

    Args:
        covered: Sum of the covered fractions of the units, in [0, units].
        units: Number of units, at least 1.
        level: Nominal coverage of the interval, in (0, 1).

    Returns:
        The ends, in [0, 1]; the interval contains ``covered / units``.
    """
    tail = (1 - level) / 2
    missed = units - covered
    low = special.betaincinv(covered, missed + 1, tail) if covered > 0 else 0.0
    high = special.betaincinv(covered + 1, missed, 1 - tail) if missed > 0 else 1.0
    rate = covered / units
    return min(float(low), rate), max(float(high), rate)


def _coverage(
    contained: Bool[np.ndarray, " pairs"],
    sizes: Int[np.ndarray, " pairs"],
    codes: Int[np.ndarray, " pairs"],
    images: int,
) -> SetCoverage:
    units = len(np.unique(codes))
    if units == 0:
        return SetCoverage(0, 0)
    # Sums of thirds and sevenths are rounded, so that a unit covered in full counts as exactly 1.
    shares = unit_shares(codes)
    covered = min(round(float(shares @ contained), 9), float(units))
    return SetCoverage(
        units=units,
        images=images,
        coverage=covered / units,
        interval=unit_interval(covered, units),
        size=float(shares @ sizes) / units,
        singletons=min(float(shares @ (sizes == 1)) / units, 1.0),
        empty=min(float(shares @ (sizes == 0)) / units, 1.0),
    )
