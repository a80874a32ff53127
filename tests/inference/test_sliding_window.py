"""Windows cover a volume, and their weighted mean is the prediction of the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.distributed.devices import shard_batch
from lmf_jax.errors import UserError
from lmf_jax.inference import sliding_window
from lmf_jax.inference.sliding_window import (
    gaussian_weights,
    segment_volume,
    volume_probabilities,
    window_starts,
)

CASES = [((13, 17), (8, 8)), ((8, 9), (8, 9)), ((5, 20), (8, 6)), ((9, 7, 11), (4, 4, 6))]
CASES += [((3, 4, 5), (4, 6, 6))]


def make_volume(space, modalities=2, seed=0):
    return np.random.default_rng(seed).normal(size=(*space, modalities)).astype(np.float32)


def pointwise(windows):
    """Return logits of three classes, independent for each voxel."""
    x = jnp.asarray(windows)
    return jnp.stack([2 * x[..., 0], x[..., 1] - x[..., 0], jnp.sin(x[..., 1])], axis=-1)


def by_place(windows):
    """Logits that depend on where in its window a place is, and on the window's mean."""
    x = jnp.asarray(windows)
    space = x.shape[1:-1]
    ramp = jnp.linspace(0, 1, np.prod(space), dtype=jnp.float32).reshape(1, *space)
    mean = x.mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True)[..., 0]
    return jnp.stack([jnp.broadcast_to(ramp, x.shape[:-1]), x[..., 0] + mean], axis=-1)


def probabilities(volume, patch_size, predict=pointwise, num_classes=3, **options):
    options = {"batch_size": 2} | options
    return volume_probabilities(
        predict, volume, patch_size=patch_size, num_classes=num_classes, **options
    )


@pytest.mark.parametrize(("space", "patch_size"), CASES)
def test_what_is_said_of_each_place_alone_is_kept(space, patch_size):
    volume = make_volume(space)
    expected = np.asarray(jax.nn.softmax(pointwise(volume)))
    found = probabilities(volume, patch_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    classes = segment_volume(pointwise, volume, patch_size=patch_size, num_classes=3, batch_size=3)
    assert classes.dtype == np.uint8
    np.testing.assert_array_equal(classes, expected.argmax(axis=-1))


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(("size", "whole"), [(4, 4), (4, 5), (5, 23), (80, 203), (1, 3)])
def test_windows_cover_everything_and_no_more(size, whole, overlap):
    starts = window_starts((whole, 6), (size, 6), overlap)
    assert set(starts[:, 1]) == {0}
    along = starts[:, 0]
    assert along[0] == 0 and along[-1] == whole - size
    assert (np.diff(along) > 0).all(), "none twice"
    assert np.diff(along, prepend=0).max() <= max(np.ceil(size * (1 - overlap)), 1)


def test_a_window_larger_than_the_whole_is_refused():
    with pytest.raises(ValueError, match=r"window of \(8, 4\) does not fit into \(7, 9\)"):
        window_starts((7, 9), (8, 4))


def test_windows_are_as_few_as_the_overlap_takes():
    assert window_starts((10, 8), (4, 4)).tolist() == [
        [row, column] for row in (0, 2, 4, 6) for column in (0, 2, 4)
    ]
    assert len(window_starts((200, 512, 512), (80, 160, 160))) == 4 * 6 * 6


@pytest.mark.parametrize("overlap", [percent / 100 for percent in range(100)])
def test_windows_are_as_few_for_every_overlap(overlap):
    """In floats, 100 * (1 - 0.9) is less than 10, and 1 - 0.1 - 0.8 is no tenth."""
    stride = 100 - round(100 * overlap)
    for number in (1, 2, 7):
        assert len(window_starts((100 + number * stride,), (100,), overlap)) == 1 + number


@pytest.mark.parametrize("patch_size", [(8,), (7, 10), (5, 6, 7), (1, 4), (160, 160, 80)])
def test_weights_are_positive_symmetric_and_largest_in_the_middle(patch_size):
    weights = gaussian_weights(patch_size)
    assert weights.shape == patch_size and weights.dtype == np.float32
    assert weights.min() > 0 and weights.max() == 1
    for axis in range(len(patch_size)):
        np.testing.assert_array_equal(weights, np.flip(weights, axis))
    assert weights[tuple(size // 2 for size in patch_size)] == 1


def test_the_deviation_of_the_weights_is_an_eighth_of_the_side():
    weights = gaussian_weights((81,))
    assert weights[40 + 10] == pytest.approx(np.exp(-0.5 * (10 / (81 / 8)) ** 2))


def test_a_window_is_weighted_by_its_middle():
    volume, (patch, whole) = make_volume((6, 1), modalities=1), (4, 6)
    found = probabilities(volume, (patch, 1), by_place, 2)
    weights, total, weight = gaussian_weights((patch, 1)), np.zeros((whole, 1, 2)), 0
    weight = np.zeros((whole, 1, 1))
    for start in (0, 2):
        window = slice(start, start + patch)
        said = np.asarray(jax.nn.softmax(by_place(volume[None, window])))[0]
        total[window] += weights[..., None] * said
        weight[window] += weights[..., None]
    np.testing.assert_allclose(found, total / weight, atol=1e-6)


def test_a_patch_as_large_as_the_volume_is_one_call():
    volume, calls = make_volume((6, 7, 5)), []

    def predict(windows):
        calls.append(len(windows))
        return by_place(windows)

    found = probabilities(volume, (6, 7, 5), predict, 2, batch_size=1)
    assert calls == [1]
    np.testing.assert_allclose(found, jax.nn.softmax(by_place(volume[None]))[0], atol=1e-6)


@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_the_size_of_a_batch_changes_nothing(batch_size):
    volume = make_volume((13, 9))
    one = probabilities(volume, (6, 4), by_place, 2, batch_size=1)
    many = probabilities(volume, (6, 4), by_place, 2, batch_size=batch_size)
    np.testing.assert_allclose(many, one, atol=1e-6)


def test_a_small_volume_lies_in_the_middle_of_zeros():
    volume, seen = make_volume((2, 3), modalities=1), []

    def predict(windows):
        seen.append(windows)
        return by_place(windows)

    assert probabilities(volume, (4, 6), predict, 2, batch_size=1).shape == (2, 3, 2)
    np.testing.assert_array_equal(seen[0][0], np.pad(volume, [(1, 1), (1, 2), (0, 0)]))


def test_images_reach_the_model_as_they_are():
    image = np.arange(7 * 9 * 3, dtype=np.uint8).reshape(7, 9, 3)

    def predict(windows):
        assert windows.dtype == np.uint8 and windows.shape == (2, 4, 4, 3)
        return jnp.asarray(windows, jnp.float32)

    classes = segment_volume(predict, image, patch_size=(4, 4), num_classes=3, batch_size=2)
    assert (classes == 2).all()


def test_volumes_of_any_shape_compile_once():
    predict = jax.jit(by_place)
    sliding_window._weighted_probabilities.clear_cache()
    for space in ((9, 9), (4, 5), (17, 6)):
        segment_volume(predict, make_volume(space), patch_size=(4, 5), num_classes=2, batch_size=3)
    assert predict._cache_size() == 1
    assert sliding_window._weighted_probabilities._cache_size() == 1


def test_several_devices_compute_what_one_does():
    volume = make_volume((11, 9))
    mapped = jax.pmap(by_place)

    def predict(windows):
        logits = mapped(shard_batch({"image": windows})["image"])
        return logits.reshape(-1, *logits.shape[2:])

    assert jax.local_device_count() == 4
    one = probabilities(volume, (6, 4), by_place, 2, batch_size=4)
    many = probabilities(volume, (6, 4), predict, 2, batch_size=4)
    np.testing.assert_allclose(many, one, atol=1e-6)


def test_a_diverged_model_is_said_to_be_one():
    with pytest.raises(UserError, match="not finite; its training diverged"):
        probabilities(make_volume((8, 8)) * np.nan, (4, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 1.0}, r"overlap is 1.0; expected a fraction in \[0, 1\)"),
        ({"overlap": -0.1}, "overlap is -0.1"),
        ({"patch_size": (4, 4, 4)}, "expected a positive size for each"),
        ({"patch_size": (4, 0)}, "expected a positive size for each"),
        ({"batch_size": 0}, "positive batch size"),
        ({"num_classes": 4}, r"have shape \(2, 4, 4, 3\); expected \(2, 4, 4, 4\)"),
        ({"num_classes": 300}, "at most 256"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    options = {"patch_size": (4, 4), "num_classes": 3, "batch_size": 2} | options
    with pytest.raises(ValueError, match=message):
        segment_volume(pointwise, make_volume((8, 8)), **options)
