"""Grad-CAM against its definition and PyTorch hooks; mask scores against manual results."""

import functools
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config
from PIL import Image

from lmf_jax.evaluation.classification.gradcam import (
    energy_inside,
    grad_cam,
    hottest_slices,
    pointing_game,
    resize_heat,
)
from lmf_jax.models import create_model
from lmf_jax.models.classifier import Classifier, LinearHead
from lmf_jax.models.pretrained import from_torchvision
from tests.helpers.tiny_architectures import MODELS, NUM_CLASSES, create_tiny_model
from tests.models import make_golden
from tests.models.test_torchvision_parity import stored_shapes

CLASS_IDS = jnp.array([3, 0, 3])


def random_images(size=48):
    return np.random.RandomState(0).normal(size=(len(CLASS_IDS), size, size, 3))


def random_variables(model, images):
    """Return random weights and statistics that keep activations near 1."""
    rng = np.random.RandomState(1)

    def draw(leaf):
        if leaf.ndim == 1:
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        return jnp.asarray(rng.normal(0, np.prod(leaf.shape[:-1]) ** -0.5, leaf.shape), leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), images))


@functools.cache
def tiny_case(name, head="linear"):
    """Return model, variables, last feature maps and heat in float64."""
    with jax.enable_x64(True):
        model = create_tiny_model(name, dtype=jnp.float64, head=head)
        images = jnp.asarray(random_images())
        variables = random_variables(model, images)
        features = functools.partial(model.apply, method=Classifier.features)
        maps = jax.jit(features)(variables, images)
        return model, variables, maps, np.asarray(grad_cam_of(model, variables, images))


def grad_cam_of(model, variables, images, class_ids=CLASS_IDS):
    return grad_cam(model, variables, jnp.asarray(images), jnp.asarray(class_ids))


def weighted_channels(maps, gradient):
    """Compute Eq. 1 and 2 for one image, channel by channel."""
    heat = np.zeros(maps.shape[:2])
    for k in range(maps.shape[2]):
        alpha = sum(gradient[i, j, k] for i, j in np.ndindex(heat.shape)) / heat.size
        heat += alpha * maps[:, :, k]
    return np.maximum(heat, 0)


def assert_same_heat(heat, expected):
    assert heat.shape == expected.shape
    assert np.abs(expected).max() > 0
    assert np.abs(heat - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("name", MODELS)
def test_heat_of_every_model_is_that_of_the_definition(name):
    model, variables, maps, heat = tiny_case(name)

    def score(maps, class_id):
        return model.apply(variables, maps[None], method=Classifier.classify)[0, class_id]

    with jax.enable_x64(True):
        gradients = [jax.grad(score)(m, c) for m, c in zip(maps, CLASS_IDS, strict=True)]
    pairs = zip(np.asarray(maps), np.asarray(gradients), strict=True)
    assert np.isfinite(heat).all()
    assert_same_heat(heat, np.stack([weighted_channels(*pair) for pair in pairs]))


def test_heat_of_volumes_is_that_of_the_definition():
    model = create_model("resnet18_3d", num_classes=NUM_CLASSES)
    model = model.clone(backbone=model.backbone.clone(stage_sizes=(1, 1), width=4))
    volumes = jnp.asarray(np.random.RandomState(0).normal(size=(3, 8, 16, 16, 1)), jnp.float32)
    variables = random_variables(model, volumes)
    maps = model.apply(variables, volumes, method=Classifier.features)

    def scores(maps):
        logits = model.apply(variables, maps, method=Classifier.classify)
        return jnp.take_along_axis(logits, CLASS_IDS[:, None], 1).sum()

    weights = np.asarray(jax.grad(scores)(maps)).mean((1, 2, 3), keepdims=True)
    expected = np.maximum((np.asarray(maps) * weights).sum(-1), 0)
    heat = grad_cam_of(model, variables, volumes)
    assert heat.shape == (3, 4, 4, 4) and expected.max() > 0
    np.testing.assert_allclose(heat, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_heat_is_that_of_finite_differences():
    # The cosine head, whose logits are nonlinear in the maps.
    model, variables, maps, heat = tiny_case("resnet50", "cosine")
    one, class_id, step = np.asarray(maps[0]), int(CLASS_IDS[0]), 1e-5
    moves = step * np.eye(one.size).reshape(-1, *one.shape)
    with jax.enable_x64(True):
        moved = jnp.asarray(np.concatenate([one + moves, one - moves]))
        logits = model.apply(variables, moved, method=Classifier.classify)
    up, down = np.split(np.asarray(logits)[:, class_id], 2)
    gradient = ((up - down) / (2 * step)).reshape(one.shape)
    assert_same_heat(heat[0], weighted_channels(one, gradient))


class CoarseBackbone(nn.Module):
    """A user-defined model of two convolutions."""

    dtype: jnp.dtype

    @nn.compact
    def __call__(self, images, train):
        x = nn.relu(nn.Conv(4, (3, 3), strides=4, dtype=self.dtype)(images))
        return nn.Conv(8, (3, 3), strides=4, dtype=self.dtype)(x)


@functools.cache
def coarse_case(dtype=jnp.float32):
    head = LinearHead(NUM_CLASSES, nn.initializers.normal())
    model = Classifier(CoarseBackbone(dtype), head, dropout_rate=0.5)
    images = jnp.asarray(random_images(), dtype)
    return model, model.init(jax.random.key(0), images), images


def test_heat_depends_only_on_the_image_and_its_class():
    model, variables, images = coarse_case()
    heat = grad_cam_of(model, variables, images)
    for i in range(len(images)):
        alone = grad_cam_of(model, variables, images[i : i + 1], CLASS_IDS[i : i + 1])
        np.testing.assert_allclose(alone[0], heat[i], rtol=1e-5, atol=1e-7)
    others = grad_cam_of(model, variables, images, CLASS_IDS.at[0].set(1))
    assert np.abs(others[0] - heat[0]).max() > 1e-3
    np.testing.assert_array_equal(others[1:], heat[1:])


def test_heat_is_nonnegative_and_computed_in_full_precision():
    model, variables, images = coarse_case(jnp.bfloat16)
    heat = grad_cam_of(model, variables, images)
    assert heat.dtype == jnp.float32
    assert heat.min() >= 0 and (heat == 0).any()


def test_an_unknown_class_has_no_heat():
    model, variables, images = coarse_case()
    heat = grad_cam_of(model, variables, images, jnp.array([0, -1, NUM_CLASSES]))
    assert np.isfinite(heat[0]).all() and np.isnan(heat[1:]).all()


def test_heat_is_that_of_hooks_in_torch():
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    with warnings.catch_warnings():
        # torchvision warns if its image extension does not match the installed torch.
        warnings.filterwarnings("ignore", "Failed to load image Python extension")
        torchvision = pytest.importorskip("torchvision", reason="compares with torchvision")
    torch.set_num_threads(1)  # Several threads wait for each other on a busy machine.
    weights = make_golden.seeded_state_dict(stored_shapes("resnet50"))
    images = random_images(size=64)

    theirs = torchvision.models.resnet50(num_classes=make_golden.NUM_CLASSES).double().eval()
    tensors = {name: torch.tensor(weight) for name, weight in weights.items()}
    theirs.load_state_dict(tensors, strict=False)
    kept = {}
    theirs.layer4.register_forward_hook(lambda *call: kept.update(maps=call[2]))
    theirs.layer4.register_full_backward_hook(lambda *call: kept.update(gradient=call[2][0]))
    logits = theirs(torch.tensor(images.transpose(0, 3, 1, 2).copy()).requires_grad_())
    logits[torch.arange(len(images)), torch.tensor(np.array(CLASS_IDS))].sum().backward()
    alpha = kept["gradient"].mean(dim=(2, 3), keepdim=True)
    expected = torch.relu((alpha * kept["maps"]).sum(dim=1)).detach().numpy()

    with jax.enable_x64(True):
        model = create_model("resnet50", num_classes=make_golden.NUM_CLASSES, dtype=jnp.float64)
        heat = grad_cam_of(model, from_torchvision("resnet50", weights), images)
    assert_same_heat(np.asarray(heat), expected)


def random_heat(*shape):
    return np.random.RandomState(2).uniform(size=shape).astype(np.float32)


def test_heat_is_enlarged_as_images_are_and_scaled():
    heat = 7 * random_heat(2, 3, 4)
    shares = np.asarray(resize_heat(heat, 24, 40))
    np.testing.assert_allclose(shares.max((1, 2)), 1, rtol=1e-6)
    for mine, map_ in zip(shares, heat, strict=True):
        expected = np.asarray(Image.fromarray(map_).resize((40, 24), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(mine, expected / expected.max(), rtol=1e-5)


def test_the_hottest_slice_of_a_volume_is_that_with_the_largest_sum():
    heat = np.zeros((2, 2, 3, 4), np.float32)
    heat[0, 0] = 0.5
    heat[0, 1, 1, 1] = 4  # the maximum, but not the largest sum
    heat[1, 1, 0] = 1
    index, slices = hottest_slices(heat, 8)
    assert index.tolist() == [0, 6]
    np.testing.assert_allclose(slices, [heat[0, 0], heat[1, 1]])
    none, empty = hottest_slices(heat[:0], 8)
    assert none.shape == (0,) and empty.shape == (0, 3, 4)


def test_heat_of_zeros_stays_zero():
    heat = np.stack([np.zeros((2, 2), np.float32), np.full((2, 2), 1e-30, np.float32)])
    np.testing.assert_allclose(resize_heat(heat, 4, 4)[0], 0)
    np.testing.assert_allclose(resize_heat(heat, 4, 4)[1], 1, rtol=1e-6)


def left_half(batch, height, width):
    mask = np.zeros((batch, height, width), bool)
    mask[:, :, : width // 2] = True
    return mask


def test_energy_is_the_fraction_of_the_heat_in_the_mask():
    heat = np.array([[[1, 2, 0, 1]], [[0, 0, 0, 5]], [[3, 3, 3, 3]]], np.float32)
    np.testing.assert_allclose(energy_inside(heat, left_half(3, 1, 4)), [0.75, 0, 0.5])


def test_energy_without_a_mask_or_heat_is_nan():
    heat = np.array([[[1, 2]], [[0, 0]]], np.float32)
    mask = np.array([[[False, False]], [[True, False]]])
    assert np.isnan(energy_inside(heat, mask)).all()


def test_pointing_game_finds_whether_the_maximum_is_inside():
    heat = np.array([[[1, 3, 0, 2]], [[0, 0, 1, 0]]], np.float32)
    mask = np.array([[[True, True, True, False]], [[True, True, False, False]]])
    game = pointing_game(heat, mask)
    np.testing.assert_array_equal(game.hit, [1, 0])
    np.testing.assert_allclose(game.chance, [0.75, 0.5])


def test_equal_maxima_count_by_their_fraction():
    heat = np.array([[[5, 0, 5, 5]]], np.float32)
    np.testing.assert_allclose(pointing_game(heat, left_half(1, 1, 4)).hit, [1 / 3])


@pytest.mark.parametrize("cell", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_no_corner_is_favored_over_another(cell):
    # The outer 8x8 pixels of a resized corner are flat, and 4x4 of them lie in the mask.
    heat = np.zeros((1, 2, 2), np.float32)
    heat[0][cell] = 0.3
    middle = np.zeros((1, 32, 32), bool)
    middle[0, 4:28, 4:28] = True
    hit = pointing_game(resize_heat(heat, 32, 32), middle).hit
    np.testing.assert_allclose(hit, [0.25])


def test_pointing_game_without_a_mask_or_heat_is_nan():
    heat = np.array([[[1, 2]], [[0, 0]]], np.float32)
    mask = np.array([[[False, False]], [[True, False]]])
    game = pointing_game(heat, mask)
    assert np.isnan(game.hit).all()
    np.testing.assert_array_equal(game.chance, [np.nan, 0.5])


@pytest.mark.parametrize("tolerance", [0, 1, 4, 9])
def test_tolerance_is_a_distance_from_the_mask(tolerance):
    mask = np.random.RandomState(3).uniform(size=(12, 17)) > 0.97
    rows, columns = np.indices(mask.shape)
    squares = [(rows - r) ** 2 + (columns - c) ** 2 for r, c in np.argwhere(mask)]
    near = np.min(squares, axis=0) <= tolerance**2
    heat = np.zeros((mask.size, *mask.shape), np.float32)
    heat[np.arange(mask.size), rows.ravel(), columns.ravel()] = 1  # One game for each pixel.
    game = pointing_game(heat, np.broadcast_to(mask, heat.shape), tolerance=tolerance)
    np.testing.assert_array_equal(game.hit, near.ravel())
    np.testing.assert_allclose(game.chance, near.mean(), rtol=1e-6)


def test_scores_are_those_of_compiled_functions():
    heat, mask = random_heat(3, 6, 6), left_half(3, 6, 6)
    scores = energy_inside(heat, mask), *pointing_game(heat, mask, tolerance=1)
    compiled = jax.jit(energy_inside)(heat, mask)
    game = jax.jit(functools.partial(pointing_game, tolerance=1))(heat, mask)
    for score, other in zip(scores, (compiled, *game), strict=True):
        np.testing.assert_allclose(score, other, rtol=1e-6)


def test_wrong_arguments_are_named(monkeypatch):
    # Runtime type checks come first in tests; users without them get this error.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    heat, mask = random_heat(1, 4, 4), left_half(1, 6, 6)
    for score in (energy_inside, pointing_game):
        with pytest.raises(ValueError, match=r"shape \(1, 4, 4\) and mask \(1, 6, 6\)"):
            score(heat, mask)
    with pytest.raises(ValueError, match="tolerance is -1"):
        pointing_game(heat, left_half(1, 4, 4), tolerance=-1)
