"""Intensities of the user's volumes: z-scores per case, and statistics of CT over cases.

A CT has the same unit in every scanner, so its normalization is one for all cases: the range and
the statistics of the foreground in the training cases. Another modality has no unit and is
normalized case by case. The rules are those of Isensee et al., nnU-Net, Nature Methods 18, 2021.
"""

from functools import partial
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32

from data.volume_spec import VolumeArray

Scheme = Literal["ct", "z-score"]
"""Normalization of a modality: over the training cases, or case by case."""

SAMPLES = 4096
"""Number of values that represent the foreground of a case, so all cases have the same weight."""

PERCENTILES = (0.5, 99.5)
"""Percentiles of the foreground to which a CT is clipped."""


def scheme_of(modality: str) -> Scheme:
    """Return the scheme of a modality by its name in ``dataset.json``: CT, or anything else."""
    return "ct" if modality.casefold() == "ct" else "z-score"


def normalizer(scheme: Scheme, *, is_masked: bool) -> partial[VolumeArray]:
    """Return the function from the values of a modality to its prepared values.

    Args:
        scheme: Scheme of the modality. A CT is prepared as it is and normalized with the
            statistics of the training cases, which depend on the split.
        is_masked: Whether voxels of 0 are outside of the body and stay 0.
    """
    return partial(_unchanged) if scheme == "ct" else partial(_z_score, is_masked=is_masked)


def _unchanged(image: VolumeArray) -> VolumeArray:
    return image


def _z_score(image: VolumeArray, *, is_masked: bool) -> VolumeArray:
    """Scale an image, or its voxels other than 0, to mean 0 and variance 1, in place."""
    inside = image != 0 if is_masked else np.ones(image.shape, bool)
    values = image[inside].astype(np.float64)
    if len(values) and (deviation := values.std()) > 0:
        image[inside] = (values - values.mean()) / deviation
    return image


def foreground_sample(
    image: VolumeArray, foreground: Bool[np.ndarray, "depth height width"]
) -> Float32[np.ndarray, " samples"]:
    """Return equally spaced quantiles of the foreground of a case; empty without foreground.

    Args:
        image: Values of one modality.
        foreground: Whether each voxel has a label other than the background.
    """
    values = np.sort(image[foreground])
    if not len(values):
        return values
    positions = (np.arange(SAMPLES) + 0.5) / SAMPLES * len(values)
    return values[positions.astype(np.int64)]


def intensity_statistics(
    samples: Float32[np.ndarray, "cases samples"],
) -> dict[str, float]:
    """Return the statistics that normalize a CT: ``low``, ``high``, ``mean`` and ``std``.

    Args:
        samples: Result of :func:`foreground_sample` for every training case with foreground.
    """
    values = samples.astype(np.float64)
    low, high = np.percentile(values, PERCENTILES).tolist()
    deviation = float(values.std())
    return {"low": low, "high": high, "mean": float(values.mean()), "std": deviation or 1.0}
