import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lmf_jax.models import create_model
from lmf_jax.models.pretrained import from_torchvision
from tests.models.make_golden import NUM_CLASSES, seeded_state_dict
from tests.models.test_torchvision_parity import stored_shapes


@pytest.fixture(scope="module")
def state_dict():
    weights = seeded_state_dict(stored_shapes("resnet50"))
    return {name: np.float32(tensor) for name, tensor in weights.items()}


def test_variables_fit_the_model(state_dict):
    variables = from_torchvision("resnet50", state_dict)
    model = create_model("resnet50", num_classes=NUM_CLASSES)
    expected = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), variables) == jax.tree.map(
        lambda x: (x.shape, x.dtype), expected
    )


def test_float64_stays_float64(state_dict):
    double = {name: np.float64(tensor) for name, tensor in state_dict.items()}
    variables = from_torchvision("resnet50", double)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float64")}


def test_counters_are_ignored(state_dict):
    from_torchvision("resnet50", state_dict | {"bn1.num_batches_tracked": np.array(3)})


@pytest.mark.parametrize("num_classes", [None, NUM_CLASSES, NUM_CLASSES + 1])
def test_head_comes_along_unless_the_classes_are_others(state_dict, num_classes):
    variables = from_torchvision("resnet50", state_dict, num_classes=num_classes)
    fits = num_classes in (None, NUM_CLASSES)
    assert ("head" in variables["params"]) is fits
    if fits:
        np.testing.assert_array_equal(variables["params"]["head"]["bias"], state_dict["fc.bias"])


def test_names_of_the_published_densenet_file_are_understood():
    weights = seeded_state_dict(stored_shapes("densenet121"))
    published = {
        name.replace("norm1.", "norm.1.").replace("conv2.", "conv.2.")
        if "denselayer" in name
        else name: tensor
        for name, tensor in weights.items()
    }
    assert published.keys() != weights.keys()
    variables, expected = (from_torchvision("densenet121", w) for w in (published, weights))
    jax.tree.map(np.testing.assert_array_equal, variables, expected)


def without(state_dict, name):
    return {key: tensor for key, tensor in state_dict.items() if key != name}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda s: without(s, "layer1.0.bn2.weight"), "missing tensors: layer1.0.bn2.weight"),
        (lambda s: without(s, "fc.weight"), "missing tensors: fc.weight"),
        (lambda s: s | {"layer5.weight": np.ones(3)}, "unknown tensors: layer5.weight"),
        (lambda s: s | {"conv1.weight": np.ones((64, 3, 3, 3))}, "wrong shape.*: conv1.weight"),
        (lambda s: {}, "missing tensors: .* and 2.. more"),
    ],
    ids=["missing", "no head", "unknown", "shape", "empty"],
)
def test_state_dicts_that_do_not_fit_are_refused(state_dict, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_torchvision("resnet50", change(state_dict))


def test_models_that_torchvision_does_not_have_are_refused(state_dict):
    with pytest.raises(ValueError, match=r"'unet'; expected one of resnet50, densenet121"):
        from_torchvision("unet", state_dict)
