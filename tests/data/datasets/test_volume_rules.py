"""Target spacing, patch and batch size, against cases computed by hand from the rules."""

import numpy as np
import pytest

from data.datasets.volumes.intensity import SAMPLES, foreground_sample, intensity_statistics
from data.datasets.volumes.rules import (
    MOST_VOXELS,
    batch_size,
    patch_size,
    resampled_shapes,
    target_spacing,
)


def spacings(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array(rows, np.float64)


def shapes(*rows: tuple[int, int, int]) -> np.ndarray:
    return np.array(rows, np.int64)


def test_the_target_spacing_is_the_median_of_each_axis() -> None:
    given = spacings((1, 1, 1), (2, 1, 0.5), (3, 3, 0.7))
    assert target_spacing(given, shapes(*[(50, 50, 50)] * 3)) == (2.0, 1.0, 0.7)


def test_the_coarse_axis_of_anisotropic_data_takes_the_tenth_percentile() -> None:
    """As in ACDC: slices of 10 mm, some of 5 mm, and few of them."""
    given = spacings(*[(10, 1.5, 1.5)] * 8, *[(5, 1.5, 1.5)] * 2)
    thin = shapes(*[(10, 200, 200)] * 10)
    assert target_spacing(given, thin) == (5.0, 1.5, 1.5)
    # Neither rule holds alone: as many voxels as other axes, or nearly their spacing.
    assert target_spacing(given, shapes(*[(90, 200, 200)] * 10)) == (10.0, 1.5, 1.5)
    assert target_spacing(given * (0.4, 1, 1), thin) == (4.0, 1.5, 1.5)
    # The coarse axis does not become finer than the others.
    fine = spacings(*[(10, 1.5, 1.5)] * 8, *[(1, 1.5, 1.5)] * 2)
    assert target_spacing(fine, thin) == (1.5, 1.5, 1.5)


@pytest.mark.parametrize(
    ("median", "spacing", "expected"),
    [
        ((128, 128, 128), (1.0, 1.0, 1.0), (128, 128, 128)),  # BraTS without its borders: 2^21
        ((10, 256, 216), (5.0, 1.5, 1.5), (16, 256, 224)),  # ACDC: all of it
        ((12, 20, 18), (3.0, 1.5, 1.5), (16, 32, 32)),
        ((5, 9, 9), (1.0, 1.0, 1.0), (16, 32, 16)),  # one voxel would be left of 16
        ((1, 512, 512), (5.0, 1.0, 1.0), (16, 352, 368)),
    ],
)
def test_a_patch_fits_the_median_case_the_memory_and_the_unet(median, spacing, expected) -> None:
    patch = patch_size(shapes(median), spacing)
    assert patch == expected
    assert np.prod(patch) <= MOST_VOXELS and not any(edge % 16 for edge in patch)


def test_a_patch_of_a_large_case_keeps_its_aspect() -> None:
    """KiTS19: 129 x 249 x 249 voxels of 3.22 x 1.62 x 1.62 mm, patches near 80 x 160 x 160."""
    patch = patch_size(shapes((129, 249, 249)), (3.22, 1.62, 1.62))
    assert MOST_VOXELS * 0.8 < np.prod(patch) <= MOST_VOXELS
    assert patch[0] in (80, 96) and patch[1] in (144, 160) and patch[2] in (144, 160)


def test_a_batch_of_small_patches_is_larger_but_covers_little_of_the_dataset() -> None:
    many = shapes(*[(32, 32, 32)] * 10_000)
    assert batch_size(many, (32, 32, 32)) == 128  # 2 * 2^21 / 2^15
    assert batch_size(many[:100], (32, 32, 32)) == 5  # 5 % of 100
    assert batch_size(many[:4], (32, 32, 32)) == 2


def test_resampled_shapes_are_those_of_the_prepared_cases() -> None:
    found = resampled_shapes(
        spacings((2.5, 0.8, 0.9), (9.0, 1, 1)), shapes((24, 60, 50), (1, 2, 2)), (3.0, 1.0, 1.0)
    )
    assert found.tolist() == [[20, 48, 45], [3, 2, 2]]
    assert resampled_shapes(spacings((1, 1, 1)), shapes((1, 1, 1)), (5.0, 5.0, 5.0)).min() == 1


def test_statistics_are_those_of_the_foreground() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(100, 20, (20, 30, 30)).astype(np.float32)
    foreground = rng.random(image.shape) < 0.7
    image[~foreground] = -1000
    sample = foreground_sample(image, foreground)
    assert sample.shape == (SAMPLES,)
    found = intensity_statistics(sample[None])
    values = image[foreground]
    assert found["mean"] == pytest.approx(values.mean(), abs=0.05)
    assert found["std"] == pytest.approx(values.std(), rel=0.01)
    expected = np.percentile(values, (0.5, 99.5))
    assert [found["low"], found["high"]] == pytest.approx(expected.tolist(), abs=1)
    assert not len(foreground_sample(image, np.zeros_like(foreground)))


def test_a_small_case_weighs_as_much_as_a_large_one() -> None:
    image = np.array([[[1, 2, 3]]], np.float32)
    sample = foreground_sample(image, image > 1)
    assert np.unique(sample, return_counts=True)[1].tolist() == [SAMPLES // 2] * 2
    constant = intensity_statistics(np.full((2, SAMPLES), 5, np.float32))
    assert constant == {"low": 5.0, "high": 5.0, "mean": 5.0, "std": 1.0}
