from pathlib import Path

import numpy as np
import pytest

from data.formats.intensity import IntensityRange
from data.formats.volumes import axial_picture, decode_volume, is_nifti, read_volume
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError
from tests.helpers.volume_downloads import save_nifti

RANGE = IntensityRange(0, 255)


def encoded(folder: Path, values: np.ndarray, orientation: str = "RAS", end: str = ".nii") -> bytes:
    path = folder / f"scan{end}"
    save_nifti(path, values, orientation=orientation)
    return path.read_bytes()


def random_volume() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 10, 12)).astype(np.int16)


@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SPL", "ASR"])
def test_stored_axes_do_not_matter(tmp_path, orientation, end) -> None:
    values = random_volume()
    content = encoded(tmp_path, values, orientation, end)
    assert is_nifti(content)
    np.testing.assert_array_equal(read_volume(content, RANGE), values)
    decoded = decode_volume(content, ImageSpec(10, 12, channels=1, depth=8), RANGE)
    np.testing.assert_array_equal(decoded[..., 0], values)


def test_resampling_averages_and_keeps_the_center(tmp_path) -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 10)[:, None, None], (24, 6, 6)).astype(np.int16)
    content = encoded(tmp_path, ramp)
    small = decode_volume(content, ImageSpec(3, 12, channels=1, depth=4), RANGE)
    assert small.shape == (4, 3, 12, 1)
    means = small.astype(float).mean((1, 2, 3))
    assert means.mean() == pytest.approx(ramp.mean(), abs=1)
    assert np.all(np.diff(means) > 40) and small.std((1, 2, 3)).max() == 0


def test_a_range_clips_and_percentiles_do_not_depend_on_the_unit(tmp_path) -> None:
    values = np.linspace(-2000, 3000, 1000).reshape(10, 10, 10).astype(np.float32)
    clipped = read_volume(encoded(tmp_path, values), IntensityRange(-1000, 1000))
    expected = np.rint((np.clip(values, -1000, 1000) + 1000) * 255 / 2000)
    np.testing.assert_array_equal(clipped, expected)
    own = read_volume(encoded(tmp_path, values))
    assert own.min() == 0 and own.max() == 255 and 0 < (own == 255).mean() < 0.02
    scaled = read_volume(encoded(tmp_path, values * 1e-4 + 7))
    assert np.abs(scaled.astype(int) - own).max() <= 1


def test_a_constant_volume_is_black_and_one_slice_is_repeated(tmp_path) -> None:
    assert not read_volume(encoded(tmp_path, np.full((3, 4, 5), 9, np.int16))).any()
    one = random_volume()[:1]
    volume = decode_volume(encoded(tmp_path, one), ImageSpec(10, 12, channels=1, depth=8), RANGE)
    np.testing.assert_array_equal(volume[..., 0], np.repeat(one, 8, axis=0))


def test_few_other_voxels_are_not_lost(tmp_path) -> None:
    values = np.zeros((10, 10, 10), np.int16)
    values[5, 5, 5] = 3
    volume = read_volume(encoded(tmp_path, values))
    assert volume[5, 5, 5] == 255 and volume.sum() == 255


def test_extreme_values_are_scaled(tmp_path) -> None:
    values = np.array([-3e38, 0, 3e38, 1], np.float32).reshape(1, 2, 2)
    np.testing.assert_array_equal(
        read_volume(encoded(tmp_path, values), RANGE), [[[0, 0], [255, 1]]]
    )
    assert read_volume(encoded(tmp_path, values)).max() == 255


def test_the_front_of_the_body_is_on_top_of_a_picture(tmp_path) -> None:
    values = np.zeros((3, 4, 5), np.uint8)
    values[1, -1, 0] = 255
    picture = np.asarray(axial_picture(values, 1))
    assert picture.shape == (4, 5) and picture[0, 0] == 255
    assert not np.asarray(axial_picture(values, 0)).any()


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"\x89PNG", b"n+1\0" * 200])
def test_other_bytes_are_one_clear_error(content: bytes) -> None:
    with pytest.raises(UserError, match=r"^it is damaged or not a NIfTI file"):
        read_volume(content)
