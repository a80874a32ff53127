import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from lmf_jax.models.classifier import Classifier, CosineHead
from tests.helpers.tiny_architectures import NUM_CLASSES, create_tiny_model


def normal(*shape, seed=0):
    return jnp.asarray(np.random.RandomState(seed).normal(size=shape), jnp.float32)


@pytest.fixture(scope="module")
def cosine_head():
    head = CosineHead(NUM_CLASSES)
    return head, head.init(jax.random.key(0), normal(1, 8))


def test_cosine_head_gives_cosines(cosine_head):
    head, variables = cosine_head
    features, kernel = normal(4, 8), variables["params"]["kernel"]
    norms = np.linalg.norm(features, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)[None]
    np.testing.assert_allclose(
        head.apply(variables, features), features @ kernel / norms, atol=1e-6
    )


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_cosine_head_ignores_lengths_and_stays_within_one(cosine_head, scale):
    head, variables = cosine_head
    along = variables["params"]["kernel"].T
    cosines = head.apply(variables, scale * along)
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-6)
    assert np.abs(cosines).max() <= 1
    np.testing.assert_allclose(cosines, head.apply(variables, along), atol=1e-6)


def test_cosine_head_has_a_finite_gradient_at_zero(cosine_head):
    head, variables = cosine_head
    zero = jnp.zeros((2, 8))
    np.testing.assert_array_equal(head.apply(variables, zero), 0)
    gradients = jax.grad(lambda *a: jnp.sum(head.apply(*a)), argnums=(0, 1))(variables, zero)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    assert max(jnp.abs(leaf).max() for leaf in jax.tree.leaves(gradients)) < 1e3


def test_call_is_features_then_classify():
    model = create_tiny_model("resnet50")
    images = normal(2, 32, 32, 3)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    maps = model.apply(variables, images, method=Classifier.features)
    assert maps.shape == (2, 4, 4, model.backbone.num_features)  # stride 8
    logits = model.apply(variables, maps, method=Classifier.classify)
    np.testing.assert_allclose(logits, model.apply(variables, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [jnp.zeros((2, 32, 32, 3), jnp.uint8), jnp.zeros((32, 32, 3)), jnp.zeros((2, 3, 32, 32))],
    ids=["uint8", "one image", "channels first"],
)
def test_images_of_another_kind_are_refused(images, monkeypatch):
    # The annotations refuse these first; a user without them meets the sentence below.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    model = create_tiny_model("resnet50")
    with pytest.raises(ValueError, match="expected normalized floating-point images"):
        model.init(jax.random.key(0), images)
