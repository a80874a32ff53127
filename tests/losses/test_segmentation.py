import doctest
import inspect
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jax.test_util import check_grads
from jaxtyping import config as jaxtyping_config

import lmf_jax.losses.compound_losses
from lmf_jax import losses
from lmf_jax.losses import loss_names

WEIGHTS = (0.5, 1.0, 2.0, 0.25, 3.0)  # by class id, as many as there are classes
DEFAULTS = {name: (name, {}) for name in loss_names("segmentation")}
VARIANTS = {
    **DEFAULTS,
    "dice, smooth": ("dice", {"smooth": 0.5}),
    "tversky, delta": ("tversky", {"delta": 0.2}),
    "tversky at delta 1/2": ("tversky", {"delta": 0.5}),
    "focal-tversky at gamma 1": ("focal-tversky", {"gamma": 1.0}),
    "focal-tversky, paper": ("focal-tversky", {"gamma": 0.4, "form": "paper"}),
    "cosine-tversky, gamma": ("cosine-tversky", {"gamma": 3, "delta": 0.4}),
    "segmentation-focal, weights": ("segmentation-focal", {"class_weights": True, "gamma": 0.7}),
    "segmentation-focal at gamma 0": ("segmentation-focal", {"gamma": 0.0}),
    "combo, weights": ("combo", {"weight": 0.2, "background_weight": 0.9}),
    "modified-focal, weights": ("modified-focal", {"background_weight": 0.3, "gamma": 1.5}),
    "modified-focal-dice, paper": ("modified-focal-dice", {"delta": 0.3, "form": "paper"}),
    "mixed-focal, weight": ("mixed-focal", {"weight": 0.3}),
    "mixed-focal, paper": ("mixed-focal", {"weight": 0.3, "form": "paper"}),
    "mixed-focal, all": (
        "mixed-focal",
        {
            "class_weights": True,
            "background_weight": 0.4,
            "delta": 0.6,
            "gamma": 1.0,
            "gamma_dice": 0.5,
            "smooth": 0.1,
        },
    ),
    "symmetric-focal, paper": ("symmetric-focal", {"form": "paper"}),
    "symmetric-focal at gamma 0": ("symmetric-focal", {"gamma": 0.0}),
    "asymmetric-focal at gamma 0": ("asymmetric-focal", {"gamma": 0.0}),
    "symmetric-focal-tversky, paper": ("symmetric-focal-tversky", {"form": "paper"}),
    "symmetric-focal-tversky at gamma 0": ("symmetric-focal-tversky", {"gamma": 0.0}),
    "asymmetric-focal-tversky, paper": ("asymmetric-focal-tversky", {"form": "paper"}),
    "asymmetric-focal-tversky at gamma 0": ("asymmetric-focal-tversky", {"gamma": 0.0}),
    "symmetric-unified-focal, paper": (
        "symmetric-unified-focal",
        {"weight": 0.3, "gamma": 0.2, "form": "paper"},
    ),
    "asymmetric-unified-focal, paper": (
        "asymmetric-unified-focal",
        {"weight": 0.3, "gamma": 0.2, "form": "paper"},
    ),
}
for kind in ("symmetric", "asymmetric"):
    whole = f"{kind}-unified-focal"
    VARIANTS[f"{whole} at weight 1"] = (whole, {"weight": 1.0})
    VARIANTS[f"{whole} at weight 0"] = (whole, {"weight": 0.0})
    for part in ("focal", "focal-tversky"):
        VARIANTS[f"{kind}-{part} of {whole}"] = (f"{kind}-{part}", {"delta": 0.6, "gamma": 0.5})


def function(name):
    return getattr(losses, name.replace("-", "_") + "_loss")


def call(variant, logits, labels, **keywords):
    name, options = VARIANTS[variant]
    if "class_weights" in options:
        options = options | {"class_weights": jnp.array(WEIGHTS[: logits.shape[-1]])}
    return function(name)(logits, labels, **options, **keywords)


# The formulas once more: one voxel, one class and one sample at a time, from probabilities


def tversky_index(p, y, c, delta=0.7, smooth=1e-6):
    tp = sum(p_i[c] for p_i, y_i in zip(p, y, strict=True) if y_i == c)
    fn = sum(1 - p_i[c] for p_i, y_i in zip(p, y, strict=True) if y_i == c)
    fp = sum(p_i[c] for p_i, y_i in zip(p, y, strict=True) if y_i != c)
    return (tp + smooth) / (tp + delta * fn + (1 - delta) * fp + smooth)


def over_classes(p, of_class, form="released"):
    values = [of_class(c) for c in range(len(p[0]))]
    return sum(values) if form == "paper" else sum(values) / len(values)


def over_voxels(p, y, weight, exponent):
    values = [
        weight(y_i) * (1 - p_i[y_i]) ** exponent(y_i) * -np.log(p_i[y_i])
        for p_i, y_i in zip(p, y, strict=True)
    ]
    return sum(values) / len(values)


def dice(p, y, smooth=1e-6):
    return over_classes(p, lambda c: 1 - tversky_index(p, y, c, 0.5, smooth))


def tversky(p, y, delta=0.7):
    return over_classes(p, lambda c: 1 - tversky_index(p, y, c, delta))


def focal_tversky(p, y, delta=0.7, gamma=0.75, form="released", smooth=1e-6):
    return over_classes(p, lambda c: (1 - tversky_index(p, y, c, delta, smooth)) ** gamma, form)


def cosine_tversky(p, y, delta=0.7, gamma=1):
    return over_classes(p, lambda c: 1 - np.cos(np.pi * tversky_index(p, y, c, delta)) ** gamma)


def modified_focal(p, y, class_weights=None, background_weight=None, gamma=2.0):
    def weight(c):
        channel = 1
        if background_weight is not None:
            channel = background_weight if c == 0 else 1 - background_weight
        return channel * (WEIGHTS[c] if class_weights else 1)

    return over_voxels(p, y, weight, lambda c: gamma)


def combo(p, y, weight=0.5, background_weight=0.5):
    cross_entropy = modified_focal(p, y, None, background_weight, gamma=0)
    return weight * cross_entropy - (1 - weight) * (1 - dice(p, y))


def mixed_focal(p, y, weight=None, form="released", delta=0.7, gamma_dice=0.75, **options):
    smooth = options.pop("smooth", 1e-6)
    overlap = focal_tversky(p, y, delta, gamma_dice, form, smooth)
    focal = modified_focal(p, y, **options)
    if weight is None:
        return overlap + focal
    return mix(overlap, focal, weight, form)


def mix(overlap, focal, weight, form):
    first, second = (focal, overlap) if form == "paper" else (overlap, focal)
    return weight * first + (1 - weight) * second


def symmetric_focal(p, y, delta=0.7, gamma=None, form="released"):
    exponent = 2.0 if gamma is None else gamma
    if form == "paper":
        exponent = 0.5 if gamma is None else 1 - gamma
    return over_voxels(p, y, lambda c: delta if c else 1 - delta, lambda c: exponent)


def asymmetric_focal(p, y, delta=0.7, gamma=2.0):
    return over_voxels(p, y, lambda c: delta if c else 1 - delta, lambda c: 0 if c else gamma)


def symmetric_focal_tversky(p, y, delta=0.7, gamma=0.75, form="released"):
    exponent = gamma if form == "paper" else 1 - gamma
    return focal_tversky(p, y, delta, exponent, form, smooth=1e-7)


def asymmetric_focal_tversky(p, y, delta=0.7, gamma=0.75, form="released"):
    def of_class(c):
        complement = 1 - tversky_index(p, y, c, delta, 1e-7)
        return complement ** (1 - gamma) if c else complement

    return over_classes(p, of_class, form)


def symmetric_unified_focal(p, y, weight=0.5, delta=0.6, gamma=0.5, form="released"):
    overlap = symmetric_focal_tversky(p, y, delta, gamma, form)
    return mix(overlap, symmetric_focal(p, y, delta, gamma, form), weight, form)


def asymmetric_unified_focal(p, y, weight=0.5, delta=0.6, gamma=0.5, form="released"):
    overlap = asymmetric_focal_tversky(p, y, delta, gamma, form)
    return mix(overlap, asymmetric_focal(p, y, delta, gamma), weight, form)


segmentation_focal, modified_focal_dice = modified_focal, focal_tversky


def reference(variant, logits, labels):
    name, options = VARIANTS[variant]
    formula = globals()[name.replace("-", "_")]
    values = []
    for z, y in zip(np.asarray(logits, np.float64), np.asarray(labels), strict=True):
        powers = np.exp(z - z.max(-1, keepdims=True)).reshape(y.size, -1)
        values.append(formula(powers / powers.sum(-1, keepdims=True), y.ravel(), **options))
    return np.array(values)


# One program for all losses, so that a shape is compiled once


@partial(jax.jit, static_argnames="variants")
def values_of(logits, labels, where=None, variants=tuple(DEFAULTS)):
    return {variant: call(variant, logits, labels, where=where) for variant in variants}


@jax.jit
def values_and_gradients(logits, labels, where):
    """Every loss, ``[B]``, and the gradient of its sum, in the shape of the logits."""

    def of(variant):
        def loss(z):
            values = call(variant, z, labels, where=where)
            return values.sum(), values

        gradient, values = jax.grad(loss, has_aux=True)(logits)
        return values, gradient

    return {variant: of(variant) for variant in DEFAULTS}


def random_maps(space, num_classes, batch=3, dtype=np.float64):
    rng = np.random.default_rng(num_classes)
    logits = 2 * rng.normal(size=(batch, *space, num_classes))
    labels = rng.integers(0, num_classes, (batch, *space))
    labels[0] = 0  # no foreground
    return logits.astype(dtype), labels.astype(np.int32)


SHAPES = [((4, 5), 2), ((5, 4), 5), ((2, 3, 4), 3), ((3, 2, 2), 4)]
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_loss = pytest.mark.parametrize("name", DEFAULTS)
every_shape = pytest.mark.parametrize(("space", "num_classes"), SHAPES, ids=str)


@cache
def variants_in_float64():
    with jax.enable_x64(True):
        logits, labels = random_maps((5, 4), 5)
        return jax.device_get(values_of(logits, labels, variants=tuple(VARIANTS)))


@cache
def results(space, num_classes):
    """Values and gradients in float32: random maps, the extremes, and all of that masked."""
    logits, labels = extremes(space, num_classes)
    where = np.arange(len(labels)) % 2 == 0
    plain = jax.device_get(values_and_gradients(logits, labels, np.ones(len(labels), bool)))
    logits[~where], labels[~where] = np.nan, 77
    return plain, jax.device_get(values_and_gradients(logits, labels, where))


def extremes(space, num_classes):
    random, labels = random_maps(space, num_classes, batch=2, dtype=np.float32)
    truth = np.eye(num_classes, dtype=np.float32)[labels[1]] * 2 - 1
    nothing, everything = np.zeros(space, np.int32), np.ones(space, np.int32)
    background, foreground = (
        np.eye(num_classes, dtype=np.float32)[y] * 2 - 1 for y in (nothing, everything)
    )
    samples = {
        "random, no foreground": (random[0], labels[0]),
        "random": (random[1], labels[1]),
        "all right": (1e4 * truth, labels[1]),
        "all wrong": (-1e4 * truth, labels[1]),
        "an empty map found": (1e4 * background, nothing),
        "an empty map missed": (1e4 * foreground, nothing),
        "a full map found": (1e4 * foreground, everything),
        "a full map missed": (1e4 * background, everything),
        "right, and float32 rounds to 1": (10 * truth, labels[1]),
        "uniform": (0 * truth, labels[1]),
    }
    logits, labels = zip(*samples.values(), strict=True)
    return np.stack(logits), np.stack(labels)


# Values

P1 = [  # probabilities of the foreground
    [
        [0.54, 0.69, 0.59, 0.54],
        [0.43, 0.63, 0.44, 0.85],
        [0.92, 0.40, 0.76, 0.53],
        [0.56, 0.88, 0.11, 0.13],
    ],
    [
        [0.07, 0.80, 0.75, 0.83],
        [0.93, 0.77, 0.47, 0.75],
        [0.16, 0.63, 0.18, 0.90],
        [0.52, 0.42, 0.29, 0.75],
    ],
]
FOREGROUND = [[(0, 2), (2, 3), (3, 3)], [(1, 1), (1, 3), (3, 0), (3, 1), (3, 3)]]
GOLDEN = {
    "dice": 0.563471182646,
    "tversky": 0.561477085442,
    "focal-tversky": 0.646671857481,
    "segmentation-focal": 0.561642432443,
    "combo": 0.031629471529,
    "symmetric-focal": 0.196810993778,
    "asymmetric-focal": 0.268898452044,
    "symmetric-focal-tversky": 0.863077184494,
    "asymmetric-focal-tversky": 0.695412973399,
    "symmetric-unified-focal": 0.554480144500,
    "asymmetric-unified-focal": 0.514354616531,
    "mixed-focal": 1.208314289924,
    "cosine-tversky": 0.824168645421,
    "modified-focal": 0.561642432443,
    "modified-focal-dice": 0.646671857481,
}


@cache
def golden(dtype):
    labels = np.zeros((2, 4, 4), np.int32)
    for label_map, pixels in zip(labels, FOREGROUND, strict=True):
        label_map[tuple(np.transpose(pixels))] = 1
    logits = np.log(np.stack([1 - np.array(P1), P1], -1)).astype(dtype)
    with jax.enable_x64(True):
        values = values_of(logits, labels)
        values["mixed-focal at 1/2"] = losses.mixed_focal_loss(logits, labels, weight=0.5)
        return {variant: value.mean() for variant, value in values.items()}


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-11), (np.float32, 3e-6)])
@pytest.mark.parametrize(
    ("variant", "expected"), [*GOLDEN.items(), ("mixed-focal at 1/2", 0.604157144962)]
)
def test_golden_values(variant, expected, dtype, rtol):
    np.testing.assert_allclose(golden(dtype)[variant], expected, rtol=rtol)


@every_variant
def test_values_follow_the_formulas(variant):
    expected = reference(variant, *random_maps((5, 4), 5))
    np.testing.assert_allclose(variants_in_float64()[variant], expected, rtol=1e-10)


@every_loss
@every_shape
def test_any_number_of_dimensions_and_classes(name, space, num_classes):
    logits, labels = extremes(space, num_classes)
    values, _ = results(space, num_classes)[0][name]
    moderate = [0, 1, 9]  # where probabilities say what log odds do
    expected = reference(name, logits[moderate], labels[moderate])
    np.testing.assert_allclose(values[moderate], expected, rtol=2e-5)


IDENTITIES = [
    ("tversky at delta 1/2", "dice"),
    ("focal-tversky at gamma 1", "tversky"),
    ("modified-focal-dice", "focal-tversky"),
    ("modified-focal", "segmentation-focal"),
    ("symmetric-focal at gamma 0", "asymmetric-focal at gamma 0"),
    ("symmetric-focal-tversky at gamma 0", "asymmetric-focal-tversky at gamma 0"),
    ("symmetric-unified-focal at weight 1", "symmetric-focal-tversky of symmetric-unified-focal"),
    ("symmetric-unified-focal at weight 0", "symmetric-focal of symmetric-unified-focal"),
    (
        "asymmetric-unified-focal at weight 1",
        "asymmetric-focal-tversky of asymmetric-unified-focal",
    ),
    ("asymmetric-unified-focal at weight 0", "asymmetric-focal of asymmetric-unified-focal"),
]


@pytest.mark.parametrize(("one", "same"), IDENTITIES)
def test_special_cases_are_other_losses(one, same):
    values = variants_in_float64()
    np.testing.assert_allclose(values[one], values[same], rtol=1e-12)


def test_mixed_focal_is_the_sum_of_its_parts():
    values = variants_in_float64()
    overlap, focal = values["modified-focal-dice"], values["modified-focal"]
    np.testing.assert_allclose(values["mixed-focal"], overlap + focal, rtol=1e-12)
    np.testing.assert_allclose(values["mixed-focal, weight"], 0.3 * overlap + 0.7 * focal)
    # As printed: the weight is that of the focal part, and the classes are added up.
    np.testing.assert_allclose(values["mixed-focal, paper"], 0.7 * 5 * overlap + 0.3 * focal)


def test_the_focal_loss_of_a_map_is_the_mean_of_its_voxels():
    logits, labels = random_maps((5, 4), 5, dtype=np.float32)
    voxels = losses.focal_loss(logits, labels, gamma=2.0)
    values = variants_in_float64()
    np.testing.assert_allclose(values["segmentation-focal"], voxels.mean((1, 2)), rtol=1e-5)
    voxels = losses.cross_entropy_loss(logits, labels)
    expected = voxels.mean((1, 2))
    np.testing.assert_allclose(values["segmentation-focal at gamma 0"], expected, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    logits=hnp.arrays(np.float32, (2, 6, 3), elements=st.floats(-60, 60, width=32)),
    labels=hnp.arrays(np.int32, (2, 6), elements=st.integers(0, 2)),
    order=st.permutations(range(6)),
    shift=st.floats(-5, 5, width=32),
)
def test_what_holds_for_all_maps(logits, labels, order, shift):
    values = values_of(logits, labels)
    same = values_of((logits + np.float32(shift))[:, order], labels[:, order])
    renamed = values_of(logits[..., [0, 2, 1]], np.array([0, 2, 1], np.int32)[labels])
    for name, value in values.items():
        lowest = -0.5 if name == "combo" else 0
        highest = 1 if name.endswith(("dice", "tversky")) else 122  # cross entropy and 1
        highest = 2 if name == "cosine-tversky" else highest
        assert (lowest - 1e-6 <= value).all() and (value <= highest * (1 + 1e-5)).all(), name
        # The order of the voxels, a number added to all logits, the names of the foreground.
        np.testing.assert_allclose(same[name], value, rtol=2e-4, atol=2e-4, err_msg=name)
        np.testing.assert_allclose(renamed[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


# Extremes and gradients


@every_loss
@every_shape
def test_value_and_gradient_are_finite_at_probabilities_of_0_and_1(name, space, num_classes):
    values, gradients = results(space, num_classes)[0][name]
    assert np.isfinite(values).all()
    assert np.isfinite(gradients).all()


@pytest.mark.parametrize("name", sorted(set(DEFAULTS) - {"cosine-tversky", "combo"}))
@every_shape
def test_a_right_map_costs_nothing_and_an_empty_one_is_one(name, space, num_classes):
    values, _ = results(space, num_classes)[0][name]
    np.testing.assert_array_equal(values[[2, 4, 6]], 0)
    assert (values[[3, 5, 7]] > 0.3).all()  # 2 wrong classes of 5, the others right


@every_shape
def test_the_cosine_rewards_what_is_wrong_as_published(space, num_classes):
    values, _ = results(space, num_classes)[0]["cosine-tversky"]
    np.testing.assert_allclose(values[2], 2, rtol=1e-6)
    np.testing.assert_allclose(values[3], 0, atol=1e-5)


VOXEL_LOSSES = [n for n in DEFAULTS if "focal" in n and "tversky" not in n and "dice" not in n]


@pytest.mark.parametrize("name", ["combo", *VOXEL_LOSSES])
@every_shape
def test_what_is_confidently_wrong_is_still_learnt_from(name, space, num_classes):
    """The code of the paper clips the probability there, and its gradient is 0."""
    _, labels = extremes(space, num_classes)
    _, gradients = results(space, num_classes)[0][name]
    of_label = np.take_along_axis(gradients[3], labels[3][..., None], -1)
    assert (of_label < -0.1 / labels[3].size).all()


@every_loss
@pytest.mark.parametrize(("space", "num_classes"), SHAPES[:2], ids=str)
def test_digits_are_kept_where_float32_rounds_to_1(name, space, num_classes):
    with jax.enable_x64(True):
        logits, labels = extremes(space, num_classes)
        expected = np.array(function(name)(logits[8:9].astype(np.float64), labels[8:9]))
    values, gradients = results(space, num_classes)[0][name]
    if name == "combo":  # next to -1/2 they are not to be kept
        expected, values = expected + 0.5, values + 0.5
    assert name == "cosine-tversky" or abs(gradients[8]).max() > 0
    np.testing.assert_allclose(values[8:9], expected, rtol=1e-4, atol=1e-6 * (name == "combo"))


@pytest.mark.parametrize(("num_classes", "modes"), [(2, ["rev"]), (3, ["fwd", "rev"])])
def test_gradients_are_those_of_finite_differences(num_classes, modes):
    with jax.enable_x64(True):
        logits, labels = random_maps((2, 3), num_classes, batch=2)

        def stacked(z):
            return jnp.stack(list(values_of(z, labels).values()))

        check_grads(stacked, (jnp.asarray(logits),), order=1, modes=modes)


def test_a_large_map_is_summed_without_loss():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(1, 512, 512, 2)).astype(np.float32) * 6
    labels = (rng.random((1, 512, 512)) < 0.01).astype(np.int32)
    variants = ("dice", "segmentation-focal", "asymmetric-unified-focal")
    values = values_of(logits, labels, variants=variants)
    with jax.enable_x64(True):
        expected = values_of(logits.astype(np.float64), labels, variants=variants)
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=3e-5, err_msg=name)


# Batches


@every_loss
@every_shape
def test_masked_samples_are_exactly_zero_and_change_nothing(name, space, num_classes):
    (plain, plain_gradients), (values, gradients) = (r[name] for r in results(space, num_classes))
    np.testing.assert_array_equal(values[1::2], 0)
    np.testing.assert_array_equal(gradients[1::2], 0)
    np.testing.assert_array_equal(values[::2], plain[::2])
    np.testing.assert_array_equal(gradients[::2], plain_gradients[::2])


def test_vmap_jit_and_one_sample_alone_give_the_same_values():
    logits, labels = random_maps((5, 4), 5, batch=4, dtype=np.float32)
    together = values_of(logits, labels)
    mapped = jax.vmap(values_of)(logits.reshape(2, 2, 5, 4, 5), labels.reshape(2, 2, 5, 4))
    for name, value in together.items():
        assert value.shape == (4,) and value.dtype == jnp.float32
        np.testing.assert_allclose(mapped[name].reshape(4), value, rtol=1e-6)
    for name in ("dice", "segmentation-focal", "mixed-focal"):  # without a jit of the caller
        alone = function(name)(logits[:1], labels[:1])
        np.testing.assert_allclose(alone, together[name][:1], rtol=1e-6)


def test_a_label_outside_the_classes_is_nan_and_never_a_number():
    logits, labels = random_maps((4, 5), 2, batch=10, dtype=np.float32)
    labels[3, 0, 0], labels[5, 3, 4] = -1, 2
    values = values_and_gradients(logits, labels, np.arange(10) != 5)
    for name, (value, _) in values.items():
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(value)), [3], err_msg=name)


def test_half_precision_is_computed_in_float32_and_narrow_labels_count():
    logits, labels = random_maps((5, 4), 5, dtype=np.float32)
    half = jnp.asarray(logits, jnp.bfloat16)
    value = losses.mixed_focal_loss(half, labels.astype(np.uint8))
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, losses.mixed_focal_loss(half.astype(np.float32), labels))


# Calls


def test_every_loss_is_exported_documented_and_reachable_by_name():
    for name in DEFAULTS:
        assert all(words in inspect.getdoc(function(name)) for words in ("Reference:", "Raises:"))


MAPS = random_maps((4, 5), 2, dtype=np.float32)
BAD_CALLS = [
    (lambda z, y: losses.dice_loss(z, y[:, :2]), ValueError, r"\(3, 4, 5, 2\).*\(3, 2, 5\)"),
    (lambda z, y: losses.dice_loss(z[:, 0, 0], y[:, 0, 0]), ValueError, r"\(3,\).*\[B, \*space\]"),
    (lambda z, y: losses.dice_loss(y[..., None], y), TypeError, "logits are int32"),
    (lambda z, y: losses.dice_loss(z, z[..., 0]), TypeError, "labels are float32"),
    (lambda z, y: losses.dice_loss(z, y, where=y > 0), ValueError, r"where has shape \(3, 4, 5\)"),
    (lambda z, y: losses.dice_loss(z, y, where=y[:, 0, 0]), TypeError, "where is int32"),
    (lambda z, y: losses.dice_loss(z, y, smooth=0), ValueError, "smooth is 0"),
    (lambda z, y: losses.tversky_loss(z, y, delta=1.1), ValueError, r"delta is 1\.1"),
    (lambda z, y: losses.focal_tversky_loss(z, y, gamma=-1), ValueError, "gamma is -1"),
    (lambda z, y: losses.focal_tversky_loss(z, y, form="old"), ValueError, "Unknown form 'old'"),
    (lambda z, y: losses.cosine_tversky_loss(z, y, gamma=0.5), ValueError, r"0\.5.*whole"),
    (lambda z, y: losses.symmetric_focal_tversky_loss(z, y, gamma=2), ValueError, "gamma is 2"),
    (lambda z, y: losses.asymmetric_focal_tversky_loss(z, y, gamma=2), ValueError, "gamma is 2"),
    (lambda z, y: losses.symmetric_focal_loss(z, y, gamma=-2), ValueError, "gamma is -2"),
    (lambda z, y: losses.symmetric_focal_loss(z, y, form="old"), ValueError, "Unknown form 'old'"),
    (
        lambda z, y: losses.symmetric_focal_loss(z, y, gamma=2, form="paper"),
        ValueError,
        "gamma is 2",
    ),
    (lambda z, y: losses.asymmetric_focal_loss(z, y, delta=-1), ValueError, "delta is -1"),
    (lambda z, y: losses.segmentation_focal_loss(z, y, gamma=-1), ValueError, "gamma is -1"),
    (
        lambda z, y: losses.segmentation_focal_loss(z, y, jnp.ones(3)),
        ValueError,
        r"class_weights has shape \(3,\)",
    ),
    (
        lambda z, y: losses.modified_focal_loss(z, y, background_weight=2),
        ValueError,
        "background_weight is 2",
    ),
    (lambda z, y: losses.combo_loss(z, y, weight=2), ValueError, "weight is 2"),
    (lambda z, y: losses.mixed_focal_loss(z, y, weight=-1), ValueError, "weight is -1"),
    (lambda z, y: losses.mixed_focal_loss(z, y, gamma_dice=-1), ValueError, "gamma is -1"),
    (
        lambda z, y: losses.symmetric_unified_focal_loss(z, y, gamma=1.5, form="paper"),
        ValueError,
        r"gamma is 1\.5",
    ),
    (
        lambda z, y: losses.asymmetric_unified_focal_loss(z, y, form="printed"),
        ValueError,
        "Unknown form 'printed'",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_input_is_named_before_anything_runs(call, error, message, monkeypatch):
    # Without the checks of the annotations, which a user does not have.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(error, match=message):
        call(*MAPS)


def test_the_examples_in_the_docstrings_hold():
    failed, tried = doctest.testmod(lmf_jax.losses.compound_losses)
    assert tried > 0
    assert failed == 0
