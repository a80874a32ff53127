"""Multi-label objectives: weighted means over labels, the same on any number of devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from lmf_jax.losses import (
    LabelTerm,
    LossConfig,
    TrainingProgress,
    build_multilabel_objective,
    get_loss,
    label_effective_number_weights,
    label_margins,
    loss_names,
    make_multilabel_objective,
    make_objective,
    register_loss,
    registry,
    sigmoid_cross_entropy_loss,
    sigmoid_focal_loss,
    sigmoid_ldam_loss,
)
from tests.helpers.spread import spread

LOSSES = loss_names("multilabel")
POSITIVE, NEGATIVE = [5, 20, 60], [95, 80, 40]
LOGITS = jnp.array([[2, 0.5, -1], [0.1, 0.3, 0.2], [-0.4, 1.2, 0.9], [1, -1, 0.8]])
LABELS = jnp.array([[1, 0, 0], [0, 1, 1], [0, -1, 0], [0, 1, -1]])
PRESENT = np.asarray(LABELS) >= 0
MARGINS = np.asarray(label_margins(POSITIVE, NEGATIVE))


def of_labels(table):
    """The number that belongs to each label and its value, 0 for missing labels."""
    return np.where(np.asarray(LABELS) == 1, table[:, 1], table[:, 0]) * PRESENT


OF_LABELS = of_labels(MARGINS)

each_loss = pytest.mark.parametrize("name", LOSSES)


def make(name, **options):
    return make_multilabel_objective(name, POSITIVE, NEGATIVE, **options)


def test_the_names_are_those_of_the_documents():
    expected = "bce wbce focal asl ral ldam ldam-drw lmf logit-adjustment distribution-balanced"
    assert set(LOSSES) == set(expected.split())


def test_the_objectives_are_the_means_of_their_definitions():
    focal = sigmoid_focal_loss(LOGITS, LABELS, MARGINS)
    ldam = sigmoid_ldam_loss(LOGITS, LABELS, MARGINS)
    plain = sigmoid_ldam_loss(LOGITS, LABELS, MARGINS, scale=1.0)
    weighted = (OF_LABELS * ldam).sum() / OF_LABELS.sum()
    count = float(PRESENT.sum())
    for objective, expected in (
        (make("bce"), sigmoid_cross_entropy_loss(LOGITS, LABELS).sum() / count),
        (make("focal"), focal.sum() / count),
        (make("focal", form="paper-v1"), sigmoid_focal_loss(LOGITS, LABELS).sum() / count),
        (make("ldam"), weighted),
        (make("ldam", form="paper"), plain.sum() / count),
        (make("lmf", alpha=1.5, beta=0.5), 1.5 * weighted + 0.5 * focal.sum() / count),
        (make("lmf", form="paper"), (plain + focal).sum() / count),
    ):
        np.testing.assert_allclose(objective(LOGITS, LABELS), expected, rtol=1e-6)


def test_weighted_cross_entropy_is_that_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    labels = jnp.maximum(LABELS, 0)
    loss = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(NEGATIVE) / torch.tensor(POSITIVE))
    expected = loss(torch.tensor(np.array(LOGITS)), torch.tensor(np.array(labels)).float())
    np.testing.assert_allclose(make("wbce")(LOGITS, labels), expected, rtol=1e-6)


def batch(size):
    rng = np.random.default_rng(size)
    logits = jnp.asarray(rng.normal(size=(size, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(-1, 2, (size, 3)), jnp.int32)
    where = jnp.asarray(rng.random(size) < 0.7).at[:3].set(False)  # one device sees only padding
    return logits.at[0].set(jnp.nan), labels.at[1].set(-5), where


@each_loss
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_any_number_of_devices_gives_the_value_and_gradient_of_the_whole(name, devices):
    objective = make(name)
    late = {"progress": 0.9}  # when the weights of ldam-drw hold
    arrays = batch(12)
    expected = jax.value_and_grad(partial(objective, **late))(*arrays)

    def share(z, y, w):
        """In two micro-batches, whose denominators are those of the whole."""
        denominators = objective.denominators(y, w, "batch", **late)

        def total(z):
            halves = [(z[i::2], y[i::2], w[i::2]) for i in (0, 1)]
            return sum(objective(*half, denominators=denominators, **late) for half in halves)

        return jax.value_and_grad(total)(z)

    values, gradients = spread(share, devices)(*arrays)
    np.testing.assert_allclose(values.sum(), expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradients.reshape(12, 3), expected[1], rtol=1e-6, atol=1e-7)


@each_loss
def test_a_masked_batch_is_the_batch_without_the_masked(name):
    objective = make(name)
    logits, labels, where = batch(12)
    left_out = objective(logits[where], labels[where])
    np.testing.assert_allclose(objective(logits, labels, where), left_out, rtol=1e-6)


@each_loss
def test_a_batch_without_labels_is_zero_with_zero_gradient(name):
    objective = make(name)
    for labels, where in ((LABELS, jnp.zeros(4, bool)), (jnp.full((4, 3), -1), None)):
        value, gradient = jax.value_and_grad(objective)(LOGITS * jnp.nan, labels, where)
        assert value == 0
        np.testing.assert_array_equal(gradient, 0)


@each_loss
def test_the_denominator_counts_labels_present_or_sums_their_weights(name):
    sums = make(name).denominators(LABELS)
    expected = {"ldam": [OF_LABELS.sum()], "lmf": [OF_LABELS.sum(), 10]}.get(name, [10])
    if name == "ldam-drw":
        weights = np.asarray(label_effective_number_weights(POSITIVE, NEGATIVE))
        expected = [of_labels(weights).sum()]
    np.testing.assert_allclose(sums, expected, rtol=1e-6)


def test_effective_number_weights_follow_the_definition():
    beta, counts = 0.9, np.stack([NEGATIVE, POSITIVE], 1)
    raw = (1 - beta) / (1 - beta**counts)
    weights = label_effective_number_weights(POSITIVE, NEGATIVE, effective_number_beta=beta)
    np.testing.assert_allclose(weights, raw * 6 / raw.sum(), rtol=1e-6)


def test_deferred_reweighting_starts_when_it_is_due():
    drw = make("ldam-drw", drw_start=0.8)
    plain = make("ldam", form="paper")(LOGITS, LABELS)
    weights = make("ldam-drw", drw_start=0.0)(LOGITS, LABELS)
    assert abs(plain - weights) > 0.1
    for step, expected in ((79, plain), (80, weights)):
        found = jax.jit(drw)(LOGITS, LABELS, progress=TrainingProgress(step, 100))
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_with_the_cosine_head_the_focal_part_sees_scaled_cosines():
    cosines = LOGITS / 3
    objective = make("lmf", head="cosine", alpha=0.0, beta=2.0, scale=16.0)
    expected = 2 * sigmoid_focal_loss(16 * cosines, LABELS, MARGINS).sum() / 10
    np.testing.assert_allclose(objective(cosines, LABELS), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="cosine head was given with loss 'bce'"):
        make("bce", head="cosine")


OPTIONS = {
    **{"alpha": 2.0, "beta": 2.0, "gamma": 3.0, "scale": 3.0, "max_margin": 1.0, "tau": 2.0},
    **{"effective_number_beta": 0.5, "drw_start": 1.0},
}
TAKEN = {
    "bce": set(),
    "wbce": set(),
    "focal": {"gamma", "max_margin"},
    "asl": {"gamma"},
    "ral": {"gamma"},
    "ldam": {"scale", "max_margin"},
    "ldam-drw": {"scale", "max_margin", "effective_number_beta", "drw_start"},
    "lmf": {"alpha", "beta", "gamma", "scale", "max_margin"},
    "logit-adjustment": {"tau"},
    "distribution-balanced": {"gamma"},
}


@each_loss
def test_options_of_a_loss_change_it_and_all_others_are_refused(name):
    default = make(name)(LOGITS, LABELS, progress=0.9)
    for option, value in OPTIONS.items():
        if option in TAKEN[name]:
            assert make(name, **{option: value})(LOGITS, LABELS, progress=0.9) != default, option
            continue
        with pytest.raises(ValueError, match=f"{option} was given with loss '{name}', which does"):
            make(name, **{option: value})


def test_an_objective_of_a_configuration_ignores_the_options_of_other_losses():
    config = LossConfig("bce", tau=3.0, delta=0.2, drw_start=0.1)
    built = build_multilabel_objective(config, POSITIVE, NEGATIVE)
    np.testing.assert_array_equal(built(LOGITS, LABELS), make("bce")(LOGITS, LABELS))


@each_loss
def test_counts_that_change_later_change_no_objective(name):
    counts = np.array([POSITIVE, NEGATIVE], float)
    objective = make_multilabel_objective(name, *counts)
    before = objective(LOGITS, LABELS)
    counts += 300
    np.testing.assert_array_equal(objective(LOGITS, LABELS), before)


def test_a_label_without_positives_is_named_by_losses_that_need_its_count():
    for name in ("bce", "asl", "ral"):
        make_multilabel_objective(name, [5, 0, 60], NEGATIVE)
    for name in set(LOSSES) - {"bce", "asl", "ral"}:
        with pytest.raises(ValueError, match="Label 1 has no positive training example"):
            make_multilabel_objective(name, [5, 0, 60], NEGATIVE)
    make_multilabel_objective("focal", [5, 0, 60], NEGATIVE, form="paper-v1")


def test_multilabel_losses_have_names_of_their_own():
    assert make_objective("focal", [100, 20]).num_classes == 2
    assert get_loss("focal").task == "classification"
    assert get_loss("focal", "multilabel").task == "multilabel"
    for call in (partial(make_objective, "bce", [3, 4]), partial(make, "ce")):
        with pytest.raises(ValueError, match="Unknown loss"):
            call()


def test_a_loss_of_another_file_is_used_like_any_other(monkeypatch):
    monkeypatch.setattr(registry, "_LOSSES", dict(registry._LOSSES))

    @register_loss("own", task="multilabel", summary="", paper="", options=["tau"])
    def build(label_counts, config, head):
        assert label_counts.tolist() == [[95, 5], [80, 20], [40, 60]]
        return [LabelTerm(config.tau, sigmoid_cross_entropy_loss)]

    expected = 3 * make("bce")(LOGITS, LABELS)
    np.testing.assert_allclose(make("own", tau=3.0)(LOGITS, LABELS), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: make("lmf", alpha=-1.0), ValueError, r"alpha is -1\.0"),
        (lambda: make("asl", gamma="x"), TypeError, "gamma_negative is 'x'"),
        (lambda: make("ldam-drw", drw_start=1.5), ValueError, r"drw_start is 1\.5"),
        (lambda: make("lmf", form="printed"), ValueError, "Unknown form 'printed'"),
        (lambda: make("bce")(LOGITS[:, :2], LABELS[:, :2]), ValueError, r"\(4, 2\).* 3 classes"),
        (lambda: make("bce")(LOGITS, LABELS[:, 0]), ValueError, r"\(4, 3\) and labels \(4,\)"),
        (lambda: make("bce").denominators(LOGITS), TypeError, "labels are float32"),
        (
            lambda: make("bce")(LOGITS, LABELS, jnp.ones(3, bool)),
            ValueError,
            r"where has shape \(3,\) and labels \(4, 3\)",
        ),
    ],
)
def test_bad_input_is_named_before_anything_runs(call, error, message, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        call()
