from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from lmf_jax import class_margins, focal_loss, ldam_loss, losses
from lmf_jax.losses import (
    TrainingProgress,
    effective_number_weights,
    loss_names,
    make_objective,
)
from lmf_jax.losses.registry import cosine_losses
from lmf_jax.losses.training_progress import first_step, has_reached
from tests.helpers.spread import spread

LOSSES = loss_names("classification")
SEGMENTATION_LOSSES = loss_names("segmentation")
COUNTS = [100, 20, 5]
LOGITS = jnp.array([[2, 0.5, -1], [0.1, 0.3, 0.2], [-0.4, 1.2, 0.9], [1, -1, 0.8]])
LABELS = jnp.array([0, 1, 2, 2])

GOLDEN = [
    ("ldam", {}, 15.8533730308),
    ("ldam", {"scale": 1.0}, 1.1032403180),
    ("focal", {}, 0.1527994055),
    ("focal", {"form": "paper-v1"}, 0.3456899636),
    ("lmf", {}, 16.0061724363),
    ("lmf", {"alpha": 1.5}, 23.9328589517),
    ("lmf", {"form": "paper"}, 1.1597731360),
    ("lmf", {"form": "paper-v1"}, 1.3526636942),
    ("ce", {}, 0.7693132095),
    ("bwcce", {}, 0.8954503369),
    ("bwcce", {"form": "paper"}, 0.3313166247),
    ("wcce", {}, 0.9115434653),
    ("wcce", {"form": "paper"}, 4.3678124377),
]


@pytest.mark.parametrize(("name", "settings", "expected"), GOLDEN)
def test_golden_values(name, settings, expected):
    objective = make_objective(name, COUNTS, **settings)
    np.testing.assert_allclose(objective(LOGITS, LABELS), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(objective)(LOGITS, LABELS), expected, rtol=1e-6)


def test_the_released_lmf_equals_the_authors_two_reductions_in_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(64, 7)) * 2, requires_grad=True)
    labels = torch.tensor(rng.integers(0, 7, 64))
    counts = [4693, 779, 769, 360, 229, 100, 81]
    margins = torch.tensor(counts).double() ** -0.25
    margins = margins * 0.5 / margins.max()
    one_hot = torch.nn.functional.one_hot(labels, 7)
    ldam = torch.nn.functional.cross_entropy(
        30 * (logits - margins * one_hot), labels, weight=margins
    )
    log_p = torch.log_softmax(logits, -1).gather(1, labels[:, None])[:, 0]
    focal = (-margins[labels] * (1 - log_p.exp()) ** 1.5 * log_p).mean()
    loss = 1.0 * ldam + 0.5 * focal
    loss.backward()

    with jax.enable_x64(True):
        objective = make_objective("lmf", counts, beta=0.5)
        value, gradient = jax.value_and_grad(objective)(
            jnp.asarray(logits.detach().numpy()), jnp.asarray(labels.numpy())
        )
        np.testing.assert_allclose(value, loss.item(), rtol=1e-12)
        np.testing.assert_allclose(gradient, logits.grad, rtol=1e-9, atol=1e-14)


def batch(size: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(size)
    logits = jnp.asarray(rng.normal(size=(size, 3)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 3, size), jnp.int32)
    where = jnp.asarray(rng.random(size) < 0.7).at[:3].set(False)  # one device sees only padding
    return logits.at[0].set(jnp.nan), labels.at[1].set(-5), where


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, "released") for name in LOSSES] + [("lmf", "paper"), ("lmf", "paper-v1")],
)
@pytest.mark.parametrize("devices", [1, 2, 3, 4])
def test_any_number_of_devices_gives_the_value_and_gradient_of_the_whole(name, form, devices):
    weights = {"alpha": 1.0, "beta": 0.5} if name == "lmf" else {}
    objective = make_objective(name, COUNTS, form=form, **weights)
    logits, labels, where = batch(12)
    expected = jax.value_and_grad(objective)(logits, labels, where)

    def share(z, y, w):
        return jax.value_and_grad(partial(objective, axis_name="batch"))(z, y, w)

    values, gradients = spread(share, devices)(logits, labels, where)
    np.testing.assert_allclose(values.sum(), expected[0], rtol=1e-6)
    # Each device holds the gradient of its own rows.
    np.testing.assert_allclose(gradients.reshape(12, 3), expected[1], rtol=1e-6, atol=1e-7)


# Four devices with four rows each, in two micro-batches: the even rows and the odd ones.
EMPTY_CLASSES = {
    "the rare class on one device, which has no other": [2, 2, 2, 2] + [0, 1, 0, 0] * 3,
    "one example of the rare class": [0, 1, 0, 0] * 3 + [0, 1, 2, 0],
    "the rare class in one micro-batch": [2, 0, 2, 1] * 4,
    "no rare class": [0, 1, 0, 0] * 4,
    "no frequent class": [1, 2, 1, 2] * 4,
    "a class for each micro-batch": [1, 2] * 8,
    "the rare class alone": [2] * 16,
}


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, "released") for name in LOSSES]
    + [("wcce", "paper"), ("bwcce", "paper"), ("lmf", "paper"), ("lmf", "paper-v1")],
)
def test_classes_that_devices_micro_batches_or_batches_lack(name, form):
    objective = make_objective(name, COUNTS, form=form)
    late = {"progress": 0.9}  # when the weights of ldam-drw hold

    def share(logits, labels):
        denominators = objective.denominators(labels, axis_name="batch", **late)

        def micro_batches(z):
            pairs = [(z[i::2], labels[i::2]) for i in (0, 1)]
            values = [objective(*pair, denominators=denominators, **late) for pair in pairs]
            return sum(values)

        return jax.value_and_grad(micro_batches)(logits)

    one, four = jax.jit(jax.value_and_grad(partial(objective, **late))), spread(share, 4)
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(16, 3)), jnp.float32)
    for words, labels in EMPTY_CLASSES.items():
        expected = one(logits, jnp.array(labels))
        values, gradients = four(logits, jnp.array(labels))
        assert np.isfinite(gradients).all(), words
        assert 0 < expected[0] < np.inf, words
        np.testing.assert_allclose(values.sum(), expected[0], rtol=1e-6, err_msg=words)
        gradients = gradients.reshape(16, 3)
        np.testing.assert_allclose(gradients, expected[1], rtol=1e-6, atol=1e-7, err_msg=words)


@pytest.mark.parametrize("name", LOSSES)
def test_a_masked_batch_is_the_batch_without_the_masked(name):
    objective = make_objective(name, COUNTS)
    logits, labels, where = batch(12)
    left_out = objective(logits[where], labels[where])
    np.testing.assert_allclose(objective(logits, labels, where), left_out, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_fully_masked_batch_is_zero_with_zero_gradient(name):
    objective = make_objective(name, COUNTS)
    nothing = jnp.zeros(4, bool)
    value, gradient = jax.value_and_grad(objective)(LOGITS * jnp.nan, LABELS, nothing)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("name", LOSSES)
def test_micro_batches_add_up_with_the_denominators_of_the_whole(name):
    objective = make_objective(name, COUNTS)
    denominators = objective.denominators(LABELS)
    parts = [
        objective(LOGITS[i : i + 2], LABELS[i : i + 2], denominators=denominators) for i in (0, 2)
    ]
    np.testing.assert_allclose(sum(parts), objective(LOGITS, LABELS), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "form"), [*((name, "released") for name in LOSSES), ("lmf", "paper")]
)
def test_a_mask_over_images_masks_dense_maps(name, form):
    objective = make_objective(name, COUNTS, form=form)
    logits = jnp.stack([LOGITS, LOGITS * jnp.nan]).reshape(2, 2, 2, 3)
    labels = jnp.stack([LABELS, LABELS - 7]).reshape(2, 2, 2)
    value = objective(logits, labels, jnp.array([True, False]))
    np.testing.assert_allclose(value, objective(LOGITS, LABELS), rtol=1e-6)


def test_deferred_reweighting_starts_when_it_is_due():
    drw = make_objective("ldam-drw", COUNTS, drw_start=0.8)
    plain = make_objective("ldam", COUNTS, form="paper", scale=30.0)
    np.testing.assert_allclose(drw(LOGITS, LABELS, progress=0.79), plain(LOGITS, LABELS), rtol=1e-6)
    margins = class_margins(COUNTS)
    weights = effective_number_weights(COUNTS)[LABELS]
    values = ldam_loss(LOGITS, LABELS, margins)
    expected = (weights * values).sum() / weights.sum()
    np.testing.assert_allclose(drw(LOGITS, LABELS, progress=0.8), expected, rtol=1e-6)


def test_with_the_cosine_head_the_focal_part_sees_scaled_cosines():
    cosines = LOGITS / 3
    margins = class_margins(COUNTS)
    objective = make_objective("lmf", COUNTS, head="cosine", alpha=0.0, beta=2.0, scale=16.0)
    expected = 2 * focal_loss(16.0 * cosines, LABELS, margins).mean()
    np.testing.assert_allclose(objective(cosines, LABELS), expected, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - set(cosine_losses())))
def test_the_cosine_head_is_refused_by_losses_without_a_scale(name):
    with pytest.raises(ValueError, match=r"cosine head.*ldam, ldam-drw, lmf"):
        make_objective(name, COUNTS, head="cosine")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lmfl", {}, "Unknown loss 'lmfl'; expected one of ce, wcce"),
        ("lmf", {"form": "printed"}, "Unknown form 'printed'"),
        ("lmf", {"head": "sphere"}, "Unknown head 'sphere'"),
        ("lmf", {"alpha": -1.0}, r"alpha is -1\.0"),
        ("lmf", {"beta": float("nan")}, "beta is nan"),
        ("lmf", {"gamma": -0.5}, r"gamma is -0\.5"),
        ("lmf", {"scale": 0.0}, r"scale is 0\.0"),
        ("lmf", {"max_margin": 0.0}, r"max_margin is 0\.0"),
        ("logit-adjustment", {"tau": -1.0}, r"tau is -1\.0"),
        ("ldam-drw", {"drw_start": 1.5}, r"drw_start is 1\.5"),
        ("class-balanced", {"effective_number_beta": 1.0}, r"effective_number_beta is 1\.0"),
    ],
)
def test_settings_out_of_range_are_refused(name, settings, message, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        make_objective(name, COUNTS, **settings)


def test_a_class_without_training_examples_is_named():
    with pytest.raises(ValueError, match="Class 1 has 0 training examples"):
        make_objective("ce", [10, 0, 5])


def test_logits_of_other_classes_than_the_counts_are_refused():
    objective = make_objective("wcce", [100, 20])
    with pytest.raises(ValueError, match=r"\(4, 3\).* 2 classes"):
        objective(jnp.zeros((4, 3)), jnp.zeros(4, jnp.int32))


def test_a_batch_that_does_not_fit_is_named_before_its_weights_are_looked_up(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    objective, logits = make_objective("lmf", [100, 20, 5]), jnp.zeros((4, 3))
    with pytest.raises(TypeError, match="labels are float32"):
        objective(logits, jnp.zeros(4))
    with pytest.raises(ValueError, match=r"where has shape \(3,\) and labels \(4,\)"):
        objective(logits, jnp.zeros(4, jnp.int32), jnp.ones(3, bool))


def shares_of(total):
    return {
        "steps": lambda step: TrainingProgress(step, total),
        "share": lambda step: step / total,
    }


@pytest.mark.parametrize("progress", ["steps", "share"])
@pytest.mark.parametrize("total", [100, 200, 13_900, 46_200, 2_000_000])
def test_deferred_weights_begin_at_their_step(total, progress):
    """In float32, 80 / 100 is a little less than 0.8."""
    objective, labels = make_objective("ldam-drw", [100, 20]), jnp.array([0, 1, 1])
    progress = shares_of(total)[progress]
    sums = jax.jit(lambda step: objective.denominators(labels, progress=progress(step))[0])
    first = total * 4 // 5
    assert sums(first - 1) == 3
    assert sums(first) != 3


@pytest.mark.parametrize(
    ("share", "total", "first"),
    [
        (2 / 3, 3, 2),  # it is written as 0.6666666666666666, which is less
        (0.6666667, 3, 3),
        (0.6666666, 3, 2),
        (0.29, 100, 29),
        (0.07, 100, 7),
        (0.0, 9, 0),
        (1.0, 2_000_000_000, 2_000_000_000),
        (0.8, 2_000_000_000, 1_600_000_000),
    ],
)
def test_the_first_step_of_a_share_is_exact(share, total, first):
    assert first_step(share, total) == first


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.8, 0.1, 0.29, 0.57, 0.6666667, 0.333, 0.0, 1.0])
def test_deferred_weights_begin_exactly_under_jit_for_every_total(start):
    decimal = {0.8: (4, 5), 0.1: (1, 10), 0.29: (29, 100), 0.57: (57, 100), 0.333: (333, 1000)}
    numerator, denominator = decimal.get(start, (round(start * 10**7), 10**7))
    totals = [*range(1, 1001), 13_860, 46_200, 1_386_000, 2_000_000, 99_999_999]
    first = [-(-total * numerator // denominator) for total in totals]
    steps = np.array(first)[:, None] + [-1, 0, 1]

    @jax.jit
    def reached(steps):
        rows = zip(steps, totals, strict=True)
        return jnp.stack([has_reached(TrainingProgress(row, total), start) for row, total in rows])

    np.testing.assert_array_equal(reached(steps), np.broadcast_to([False, True, True], steps.shape))


@pytest.mark.parametrize("name", LOSSES)
def test_counts_that_change_later_change_no_objective(name):
    counts = np.array(COUNTS, float)
    objective = make_objective(name, counts)
    before = objective(LOGITS, LABELS)
    counts += [0, 300, 20]
    np.testing.assert_array_equal(objective(LOGITS, LABELS), before)


@pytest.mark.parametrize("form", ["released", "paper", "paper-v1"])
def test_cosines_have_a_scale_to_learn_from_in_every_form(form):
    objective = make_objective("lmf", [100, 20], form=form, head="cosine")
    right = objective(jnp.array([[1.0, -1.0]]), jnp.array([0]))
    assert right < 1e-6


# Losses of segmentation: a value per sample

MAPS = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2, 3, 3)), jnp.float32)
LABEL_MAPS = jnp.asarray(np.random.default_rng(1).integers(0, 3, (8, 2, 3)), jnp.int32)
# Of four devices with two samples each, one sees only padding.
SAMPLES = jnp.array([True, True, False, False, True, False, True, True])


@pytest.mark.parametrize("name", SEGMENTATION_LOSSES)
@pytest.mark.parametrize("form", ["released", "paper", "paper-v1"])
def test_a_loss_of_segmentation_is_averaged_over_the_samples(name, form):
    loss = getattr(losses, name.replace("-", "_") + "_loss")
    if form != "released" and "form" in loss.__annotations__:
        loss = partial(loss, form="paper")
    objective = make_objective(name, COUNTS, form=form)
    np.testing.assert_array_equal(objective.denominators(LABEL_MAPS, SAMPLES), [5])
    np.testing.assert_array_equal(objective.denominators(LABEL_MAPS), [8])
    maps = jnp.where(SAMPLES[:, None, None, None], MAPS, jnp.nan)
    expected = loss(MAPS, LABEL_MAPS)[SAMPLES].mean()
    np.testing.assert_allclose(objective(maps, LABEL_MAPS, SAMPLES), expected, rtol=1e-6)


def test_losses_of_segmentation_on_devices_and_in_micro_batches():
    objectives = {name: make_objective(name, COUNTS) for name in SEGMENTATION_LOSSES}

    def of_batch(logits, labels, where):
        return {
            name: jax.value_and_grad(objective)(logits, labels, where)
            for name, objective in objectives.items()
        }

    def of_share(logits, labels, where):
        def micro_batches(objective, z):
            denominators = objective.denominators(labels, where, axis_name="batch")
            parts = [
                objective(
                    z[i : i + 1],
                    labels[i : i + 1],
                    where[i : i + 1],
                    "batch",
                    denominators=denominators,
                )
                for i in (0, 1)
            ]
            return sum(parts)

        return {
            name: jax.value_and_grad(partial(micro_batches, objective))(logits)
            for name, objective in objectives.items()
        }

    maps = jnp.where(SAMPLES[:, None, None, None], MAPS, jnp.nan)
    expected = jax.jit(of_batch)(maps, LABEL_MAPS, SAMPLES)
    shares = spread(of_share, 4)(maps, LABEL_MAPS, SAMPLES)
    for name, (value, gradient) in expected.items():
        values, gradients = shares[name]
        np.testing.assert_allclose(values.sum(), value, rtol=1e-6, atol=1e-7, err_msg=name)
        gradients = gradients.reshape(gradient.shape)
        np.testing.assert_allclose(gradients, gradient, rtol=1e-5, atol=1e-8, err_msg=name)
        np.testing.assert_array_equal(gradients[~SAMPLES], 0)


def test_a_fully_masked_batch_of_maps_is_zero_with_zero_gradient():
    objective = make_objective("asymmetric-unified-focal", COUNTS)
    nothing = jnp.zeros(8, bool)
    value, gradient = jax.value_and_grad(objective)(MAPS * jnp.nan, LABEL_MAPS, nothing)
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("tversky", {"delta": 0.5}, losses.dice_loss),
        ("focal-tversky", {"gamma": 1.0}, losses.tversky_loss),
        ("combo", {"weight": 0.0}, lambda z, y: losses.dice_loss(z, y) - 1),
        (
            "asymmetric-unified-focal",
            {"weight": 1.0, "gamma": 0.2},
            partial(losses.asymmetric_focal_tversky_loss, delta=0.6, gamma=0.2),
        ),
        (
            "asymmetric-unified-focal",
            {"weight": 1.0, "form": "paper"},
            partial(losses.asymmetric_focal_loss, delta=0.6, gamma=0.5),
        ),
        (
            "mixed-focal",
            {"weight": 0.0, "background_weight": 0.5},
            lambda z, y: losses.segmentation_focal_loss(z, y) / 2,
        ),
        ("dice", {"form": "paper", "gamma": None}, losses.dice_loss),
    ],
)
def test_options_reach_the_losses_that_have_them(name, settings, expected):
    value = make_objective(name, COUNTS, **settings)(MAPS, LABEL_MAPS)
    np.testing.assert_allclose(value, expected(MAPS, LABEL_MAPS).mean(), rtol=1e-5)


OPTIONS = {
    **{"alpha": 1.0, "beta": 1.0, "gamma": 1.0, "delta": 0.5, "weight": 0.5, "scale": 30.0},
    **{"background_weight": 0.5, "max_margin": 0.5, "tau": 1.0, "drw_start": 0.8},
    "effective_number_beta": 0.9999,
}
OF_CLASSIFICATION = {
    "ce": set(),
    "wcce": set(),
    "bwcce": set(),
    "focal": {"gamma", "max_margin"},
    "ldam": {"scale", "max_margin"},
    "ldam-drw": {"scale", "max_margin", "effective_number_beta", "drw_start"},
    "lmf": {"alpha", "beta", "gamma", "scale", "max_margin"},
    "balanced-softmax": set(),
    "logit-adjustment": {"tau"},
    "class-balanced": {"effective_number_beta"},
}


@pytest.mark.parametrize("name", [*LOSSES, *SEGMENTATION_LOSSES])
def test_options_that_a_loss_does_not_have_are_refused_and_all_others_taken(name):
    if name in LOSSES:
        taken = OF_CLASSIFICATION[name]
    else:
        function = getattr(losses, name.replace("-", "_") + "_loss")
        taken = set(OPTIONS) & set(function.__annotations__)
    make_objective(name, COUNTS, **{option: OPTIONS[option] for option in taken})
    make_objective(name, COUNTS, **dict.fromkeys(OPTIONS))
    for option in set(OPTIONS) - taken:
        with pytest.raises(ValueError, match=f"{option} was given with loss '{name}', which does"):
            make_objective(name, COUNTS, **{option: OPTIONS[option]})


def test_a_refused_option_is_one_sentence_that_names_who_has_it():
    with pytest.raises(ValueError) as error:
        make_objective("ce", COUNTS, tau=3.0)
    assert str(error.value) == (
        "tau was given with loss 'ce', which does not have it; leave it out, or choose a loss that "
        "has it: logit-adjustment."
    )
    with pytest.raises(
        ValueError, match=r"loss 'focal' in form 'paper-v1'.*has it: ldam, ldam-drw"
    ):
        make_objective("focal", COUNTS, form="paper-v1", max_margin=0.5)


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_of_a_loss_of_classification_changes_it(name):
    other = {"alpha": 2.0, "beta": 2.0, "gamma": 3.0, "scale": 3.0, "max_margin": 1.0, "tau": 2.0}
    other |= {"effective_number_beta": 0.5, "drw_start": 1.0}
    default = make_objective(name, COUNTS)(LOGITS, LABELS, progress=0.9)
    for option in OF_CLASSIFICATION[name]:
        changed = make_objective(name, COUNTS, **{option: other[option]})
        assert changed(LOGITS, LABELS, progress=0.9) != default, option


def test_the_gamma_of_a_loss_is_its_own_unless_it_is_given():
    given = make_objective("focal", COUNTS, gamma=1.5)
    np.testing.assert_array_equal(
        make_objective("focal", COUNTS)(LOGITS, LABELS), given(LOGITS, LABELS)
    )
    own = make_objective("segmentation-focal", COUNTS)(MAPS, LABEL_MAPS)
    given = make_objective("segmentation-focal", COUNTS, gamma=2.0)(MAPS, LABEL_MAPS)
    np.testing.assert_array_equal(own, given)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("dise", {}, "Unknown loss 'dise'; expected one of ce, .*, dice, tversky"),
        ("tversky", {"delta": 1.5}, r"delta is 1\.5"),
        ("asymmetric-unified-focal", {"gamma": 1.5}, r"gamma is 1\.5; expected .*\[0, 1\]"),
        ("cosine-tversky", {"gamma": 1.5}, r"gamma is 1\.5; expected a whole number"),
        ("mixed-focal", {"weight": -0.5}, r"weight is -0\.5"),
        ("combo", {"background_weight": 7.0}, r"background_weight is 7\.0"),
        ("dice", {"head": "cosine"}, "cosine head was given with loss 'dice'"),
        ("dice", {"form": "printed"}, "Unknown form 'printed'"),
    ],
)
def test_settings_of_segmentation_out_of_range_are_refused(name, settings, message, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=message):
        make_objective(name, COUNTS, **settings)


def test_a_mask_over_voxels_is_refused_where_a_sample_has_one_value(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    objective, voxels = make_objective("dice", COUNTS), LABEL_MAPS > 0
    for call in (partial(objective, MAPS), objective.denominators):
        with pytest.raises(ValueError, match=r"where has shape \(8, 2, 3\) and labels \(8, 2, 3\)"):
            call(LABEL_MAPS, voxels)
    with pytest.raises(ValueError, match=r"labels have shape \(4,\)"):
        objective(LOGITS, LABELS)
