"""``resnet18_3d`` computes what torchvision's ``r3d_18`` computes from the same weights."""

import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from lmf_jax.models import create_model
from tests.models.make_golden import seeded_state_dict

NUM_CLASSES = 7
RENAMES = (
    ("^head/", "fc."),
    ("^backbone/", ""),
    ("^conv1/conv/", "stem.0."),
    ("^conv1/norm/", "stem.1."),
    (r"layer(\d)_(\d+)/", r"layer\1.\2."),
    (r"(conv\d|downsample)/conv/", r"\1.0."),
    (r"(conv\d|downsample)/norm/", r"\1.1."),
    ("(kernel|scale)$", "weight"),
    ("mean$", "running_mean"),
    ("var$", "running_var"),
)
"""From the path of a variable to the name of the tensor."""

LAYOUTS = {5: (2, 3, 4, 1, 0), 2: (1, 0), 1: (0,)}
"""Order of the axes of a tensor here, by its number of axes."""


def make_model(dtype=jnp.float32):
    return create_model("resnet18_3d", num_classes=NUM_CLASSES, dtype=dtype)


def torch_name(path):
    name = "/".join(path[1:])
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def volumes(channels=3, size=(8, 32, 48)):
    return np.random.RandomState(0).normal(0, 1, (2, *size, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def torchvision_model():
    """Return torchvision's model with seeded weights, its weights, and a function to tensors."""
    with warnings.catch_warnings():
        # Said where torchvision or NumPy is not of the installed torch.
        warnings.filterwarnings(
            "ignore", "Failed to (load image Python extension|initialize NumPy)"
        )
        torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
        video = pytest.importorskip(
            "torchvision.models.video", reason="compares with torchvision, not installed"
        )

    def tensor(array):
        return torch.frombuffer(bytearray(array.tobytes()), dtype=torch.float32).view(array.shape)

    model = video.r3d_18(weights=None, num_classes=NUM_CLASSES)
    counted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    shapes = {key: shape for key, shape in counted.items() if "num_batches" not in key}
    weights = {key: np.float32(value) for key, value in seeded_state_dict(shapes).items()}
    model.load_state_dict({key: tensor(value) for key, value in weights.items()}, strict=False)
    return model, weights, tensor


def assert_close(ours, theirs, tolerance):
    theirs = np.array(theirs.tolist())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.slow
def test_logits_and_statistics_equal_torchvision_s(torchvision_model):
    theirs, weights, tensor = torchvision_model
    ours, inputs = make_model(), volumes()
    empty = flatten_dict(jax.eval_shape(ours.init, jax.random.key(0), inputs))
    names = {path: torch_name(path) for path in empty}
    assert sorted(names.values()) == sorted(weights)
    flat = {
        path: weights[name].transpose(LAYOUTS[weights[name].ndim]) for path, name in names.items()
    }
    assert {path: leaf.shape for path, leaf in flat.items()} == {
        path: leaf.shape for path, leaf in empty.items()
    }
    variables, of_torch = unflatten_dict(flat), tensor(inputs.transpose(0, 4, 1, 2, 3))
    assert_close(jax.jit(ours.apply)(variables, inputs), theirs.eval()(of_torch), 1e-4)
    train = jax.jit(lambda *args: ours.apply(*args, train=True, mutable=["batch_stats"]))
    logits, updates = train(variables, inputs)
    assert_close(logits, theirs.train()(of_torch), 1e-4)
    state = theirs.state_dict()
    for path, value in flatten_dict(updates).items():
        assert_close(value, state[names[path]], 1e-4)


def test_initial_weights_have_torchvision_s_number_and_distribution():
    params = jax.jit(make_model().init)(jax.random.key(0), volumes())["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 33_169_863
    kernel = params["backbone"]["layer1_0"]["conv1"]["conv"]["kernel"]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (64 * 27)), rel=0.02)
    assert np.std(params["head"]["kernel"]) == pytest.approx(0.01, rel=0.1)
    assert not params["head"]["bias"].any()


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 32, 32)), (3, (1, 7, 9))])
def test_shapes_follow_from_the_volume(channels, size):
    model, images = make_model(), volumes(channels, size)
    maps = jax.eval_shape(
        lambda images: model.init_with_output(jax.random.key(0), images, method="features")[0],
        images,
    )
    # Slices are halved by three stages, rows and columns by the first convolution as well.
    depth, height, width = (-(-n // by) for n, by in zip(size, (8, 16, 16), strict=True))
    assert maps.shape == (2, depth, height, width, 512)


def test_images_are_refused():
    with pytest.raises(
        ValueError, match=r"expected normalized .*\[batch, depth, height, width, ch"
    ):
        make_model().init(jax.random.key(0), jnp.asarray(volumes()[:, 0]))
    with pytest.raises(ValueError, match="resnet18_3d takes no spatial_dims=2; choose one of"):
        create_model("resnet18_3d", num_classes=2, spatial_dims=2)
