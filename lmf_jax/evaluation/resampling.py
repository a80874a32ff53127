"""Bootstrap resamples of test examples, or of the lesions or patients that they belong to.

The bootstrap is stratified: a resample draws from each true class, with replacement, as many
examples as the class has (Efron and Tibshirani 1993, chapters 8 and 13). Thus a rare class is never
absent, and the class counts, which are part of the test's design, are constant.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Key, Num, Shaped
from scipy import special

LEVEL = 0.95
NUM_RESAMPLES = 2000
FEW_UNITS = 10
"""Reports name classes with fewer independent test units than this."""

Groups = Shaped[np.ndarray, " n"]
"""Name of the lesion or patient of each example, unicode; "" for examples without one."""

MAX_ELEMENTS = 2**23
"""Maximum size of the arrays of resamples that are computed at once: 32 MB in float32."""


def resample(
    metrics: Callable[[Any, Float[Array, " n"], int], Any],
    arrays: Any,
    labels: Integer[np.ndarray, " n"],
    num_classes: int,
    *,
    groups: Groups | None = None,
    num_resamples: int,
    seed: int,
) -> Any:
    """Compute metrics on stratified resamples of the examples.

    Examples of one lesion or patient are not independent. With groups, a resample draws whole
    groups with all their examples, stratified by the rarest class of each group.

    Args:
        metrics: Called as ``metrics(arrays, weights, num_classes)`` under ``jit`` and ``vmap``; the
            weights ``[n]`` are the number of times that each example was drawn. Pass a module-level
            function: every new lambda is compiled again.
        arrays: Pytree of arrays that the metrics are computed from.
        labels: Class ids ``[n]``.
        num_classes: Number of classes ``C`` of the dataset.
        groups: Name of the group of each example ``[n]``; "" for examples without one. None if all
            examples are independent.
        num_resamples: Number of resamples ``R``.
        seed: Seed of the resamples.

    Returns:
        The output of ``metrics`` as NumPy arrays with a leading axis ``[R, ...]``.
    """
    # Memory grows with the number of resamples that are computed at once.
    elements = sum(np.size(leaf) for leaf in jax.tree.leaves(arrays))
    num_chunks = -(-num_resamples * elements // MAX_ELEMENTS)
    chunk_size = -(-num_resamples // num_chunks)
    samples = _resample_in_chunks(
        metrics,
        arrays,
        _strata(labels, groups),
        jax.random.key(seed),
        num_classes=num_classes,
        num_chunks=min(num_chunks, num_resamples),
        chunk_size=chunk_size,
    )
    return jax.tree.map(lambda sample: np.asarray(sample)[:num_resamples], samples)


def unit_codes(n: int, groups: Groups | None) -> Int[np.ndarray, " n"]:
    """Return an integer in [0, 2n) for each example, which is equal within a group.

    Args:
        n: Number of examples.
        groups: Group of each example, see :func:`resample`.
    """
    codes = np.arange(n)
    if groups is None:
        return codes
    return np.where(groups == "", codes, n + np.unique(groups, return_inverse=True)[1])


def _strata(
    labels: Integer[np.ndarray, " n"], groups: Groups | None
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " units"], Int[np.ndarray, " units"]]:
    """Return the unit of each example, and the ``start`` and ``stop`` of each unit's stratum.

    The stratum of a unit is the rarest class of its examples. Units are numbered by stratum.
    """
    n = len(labels)
    codes = unit_codes(n, groups)
    labels = labels.astype(int)
    rank = np.argsort(
        np.argsort(np.bincount(labels), kind="stable")
    )  # The rarest class has rank 0.
    stratum = np.full(2 * n, len(rank))
    np.minimum.at(stratum, codes, rank[labels])
    units, unit_of = np.unique(stratum[codes] * (2 * n) + codes, return_inverse=True)
    class_of = units // (2 * n)
    counts = np.bincount(class_of)
    stop = counts.cumsum()[class_of]
    return unit_of, stop - counts[class_of], stop


def percentile_interval(
    samples: Num[np.ndarray, "..."], *, level: float = LEVEL
) -> Float[np.ndarray, "2 ..."]:
    """Return the ends ``[2, ...]`` of the central interval of samples ``[R, ...]``."""
    return np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)


def expanded_level(level: float, num_units: int) -> float:
    """Return the level at which the percentile interval of a mean is as wide as a t-interval.

    The percentile interval of a mean of ``n`` units is too narrow: it uses normal quantiles, and a
    variance that is ``n / (n - 1)`` times too small (Hesterberg 2015, "expanded percentile").

    Args:
        level: Nominal coverage, in (0, 1).
        num_units: Number of units that are drawn.
    """
    if num_units < 2:
        return 1.0
    t = special.stdtrit(num_units - 1, (1 + level) / 2)
    return float(2 * special.ndtr(t * (num_units / (num_units - 1)) ** 0.5) - 1)


def num_units(n: int, groups: Groups | None) -> int:
    """Return the number of independent units; an example without a group is one unit."""
    return len(np.unique(unit_codes(n, groups)))


@partial(jax.jit, static_argnames=("metrics", "num_classes", "num_chunks", "chunk_size"))
def _resample_in_chunks(
    metrics: Callable[[Any, Float[Array, " n"], int], Any],
    arrays: Any,
    strata: tuple[Int[Array, " n"], Int[Array, " units"], Int[Array, " units"]],
    key: Key[Array, ""],
    *,
    num_classes: int,
    num_chunks: int,
    chunk_size: int,
) -> Any:
    def one(number: Int[Array, ""]) -> Any:
        # Folding in the number makes a resample independent of the chunk size.
        weights = _draw_weights(jax.random.fold_in(key, number), *strata)
        return metrics(arrays, weights, num_classes)

    numbers = jnp.arange(num_chunks * chunk_size).reshape(num_chunks, chunk_size)
    samples = jax.lax.map(jax.vmap(one), numbers)
    return jax.tree.map(lambda sample: sample.reshape(-1, *sample.shape[2:]), samples)


def _draw_weights(
    key: Key[Array, ""],
    unit_of: Int[Array, " n"],
    start: Int[Array, " units"],
    stop: Int[Array, " units"],
) -> Float[Array, " n"]:
    """Draw as many units as each stratum has; return how often each example was drawn.

    Args:
        key: Random key.
        unit_of: Unit of each example.
        start: First unit of each unit's stratum.
        stop: End of each unit's stratum.
    """
    drawn = jax.random.randint(key, start.shape, start, stop)
    return jnp.bincount(drawn, length=len(start)).astype(jnp.float32)[unit_of]
