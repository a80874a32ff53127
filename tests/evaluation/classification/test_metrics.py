"""Metrics against scikit-learn, and cases that scikit-learn does not define."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from lmf_jax.evaluation.classification.metrics import (
    classification_metrics,
    confusion_matrix,
    predicted_classes,
)

# Few sizes, because each is compiled separately.
PARTS = st.tuples(st.sampled_from([2, 3, 6]), st.sampled_from([1, 4, 30])).flatmap(
    lambda part: st.tuples(
        st.just(part[0]),
        st.lists(
            st.tuples(st.integers(0, part[0] - 1), st.integers(0, part[0] - 1)),
            min_size=part[1],
            max_size=part[1],
        ),
    )
)


@pytest.mark.filterwarnings("ignore:A single label was found")
@settings(max_examples=100, deadline=None)
@given(PARTS)
@example((3, [(0, 1), (1, 1), (2, 1)]))  # One predicted class.
@example((4, [(0, 2), (2, 0)]))  # Classes 1 and 3 are absent.
@example((2, [(1, 0)]))  # No correct prediction.
def test_metrics_equal_scikit_learn(part):
    num_classes, pairs = part
    labels, predictions = np.array(pairs).T
    classes = np.arange(num_classes)

    confusion = confusion_matrix(labels, predictions, num_classes=num_classes)
    np.testing.assert_array_equal(
        confusion, sklearn_metrics.confusion_matrix(labels, predictions, labels=classes)
    )

    def expected(average):
        return sklearn_metrics.precision_recall_fscore_support(
            labels, predictions, labels=classes, average=average, zero_division=0
        )

    metrics = classification_metrics(np.asarray(confusion))
    precision, recall, f1, support = expected(None)
    np.testing.assert_allclose(metrics.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(metrics.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(metrics.f1, f1, rtol=1e-12)
    np.testing.assert_array_equal(metrics.support, support)
    macro = (metrics.macro_precision, metrics.macro_recall, metrics.macro_f1)
    np.testing.assert_allclose(macro, expected("macro")[:3], rtol=1e-12)
    np.testing.assert_allclose(metrics.accuracy, np.mean(labels == predictions), rtol=1e-12)
    np.testing.assert_allclose(metrics.balanced_accuracy, recall[support > 0].mean(), rtol=1e-12)
    mcc = sklearn_metrics.matthews_corrcoef(labels, predictions)
    np.testing.assert_allclose(metrics.mcc, mcc, rtol=1e-12, atol=1e-15)


def test_rows_are_true_classes():
    confusion = confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 0]), num_classes=2)
    np.testing.assert_array_equal(confusion, [[0, 2], [1, 0]])
    assert jnp.issubdtype(confusion.dtype, jnp.integer)


def test_masked_equals_left_out():
    labels, predictions = np.array([0, 1, 2, 2, -1]), np.array([0, 2, 2, 1, 7])
    where = np.array([True, True, False, True, False])
    np.testing.assert_array_equal(
        confusion_matrix(labels, predictions, num_classes=3, where=where),
        confusion_matrix(labels[where], predictions[where], num_classes=3),
    )


def test_mask_of_the_leading_axis_covers_whole_images():
    labels = np.arange(24).reshape(2, 3, 4) % 3
    np.testing.assert_array_equal(
        confusion_matrix(labels, labels, num_classes=3, where=np.array([False, True])),
        confusion_matrix(labels[1], labels[1], num_classes=3),
    )


def test_class_ids_outside_are_not_counted_as_another_class():
    labels, predictions = np.array([-1, 3, 0, 0, 1]), np.array([0, 0, -1, 3, 1])
    confusion = confusion_matrix(labels, predictions, num_classes=3)
    np.testing.assert_array_equal(confusion, np.diag([0, 1, 0]))


def test_narrow_labels_do_not_overflow():
    labels = np.full(3, 19, np.uint8)
    assert confusion_matrix(labels, labels, num_classes=20)[19, 19] == 3


def test_confusion_matrices_of_batches_add_up():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 5, (2, 60))
    batches = zip(labels.reshape(4, 15), predictions.reshape(4, 15), strict=True)
    total = sum(confusion_matrix(*batch, num_classes=5) for batch in batches)
    np.testing.assert_array_equal(total, confusion_matrix(labels, predictions, num_classes=5))


def test_resamples_under_jit_and_vmap_equal_a_loop():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 4, (2, 50))
    resamples = rng.integers(0, 50, (8, 50))

    def metrics(rows):
        confusion = confusion_matrix(labels[rows], predictions[rows], num_classes=4)
        found = classification_metrics(confusion)
        return jnp.stack([found.macro_f1, found.balanced_accuracy, found.mcc])

    one_by_one = [metrics(rows) for rows in resamples]
    labels, predictions = jnp.asarray(labels), jnp.asarray(predictions)
    at_once = jax.jit(jax.vmap(metrics))(jnp.asarray(resamples))
    np.testing.assert_allclose(at_once, one_by_one, rtol=1e-6, atol=1e-7)
    assert len(np.unique(at_once, axis=0)) > 1


def test_correlation_of_a_large_test_does_not_overflow():
    confusion = np.array([[90_000, 10_000], [2_000, 8_000]])
    expected = classification_metrics(confusion).mcc
    assert 0.5 < expected < 0.6
    np.testing.assert_allclose(classification_metrics(jnp.asarray(confusion)).mcc, expected, 1e-5)


DEGENERATE_CONFUSIONS = {
    "constant predictions": [[27, 0, 0], [4, 0, 0], [14, 0, 0]],
    "constant predictions of the last class": [[0, 0, 27], [0, 0, 4], [0, 0, 14]],
    "one true class": [[0, 0, 0], [7, 3, 1], [0, 0, 0]],
    "one true class, all right": [[5, 0], [0, 0]],
    "one image, right": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "one image, wrong": [[0, 1, 0], [0, 0, 0], [0, 0, 0]],
    "one class": [[3]],
}


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("counts", DEGENERATE_CONFUSIONS.values(), ids=DEGENERATE_CONFUSIONS)
def test_correlation_without_variance_is_exactly_zero(counts):
    confusion = np.array(counts)
    labels, predictions = pairs_of(confusion)
    assert sklearn_metrics.matthews_corrcoef(labels, predictions) == 0
    assert classification_metrics(confusion).mcc == 0
    for scale in (1, 3, 1_000_003):  # Fractions of a large total have more digits to round.
        on_device = jnp.asarray(scale * confusion)
        assert classification_metrics(on_device).mcc == 0
        assert jax.jit(classification_metrics)(on_device).mcc == 0
        assert jax.jit(jax.vmap(classification_metrics))(on_device[None]).mcc[0] == 0


@pytest.mark.filterwarnings("ignore:A single label was found")
@pytest.mark.parametrize("largest", [1, 5, 20_000])
@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_correlation_equals_scikit_learn_and_stays_within_its_bounds(num_classes, largest):
    rng = np.random.default_rng([num_classes, largest])
    matrices = rng.integers(0, largest + 1, (40, num_classes, num_classes))
    matrices[:10] *= np.eye(num_classes, dtype=int)  # All correct.
    matrices[10:20] *= 1 - np.eye(num_classes, dtype=int)  # All wrong.
    matrices[20:30, :, 1:] = 0  # Constant.
    matrices[25:30, 0, 1] = 1  # Constant except for one.
    expected = np.array([scikit_learn_mcc(matrix) for matrix in matrices])
    in_float64 = np.array([classification_metrics(matrix).mcc for matrix in matrices])
    np.testing.assert_allclose(in_float64, expected, rtol=1e-9, atol=1e-15)
    in_float32 = jax.jit(jax.vmap(classification_metrics))(jnp.asarray(matrices)).mcc
    assert in_float32.dtype == np.float32
    np.testing.assert_allclose(in_float32, expected, rtol=1e-5, atol=1e-6)
    for found in (in_float64, np.asarray(in_float32)):
        assert np.all(abs(found) <= 1)
        assert np.all(found[20:25] == 0)


def pairs_of(confusion):
    """Return labels and predictions that give a confusion matrix."""
    cells = np.repeat(np.arange(confusion.size), confusion.ravel())
    return np.divmod(cells, len(confusion))


def scikit_learn_mcc(confusion):
    counts = confusion.ravel()
    labels, predictions = np.divmod(np.arange(confusion.size), len(confusion))
    if counts.sum() == 0:
        return 0.0
    return sklearn_metrics.matthews_corrcoef(labels, predictions, sample_weight=counts)


def test_macro_mean_counts_an_absent_class_as_zero():
    metrics = classification_metrics(np.diag([5, 5, 0]))
    assert metrics.accuracy == 1
    assert metrics.macro_f1 == pytest.approx(2 / 3)


def test_empty_confusion_matrix_gives_zeros():
    for matrix in (np.zeros((3, 3), int), jnp.zeros((3, 3), int)):
        assert all(np.all(np.asarray(value) == 0) for value in classification_metrics(matrix))


# Runtime type checks come first in tests; users without them get these errors.
def test_shapes_that_do_not_match_are_named():
    labels = np.array([0, 1])
    with pytest.raises(ValueError, match=r"labels have shape \(2,\) and predictions \(1,\)"):
        inspect.unwrap(confusion_matrix)(labels, labels[:1], num_classes=2)
    with pytest.raises(ValueError, match=r"where has shape \(1,\) and labels \(2,\)"):
        confusion_matrix(labels, labels, num_classes=2, where=np.array([True]))


def test_predicted_classes_takes_the_largest_logit():
    logits = np.array([[0.0, 2.0], [3.0, 3.0], [-np.inf, -5.0]])
    np.testing.assert_array_equal(predicted_classes(logits), [1, 0, 1])


def test_nan_logits_are_refused_with_their_number():
    logits = np.zeros((4, 3))
    logits[1, 2] = logits[3, 0] = logits[3, 1] = np.nan
    with pytest.raises(ValueError, match="2 of 4 examples contain NaN"):
        predicted_classes(logits)
