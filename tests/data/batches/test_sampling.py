"""Who comes next: everybody once an epoch, or the rare classes more often."""

import numpy as np
import pytest

from data.batches.sampling import positions

LABELS = np.repeat(np.array([0, 1, 3], np.int32), [900, 90, 10])  # nobody is of class 2


def drawn(sampling: str, batches: int = 400, **options) -> np.ndarray:
    """Return the labels of many batches, one after the other."""
    order = positions(LABELS, sampling, batch_size=32, seed=0, **options)
    return LABELS[np.concatenate([order[number] for number in range(batches)])]


def shares(labels: np.ndarray) -> list[float]:
    return [float(np.mean(labels == label)) for label in (0, 1, 3)]


def test_uniform_sampling_shows_every_image_once_an_epoch() -> None:
    order = positions(LABELS, "uniform", batch_size=50, seed=0)
    epoch = np.concatenate([order[number] for number in range(20)])
    assert sorted(epoch) == list(range(1000))


def test_class_balanced_sampling_shows_all_classes_alike() -> None:
    np.testing.assert_allclose(shares(drawn("class-balanced")), 1 / 3, atol=0.02)


def test_the_effective_number_lies_between() -> None:
    counts = np.array([900, 90, 10])
    weights = counts * (1 - 0.99) / (1 - 0.99**counts)
    found = shares(drawn("effective-number", effective_number_beta=0.99))
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.02)


def test_an_effective_number_of_beta_zero_shows_the_classes_as_they_are() -> None:
    found = shares(drawn("effective-number", effective_number_beta=0.0))
    np.testing.assert_allclose(found, [0.9, 0.09, 0.01], atol=0.02)


def test_images_of_a_class_are_equally_likely() -> None:
    order = positions(LABELS, "class-balanced", batch_size=32, seed=0)
    every = np.concatenate([order[number] for number in range(600)])
    counts = np.bincount(every, minlength=1000)[990:]
    np.testing.assert_allclose(counts, counts.mean(), rtol=0.15)


def test_the_seed_alone_decides_what_is_drawn() -> None:
    first, again, other = (
        positions(LABELS, "class-balanced", batch_size=8, seed=seed)[5] for seed in (0, 0, 1)
    )
    assert first.tolist() == again.tolist() != other.tolist()


def test_what_is_drawn_is_the_same_on_every_machine() -> None:
    order = positions(LABELS, "class-balanced", batch_size=6, seed=3)
    assert order[7].tolist() == [990, 972, 948, 810, 998, 645]


def test_one_class_alone_can_be_sampled() -> None:
    one = np.zeros(5, np.int32)
    for sampling in ("class-balanced", "effective-number"):
        batch = positions(one, sampling, batch_size=40, seed=0)[0]
        assert set(batch) == set(range(5))


VECTORS = np.array(
    [[1, 0, 0]] * 60 + [[1, 1, 0]] * 30 + [[0, 0, 0]] * 6 + [[0, -1, 1]] * 4, np.int32
)


def drawn_vectors(sampling: str, **options) -> np.ndarray:
    """Return how often each of the four label vectors is drawn."""
    order = positions(VECTORS, sampling, batch_size=50, seed=0, **options)
    rows = np.concatenate([order[number] for number in range(400)])
    return np.bincount(np.searchsorted([60, 90, 96], rows, side="right")) / len(rows)


def test_class_balanced_sampling_draws_a_label_and_then_an_image_that_has_it() -> None:
    """A quarter for each of three labels and for no label; the first has 60 of 90 images alone."""
    expected = [1 / 4 * 60 / 90, 1 / 4 * 30 / 90 + 1 / 4, 1 / 4, 1 / 4]
    np.testing.assert_allclose(drawn_vectors("class-balanced"), expected, atol=0.01)
    np.testing.assert_allclose(drawn_vectors("uniform"), [0.6, 0.3, 0.06, 0.04])


def test_the_effective_number_weighs_an_image_by_all_its_labels() -> None:
    beta = 0.9
    first, second, none, third = 1 / (1 - beta ** np.array([90, 30, 6, 4]))
    weights = np.array([first, first + second, none, third]) * [60, 30, 6, 4]
    found = drawn_vectors("effective-number", effective_number_beta=beta)
    np.testing.assert_allclose(found, weights / weights.sum(), atol=0.01)


@pytest.mark.parametrize("sampling", ["class-balanced", "effective-number"])
def test_vectors_of_one_label_are_drawn_like_classes(sampling: str) -> None:
    vectors = np.eye(4, dtype=np.int32)[LABELS]
    found = [positions(x, sampling, batch_size=32, seed=0)[3] for x in (LABELS, vectors)]
    np.testing.assert_array_equal(*found)
