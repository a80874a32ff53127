"""Metrics of multi-label predictions against scikit-learn, with missing labels left out."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from lmf_jax.errors import UserError
from lmf_jax.evaluation.multilabel import (
    f1_thresholds,
    label_f1,
    odir_figures,
    read_thresholds,
    score_labels,
    sigmoid,
    summarize_test,
    write_thresholds,
)

NAMES = ["cataract", "glaucoma", "myopia", "AMD"]


def drawn(seed, n=80, missing=0.2):
    """Labels of four frequencies, and logits with ties."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 4)) < [0.5, 0.2, 0.1, 0.05]).astype(np.int32)
    labels[:2] = [[0] * 4, [1] * 4]
    logits = np.round(rng.normal(size=(n, 4)) + labels - 1, 1).astype(np.float32)
    labels[2:][rng.random((n - 2, 4)) < missing] = -1
    logits[labels == -1] = np.nan
    return labels, logits


@pytest.mark.parametrize("seed", range(4))
def test_auroc_and_average_precision_are_those_of_scikit_learn(seed):
    labels, logits = drawn(seed)
    found = score_labels(labels, logits)
    columns = [(y[y >= 0], z[y >= 0]) for y, z in zip(labels.T, logits.T, strict=True)]
    auroc = [sk.roc_auc_score(*pair) for pair in columns]
    precision = [sk.average_precision_score(*pair) for pair in columns]
    np.testing.assert_allclose(found.auroc, auroc, rtol=1e-12)
    np.testing.assert_allclose(found.average_precision, precision, rtol=1e-12)
    np.testing.assert_allclose(found.mean_auroc, np.mean(auroc), rtol=1e-12)
    np.testing.assert_allclose(found.mean_average_precision, np.mean(precision), rtol=1e-12)


def test_a_label_without_positives_or_negatives_is_nan_and_left_out_of_the_means():
    labels = np.array([[0, 1, 1, -1], [1, 1, 0, -1], [0, -1, 0, -1]])
    logits = np.array([[0.1, 2, 3, 0], [0.4, 1, 2, 0], [0.2, 0, 2, 0]])
    found = score_labels(labels, logits)
    np.testing.assert_array_equal(np.isnan(found.auroc), [False, True, False, True])
    assert found.mean_auroc == 1 and found.mean_average_precision == 1
    none = score_labels(labels[:, 3:], logits[:, 3:])
    assert np.isnan([none.mean_auroc, none.mean_average_precision]).all()


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_that_of_scikit_learn(seed):
    labels, logits = drawn(seed, missing=0)
    predictions = logits > np.array([-0.5, 0, 0.5, 9])
    found = label_f1(labels, predictions)
    for average, value in (("macro", found.macro), ("micro", found.micro), (None, found.per_label)):
        expected = sk.f1_score(labels, predictions, average=average, zero_division=0)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
    expected = sk.f1_score(labels, predictions, average="samples", zero_division=0)
    np.testing.assert_allclose(found.samples, expected, rtol=1e-12)
    expected = sk.recall_score(labels, predictions, average=None)
    np.testing.assert_allclose(found.recall, expected, rtol=1e-12)
    assert found.precision[3] == found.per_label[3] == 0  # never predicted


def test_missing_labels_count_nowhere_in_f1():
    labels, logits = drawn(5, missing=0)
    labels[10:] = -1
    found, expected = label_f1(labels, logits > 0), label_f1(labels[:10], logits[:10] > 0)
    np.testing.assert_equal(found._asdict(), expected._asdict())
    labels[0, 0] = -1
    for predicted in (False, True):
        predictions = logits > 0
        predictions[0, 0] = predicted
        kept = sk.f1_score(labels[1:10, 0], logits[1:10, 0] > 0)
        np.testing.assert_allclose(label_f1(labels, predictions).per_label[0], kept, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_odir_figures_are_those_of_the_challenge(seed):
    labels, logits = drawn(seed)
    probabilities = sigmoid(logits)
    truth, scores = labels[labels >= 0], probabilities[labels >= 0]
    expected = [
        sk.cohen_kappa_score(truth, scores > 0.5),
        sk.f1_score(truth, scores > 0.5, average="micro"),
        sk.roc_auc_score(truth, scores),
    ]
    expected.append(np.mean(expected))
    np.testing.assert_allclose(odir_figures(labels, probabilities), expected, rtol=1e-12)


def test_odir_figures_of_one_value_are_undefined():
    found = odir_figures(np.zeros((3, 2), int), np.zeros((3, 2)))
    assert np.isnan([found.kappa, found.auc, found.final]).all()
    assert found.f1 == 1
    assert np.isnan(odir_figures(np.full((3, 2), -1), np.zeros((3, 2)))).all()


@pytest.mark.parametrize("seed", range(4))
def test_thresholds_maximize_the_f1_of_every_label(seed):
    labels, logits = drawn(seed)
    probabilities = sigmoid(logits)
    thresholds = f1_thresholds(labels, probabilities)
    found = label_f1(labels, probabilities >= thresholds).per_label
    for column in range(4):
        known = labels[:, column] >= 0
        truth, scores = labels[known, column], probabilities[known, column]
        best = max(sk.f1_score(truth, scores >= cut) for cut in np.unique(scores))
        np.testing.assert_allclose(found[column], best, rtol=1e-12)
        assert thresholds[column] not in scores  # halfway, so that rounding moves no image


def test_thresholds_of_degenerate_labels():
    labels = np.array([[0, 1, 1, -1], [0, 1, 0, -1]])
    scores = np.array([[0.2, 0.0, 0.3, 0.1], [0.9, 0.6, 0.3, 0.1]])
    thresholds = f1_thresholds(labels, scores)
    np.testing.assert_allclose(thresholds, [0.5, 0.0, 0.15, 0.5])
    np.testing.assert_array_equal((scores >= thresholds)[:, 1:3], True)


def test_thresholds_are_read_as_written_in_the_order_of_the_labels(tmp_path):
    write_thresholds(tmp_path, NAMES, np.array([0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_array_equal(read_thresholds(tmp_path, NAMES[::-1]), [0.4, 0.3, 0.2, 0.1])
    with pytest.raises(UserError, match="threshold for each of the 2 labels"):
        read_thresholds(tmp_path, NAMES[:2])
    path = tmp_path / "thresholds.json"
    path.write_text(path.read_text().replace("0.4", "4"))
    with pytest.raises(UserError, match="not a number from 0 to 1"):
        read_thresholds(tmp_path, NAMES)
    path.unlink()
    with pytest.raises(UserError, match=r"thresholds\.json"):
        read_thresholds(tmp_path, NAMES)


def test_the_summary_has_every_metric_and_none_where_undefined():
    labels, logits = drawn(1)
    labels[:, 3] = 0
    logits = np.nan_to_num(logits)
    thresholds = np.full(4, 0.3)
    groups = np.array([str(row // 2) for row in range(len(labels))])
    test = summarize_test(labels, logits, NAMES, thresholds, groups)
    assert json.loads(json.dumps(test, allow_nan=False)) == test
    scores, f1 = score_labels(labels, logits), label_f1(labels, sigmoid(logits) >= 0.3)
    assert test["mean_average_precision"] == scores.mean_average_precision
    assert test["per_label"]["glaucoma"]["auroc"] == scores.auroc[1]
    assert test["macro_f1"] == f1.macro and test["samples_f1"] == f1.samples
    assert test["per_label"]["myopia"]["recall"] == f1.recall[2]
    assert test["per_label"]["myopia"]["positives"] == (labels[:, 2] == 1).sum()
    assert test["odir"]["final"] == odir_figures(labels, sigmoid(logits)).final
    assert test["per_label"]["AMD"]["auroc"] is None
    assert test["intervals"]["per_label"]["AMD"]["auroc"] is None
    low, high = test["intervals"]["mean_average_precision"]
    assert low < test["mean_average_precision"] < high
    assert test["intervals"]["drawn"] == "groups"


@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        (np.zeros((0, 2), int), np.zeros((0, 2)), "no examples"),
        (np.array([[0, 2]]), np.zeros((1, 2)), "run from 0 to 2"),
        (np.array([[0, 1]]), np.array([[0, np.nan]]), "1 of 1 examples contain NaN"),
    ],
)
def test_bad_input_is_refused(labels, logits, message):
    for function in (score_labels, odir_figures, f1_thresholds):
        with pytest.raises(ValueError, match=message):
            function(labels, logits)
