"""Counts, overlap and surface distance of a case, against examples and brute force."""

import itertools

import numpy as np
import pytest

from lmf_jax.evaluation.segmentation.metrics import (
    CASE_METRICS,
    OVERLAP_METRICS,
    case_counts,
    hausdorff_95,
    overlap_metrics,
)


def random_maps(shape, num_classes, seed):
    """Return two overlapping label maps of blocks of two pixels."""
    rng = np.random.default_rng(seed)
    maps = []
    for _ in range(2):
        blocks = rng.integers(0, num_classes, [-(-size // 2) for size in shape])
        for axis in range(len(shape)):
            blocks = blocks.repeat(2, axis=axis)
        maps.append(blocks[tuple(slice(size) for size in shape)].astype(np.uint8))
    labels, prediction = maps
    return labels, np.where(rng.random(shape) < 0.5, labels, prediction)


def surface_of(mask):
    """Return the elements of the mask with a face neighbor outside the mask or the image."""
    places = []
    for place in itertools.product(*map(range, mask.shape)):
        if not mask[place]:
            continue
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            is_in = 0 <= other[axis] < mask.shape[axis]
            if not is_in or not mask[tuple(other)]:
                places.append(place)
                break
    return np.array(places)


def brute_force_hd95(labels, prediction, class_id, spacing):
    a, b = (surface_of(values == class_id) * np.array(spacing) for values in (labels, prediction))
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return max(np.percentile(distances.min(axis=axis), 95) for axis in (0, 1))


def test_counts_of_a_small_example():
    labels = np.array([[0, 0, 1], [1, 2, 2]])
    prediction = np.array([[0, 1, 1], [0, 2, 1]])
    counts = case_counts(labels, prediction, 4)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 1, 1], [1, 2, 1], [1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("num_classes", [2, 20, 300])
def test_counts_hold_for_any_type_and_number_of_classes(num_classes):
    rng = np.random.default_rng(0)
    labels, prediction = rng.integers(0, num_classes, (2, 5, 6, 7))
    counts = case_counts(labels.astype(np.uint16), prediction.astype(np.int32), num_classes)
    for class_id in range(num_classes):
        true, found = labels == class_id, prediction == class_id
        expected = [(true & found).sum(), (found & ~true).sum(), (true & ~found).sum()]
        assert counts[class_id].tolist() == expected


def test_overlap_of_a_small_example():
    metrics = overlap_metrics(np.array([[6, 2, 4], [3, 0, 0]]))
    assert set(metrics) == set(OVERLAP_METRICS) < set(CASE_METRICS)
    found = {name: values.tolist() for name, values in metrics.items()}
    assert found == {
        "dsc": [12 / 18, 1],
        "iou": [6 / 12, 1],
        "precision": [6 / 8, 1],
        "recall": [6 / 10, 1],
    }


def test_overlap_of_a_class_that_is_missing():
    nowhere, made_up, missed = [0, 0, 0], [0, 5, 0], [0, 0, 5]
    for values in overlap_metrics(np.array([[nowhere, made_up, missed]] * 2)).values():
        assert values.tolist() == [[1, 0, 0]] * 2


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((11, 14), (1.0, 1.0)), ((9, 13), (0.7, 2.5)), ((6, 7, 8), (3.22, 1.62, 1.62))],
)
@pytest.mark.parametrize("seed", range(3))
def test_distance_is_that_of_brute_force(shape, spacing, seed):
    labels, prediction = random_maps(shape, 3, seed)
    found = hausdorff_95(labels, prediction, 3, spacing)
    expected = [brute_force_hd95(labels, prediction, class_id, spacing) for class_id in range(3)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(hausdorff_95(prediction, labels, 3, spacing), expected, rtol=1e-12)


def test_distance_in_each_direction_counts():
    labels = np.zeros((40, 40), np.uint8)
    labels[2:22, 2:22] = 1
    prediction = labels.copy()
    prediction[38, 36:40] = prediction[39, 36:40] = 1
    # 8 of 84 elements of the predicted surface are distant, and none of 76 of the true one: less
    # than 5 % of both surfaces together.
    assert hausdorff_95(labels, prediction, 2, (1, 1))[1] > 20
    assert hausdorff_95(prediction, labels, 2, (1, 1))[1] > 20


def test_the_distance_of_a_shifted_object_is_the_shift():
    labels, prediction = np.zeros((2, 10, 12, 14), np.uint8)
    labels[2:5, 3:7, 4:9] = 1
    prediction[5:8, 3:7, 4:9] = 1
    assert hausdorff_95(labels, labels, 2, (2, 1, 1)).tolist() == [0, 0]
    assert hausdorff_95(labels, prediction, 2, (2, 1, 1))[1] == 6


def test_distance_of_a_class_that_is_missing():
    labels, prediction = np.zeros((2, 30, 40), np.uint8)
    labels[3:5, 3:5], prediction[3:5, 3:5] = 1, 2
    assert hausdorff_95(labels, prediction, 4, (1, 1)).tolist() == [0, 50, 50, 0]
    assert hausdorff_95(labels, prediction, 4, (0.1, 0.1))[1:] == pytest.approx([5, 5, 0])


@pytest.mark.parametrize(
    ("labels", "prediction", "message"),
    [
        (np.zeros((0, 3), int), np.zeros((0, 3), int), "the same nonempty shape"),
        (np.full((2, 3), 2), np.zeros((2, 3), int), "labels contain the value 2; .* from 0 to 1"),
        (np.zeros((2, 3), int), np.full((2, 3), -1), "prediction contains the value -1"),
    ],
)
def test_invalid_label_maps_are_refused(labels, prediction, message):
    for compute in (case_counts, lambda *maps: hausdorff_95(*maps, (1, 1))):
        with pytest.raises(ValueError, match=message):
            compute(labels, prediction, 2)


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, np.inf), (1.0, 1.0, 1.0)])
def test_an_invalid_spacing_is_refused(spacing):
    with pytest.raises(ValueError, match="positive size for each axis"):
        hausdorff_95(np.zeros((2, 3), int), np.zeros((2, 3), int), 2, spacing)
