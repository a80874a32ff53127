"""Probabilities follow Bayes' rule when the frequency of the classes changes."""

import numpy as np
import pytest

from lmf_jax.evaluation.calibration import prior_ratios, shift_priors
from lmf_jax.evaluation.classification.scores import softmax

NAMES = ["a", "b", "c", "d"]
COUNTS = np.array([50, 30, 20, 0])


def test_shifted_probabilities_are_those_of_bayes_rule():
    """A test with known likelihoods: the posterior at the old and at the new prevalence."""
    likelihoods = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.4]])
    old, new = np.array([0.5, 0.3, 0.2]), np.array([0.05, 0.15, 0.8])

    def posterior(prior):
        return likelihoods * prior / (likelihoods * prior).sum(axis=1, keepdims=True)

    shifted = softmax(shift_priors(np.log(posterior(old)), new / old))
    np.testing.assert_allclose(shifted, posterior(new))


def test_classes_that_are_not_named_share_the_rest_in_proportion():
    ratios = prior_ratios({"c": 0.02}, NAMES, COUNTS)
    np.testing.assert_allclose(ratios[:3] * COUNTS[:3] / 100, [0.6125, 0.3675, 0.02])
    assert ratios[3] == ratios[0]  # of no validation image: like the other classes
    np.testing.assert_allclose(prior_ratios({"c": 0.2}, NAMES, COUNTS), 1)
    all_named = prior_ratios({"a": 0.1, "b": 0.2, "c": 0.7}, NAMES, COUNTS)
    np.testing.assert_allclose(all_named[:3] * [0.5, 0.3, 0.2], [0.1, 0.2, 0.7])


def test_the_mean_probability_follows_the_prevalence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(100, 4))
    means = [
        softmax(shift_priors(logits, prior_ratios({"b": value}, NAMES, COUNTS)))[:, 1].mean()
        for value in (0.01, 0.1, 0.3, 0.9)
    ]
    assert means == sorted(means) and means[2] == pytest.approx(softmax(logits)[:, 1].mean())


@pytest.mark.parametrize(
    ("prevalences", "message"),
    [
        ({"e": 0.1}, "There is no class e; the classes are a, b, c, d"),
        ({"a": 0.0}, r"The prevalence of a is 0; expected a number in \(0, 1\)"),
        ({"a": 1.0}, "The prevalence of a is 1;"),
        ({"a": -0.5}, "The prevalence of a is -0.5;"),
        ({"a": float("nan")}, "The prevalence of a is nan;"),
        ({"d": 0.1}, "The prevalence of d cannot be changed: it has no validation image"),
        ({"a": 0.7, "b": 0.4}, "The prevalences sum to 1.1 and leave nothing for c, d"),
        ({"a": 0.5, "b": 0.5}, "The prevalences sum to 1 and leave nothing for c, d"),
        ({"a": 0.5, "b": 0.2, "c": 0.2}, "with validation images sum to 0.9; expected 1"),
    ],
)
def test_impossible_prevalences_are_refused(prevalences, message):
    with pytest.raises(ValueError, match=message):
        prior_ratios(prevalences, NAMES, COUNTS)
