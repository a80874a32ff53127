from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from safetensors.numpy import save_file

from lmf_jax.errors import UserError
from lmf_jax.models import create_model, pretrained
from lmf_jax.models.normalization import NORMALIZATIONS, normalize_images
from lmf_jax.models.pretrained import from_keras, from_timm, from_torchvision, load_pretrained
from lmf_jax.models.registry import get_model
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


def assert_source_may_change(convert, tensors):
    """Change every tensor in place; the variables, as JAX arrays too, stay as they were."""
    variables = convert(tensors)
    on_device = jax.tree.map(jnp.asarray, variables)
    before = jax.tree.map(np.array, variables)
    for tensor in tensors.values():
        tensor += 1
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(on_device), before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_that_change_later_change_no_variable(state_dict, dtype):
    own = {name: np.array(tensor, dtype) for name, tensor in state_dict.items()}
    assert_source_may_change(lambda tensors: from_torchvision("resnet50", tensors), own)
    keras = {name: np.array(tensor, dtype) for name, tensor in keras_tensors().items()}
    assert_source_may_change(lambda tensors: from_keras("resnet50_v1", tensors), keras)


def test_a_torch_model_that_trains_on_changes_no_variable(state_dict):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    own = {name: torch.tensor(tensor) for name, tensor in state_dict.items()}
    assert_source_may_change(lambda tensors: from_torchvision("resnet50", tensors), own)


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


def test_a_file_of_the_backbone_alone_has_no_head(state_dict):
    backbone = {name: tensor for name, tensor in state_dict.items() if not name.startswith("fc.")}
    variables = from_torchvision("resnet50", backbone, num_classes=3)
    assert set(variables["params"]) == {"backbone"}
    without_top = {name: x for name, x in keras_tensors().items() if not name.startswith("fc")}
    assert set(from_keras("resnet50_v1", without_top)["params"]) == {"backbone"}


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
    with pytest.raises(
        ValueError, match=r"'unet'; expected one of densenet121, efficientnet_v2_s, resnet50"
    ):
        from_torchvision("unet", state_dict)


def test_timm_s_efficientnet_is_a_model_by_itself(tmp_path):
    """The same weights would give other logits in torchvision's, which pads otherwise."""
    weights = seeded_state_dict(stored_shapes("tf_efficientnetv2_s"))
    save_file(weights, tmp_path / "timm.safetensors")
    variables = load_pretrained(str(tmp_path / "timm.safetensors"), "tf_efficientnetv2_s")
    np.testing.assert_allclose(
        variables["params"]["backbone"]["stage4_0"]["depthwise"]["conv"]["kernel"][..., 0, :],
        np.moveaxis(weights["blocks.3.0.conv_dw.weight"][:, 0], 0, -1),
    )
    with pytest.raises(UserError, match=r"are timm's.*; give --model tf_efficientnetv2_s\."):
        load_pretrained(str(tmp_path / "timm.safetensors"), "efficientnet_v2_s")
    with pytest.raises(ValueError, match=r"timm's tf_efficientnetv2_s; missing .*blocks.0.0.bn1"):
        from_timm("tf_efficientnetv2_s", seeded_state_dict(stored_shapes("efficientnet_v2_s")))
    with pytest.raises(
        ValueError, match=r"weights for 'resnet50'; expected .* tf_efficientnetv2_s"
    ):
        from_timm("resnet50", weights)


def keras_tensors(num_classes=NUM_CLASSES, name="resnet50_v1"):
    """Random weights in Keras' names, from the shapes of our own tree."""
    model = create_model(name, num_classes=num_classes)
    keras = get_model(name).keras
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    rng = np.random.default_rng(0)
    tensors = {}
    for path, leaf in flatten_dict(shapes).items():
        name = pretrained._keras_name(keras, path)
        tensors[name] = rng.random(leaf.shape, np.float32)
        if path[-2] == "conv":
            tensors[name.replace("/kernel", "/bias")] = rng.random(leaf.shape[-1:], np.float32)
    return tensors


def test_keras_names_are_those_of_its_first_resnet():
    names = keras_tensors()
    assert len(names) == 320
    assert {"conv1/kernel", "bn_conv1/gamma", "res2a_branch1/kernel", "fc1000/bias"} < set(names)
    assert {"res4f_branch2c/bias", "bn5c_branch2b/moving_variance"} < set(names)
    assert set(keras_tensors(name="resnet50_keras")) == set(stored_shapes("resnet50_keras"))


def test_a_keras_bias_of_another_shape_is_refused_and_not_spread_over_the_mean():
    tensors = keras_tensors() | {
        "conv1/bias": np.zeros(10**6, np.float32),
        "bn_conv1/moving_mean": np.zeros((10**6, 1), np.float32),
    }
    with pytest.raises(ValueError, match="conv1/bias and bn_conv1/moving_mean differ in their"):
        from_keras("resnet50_v1", tensors)


def test_a_keras_bias_moves_the_running_mean():
    tensors = keras_tensors()
    variables = from_keras("resnet50_v1", tensors)
    np.testing.assert_allclose(
        variables["batch_stats"]["backbone"]["layer2_1"]["conv3"]["norm"]["mean"],
        tensors["bn3b_branch2c/moving_mean"] - tensors["res3b_branch2c/bias"],
    )
    assert variables["params"]["head"]["bias"].shape == (NUM_CLASSES,)


def test_keras_weights_are_for_the_model_whose_layers_they_name():
    with pytest.raises(ValueError, match=r"of Keras' first ResNet-50; give --model resnet50_v1, n"):
        from_keras("resnet50", keras_tensors())
    later = keras_tensors(name="resnet50_keras")
    with pytest.raises(
        ValueError, match=r"Keras 2\.3; give --model resnet50_keras, not resnet50_v1"
    ):
        from_keras("resnet50_v1", later)
    with pytest.raises(
        ValueError, match=r"none of its models here \(resnet50_keras, resnet50_v1\)"
    ):
        from_keras("resnet50_v1", {"block1_conv1/kernel": np.zeros(1, np.float32)})


def test_keras_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="missing tensors: bn2a_branch1/gamma"):
        from_keras("resnet50_v1", without(keras_tensors(), "bn2a_branch1/gamma"))


def test_files_are_known_by_their_names(tmp_path, state_dict):
    np.savez(tmp_path / "keras.npz", **keras_tensors())
    save_file(state_dict, tmp_path / "torchvision.safetensors")
    for name, model in (("keras.npz", "resnet50_v1"), ("torchvision.safetensors", "resnet50")):
        variables = load_pretrained(str(tmp_path / name), model)
        assert set(variables) == {"params", "batch_stats"}
    with pytest.raises(UserError, match=r"keras.npz cannot be used: .* give --model resnet50_v1"):
        load_pretrained(str(tmp_path / "keras.npz"), "resnet50")
    with pytest.raises(UserError, match=r"torchvision.safetensors cannot be used: .* missing"):
        load_pretrained(str(tmp_path / "torchvision.safetensors"), "densenet121")


KERAS_FILE = Path(__file__).parents[3] / "shared/weights/resnet50_keras_imagenet.npz"


@pytest.mark.skipif(not KERAS_FILE.exists(), reason=f"{KERAS_FILE.name} does not lie beside")
def test_the_real_weights_recognise_a_cat():
    skimage = pytest.importorskip("skimage.data", reason="has the cat, and is not installed")
    photo = Image.fromarray(skimage.chelsea()[:, 75:375]).resize((224, 224))
    variables = load_pretrained(str(KERAS_FILE), "resnet50_v1")
    model = create_model("resnet50_v1", num_classes=1000)
    images = jnp.asarray(np.asarray(photo)[None])
    inputs = normalize_images(images, NORMALIZATIONS["caffe"], jnp.float32)
    logits = np.asarray(jax.jit(model.apply)(variables, inputs))[0]
    assert logits.argmax() == 285  # Egyptian cat
