"""Rules from the sizes and spacings of a dataset to its target spacing, patch and batch size.

They follow Isensee et al., nnU-Net: a self-configuring method for deep learning-based biomedical
image segmentation, Nature Methods 18, 2021, for its configuration 3d_fullres. The U-Net here halves
every axis four times, where nnU-Net plans the number per axis, and its memory is proportional to
the voxels of a patch.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

ANISOTROPY = 3.0
"""Ratio of the coarsest spacing to the next, and of voxels, above which data are anisotropic."""

DIVISOR = 16
"""Divisor of every edge of a patch: four halvings."""

MOST_VOXELS = 128**3
"""Maximum number of voxels of a patch, in batches of :data:`SMALLEST_BATCH`."""

SMALLEST_BATCH = 2

_LARGEST_CUBE = 256
_COVERED_BY_BATCH = 0.05
"""Maximum fraction of the voxels of the dataset in a batch, unless it is the smallest."""


def target_spacing(
    spacings: Float64[np.ndarray, "n 3"], shapes: Int64[np.ndarray, "n 3"]
) -> tuple[float, float, float]:
    """Return the spacing that all cases are resampled to, in mm.

    It is the median of each axis. In anisotropic data, where the coarsest axis has more than three
    times the spacing of the others and less than a third of their voxels, that axis takes the 10th
    percentile instead, but no less than the spacing of the others: a median would interpolate
    cases with thin slices away.

    Args:
        spacings: Spacing of every case along z, y, x, in mm.
        shapes: Voxels of every case along z, y, x.
    """
    target, voxels = np.median(spacings, axis=0), np.median(shapes, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    next_coarsest = target[others].max()
    is_coarse = target[coarse] > ANISOTROPY * next_coarsest
    is_thin = voxels[coarse] * ANISOTROPY < voxels[others].min()
    if is_coarse and is_thin:
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), next_coarsest)
    z, y, x = (float(f"{edge:.6g}") for edge in target)
    return z, y, x


def resampled_shapes(
    spacings: Float64[np.ndarray, "n 3"],
    shapes: Int64[np.ndarray, "n 3"],
    target: Sequence[float],
) -> Int64[np.ndarray, "n 3"]:
    """Return the voxels of every case after resampling, at least 1 along each axis.

    Args:
        spacings: Spacing of every case along z, y, x, in mm.
        shapes: Voxels of every case along z, y, x.
        target: Spacing after resampling.
    """
    return np.maximum(1, np.rint(shapes * spacings / target)).astype(np.int64)


def patch_size(shapes: Int64[np.ndarray, "n 3"], spacing: Sequence[float]) -> tuple[int, int, int]:
    """Return the voxels of a training patch along z, y, x.

    The patch begins as a cube in mm of 256^3 voxels, is cut to the median case and rounded up to
    multiples of :data:`DIVISOR`. While it has more than :data:`MOST_VOXELS`, the axis that covers
    the largest part of the median case is reduced.

    Args:
        shapes: Voxels of every case after resampling.
        spacing: Spacing after resampling.
    """
    median = np.median(shapes, axis=0)
    cube = 1 / np.array(spacing)
    cube *= _LARGEST_CUBE / np.prod(cube) ** (1 / 3)
    edges = DIVISOR * np.ceil(np.minimum(np.rint(cube), median) / DIVISOR).astype(np.int64)
    while edges.prod() > MOST_VOXELS:
        edges[np.argmax(np.where(edges > DIVISOR, edges / median, 0))] -= DIVISOR
    if edges.max() == DIVISOR:  # one voxel would be left after four halvings
        edges[np.argmax(median)] *= 2
    z, y, x = edges.tolist()
    return z, y, x


def batch_size(shapes: Int64[np.ndarray, "n 3"], patch: Sequence[int]) -> int:
    """Return the number of patches in a batch.

    It is as large as the memory of the largest patch allows, but a batch does not cover more than
    5 % of the dataset unless it is the smallest.

    Args:
        shapes: Voxels of every case after resampling.
        patch: Voxels of a patch along z, y, x.
    """
    voxels = np.prod(patch)
    fitting = round(SMALLEST_BATCH * MOST_VOXELS / voxels)
    covering = round(_COVERED_BY_BATCH * len(shapes) * np.median(shapes, axis=0).prod() / voxels)
    return max(SMALLEST_BATCH, min(fitting, covering))
