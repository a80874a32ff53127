import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import config as jaxtyping_config

from lmf_jax.distributed.devices import CPU_COMPILER_OPTIONS
from lmf_jax.models import create_model
from lmf_jax.models.architectures.unet import ConvBlock, UNet, UpConv

WIDTH = 4
DEPTHS = {2: 2, 3: 1}
SIZES = {2: (14, 12), 3: (4, 5, 6)}
"""Sides that are odd at some level, by the number of dimensions."""
CLASSES = {2: 3, 3: 2}
CHANNELS = {2: 3, 3: 1}
BATCH = 4

both = pytest.mark.parametrize("dims", [2, 3])


def tiny_unet(dims, **settings):
    return create_model("unet", num_classes=CLASSES[dims], spatial_dims=dims, **settings).clone(
        features=WIDTH, depth=DEPTHS[dims]
    )


def images(dims, dtype=np.float32):
    return np.random.RandomState(0).normal(size=(BATCH, *SIZES[dims], CHANNELS[dims])).astype(dtype)


def cotangent(dims, dtype=np.float32):
    shape = (BATCH, *SIZES[dims], CLASSES[dims])
    return np.random.RandomState(1).normal(size=shape).astype(dtype)


@functools.cache
def tiny_params(dims):
    """Weights as large as those that a U-Net starts with; norms and biases are not 1 and 0."""
    variables, _ = shapes(tiny_unet(dims), 1, *SIZES[dims], CHANNELS[dims])
    random = np.random.RandomState(2)
    params = {}
    for path, leaf in flatten_dict(variables["params"]).items():
        values = random.normal(size=leaf.shape).astype(np.float32)
        fan_in = leaf.size / leaf.shape[-1]
        params[path] = values * fan_in**-0.5 if leaf.ndim > 1 else 0.1 * values
        params[path] += np.float32(path[-1] == "scale")
    return unflatten_dict(params)


def logits_and_gradients(model, params, images, cotangent):
    logits, vjp = jax.vjp(lambda p, x: model.apply({"params": p}, x, train=True), params, images)
    return logits, *vjp(cotangent)


@functools.cache
def in_double(dims):
    with jax.enable_x64(True):
        step = functools.partial(logits_and_gradients, tiny_unet(dims, dtype=jnp.float64))
        batch = images(dims, np.float64), cotangent(dims, np.float64)
        params = jax.tree.map(np.float64, tiny_params(dims))
        return jax.device_get(jax.jit(step)(params, *batch))


def shapes(model, *shape):
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))
    return variables, jax.eval_shape(model.apply, variables, jnp.zeros(shape))


@pytest.mark.parametrize(
    ("size", "num_classes"),
    [((32, 32), 2), ((100, 75), 3), ((16, 24, 40), 4), ((80, 160, 160), 5)],
    ids=str,
)
def test_logits_have_the_size_of_the_images(num_classes, size):
    model = create_model("unet", num_classes=num_classes, spatial_dims=len(size))
    variables, logits = shapes(model, 2, *size, 4)
    assert variables.keys() == {"params"}
    assert logits.shape == (2, *size, num_classes)
    assert logits.dtype == jnp.float32


@both
def test_number_of_parameters(dims):
    """Written out by level, as the architecture is described."""

    def block(channels, features):
        return 3**dims * features * (channels + features) + 2 * 2 * features

    expected = block(4, 32) + block(32, 64) + block(64, 128) + block(128, 256) + block(256, 512)
    for features in (256, 128, 64, 32):
        expected += 2**dims * 2 * features * features + features + block(2 * features, features)
    expected += 32 * 3 + 3
    model = create_model("unet", num_classes=3, spatial_dims=dims)
    variables, _ = shapes(model, 1, *(32,) * dims, 4)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == expected


# Parity with PyTorch


def torch_unet(torch, dims):
    """Return the same architecture in typical PyTorch."""
    nn = torch.nn
    conv, up, norm, pool = {
        2: (nn.Conv2d, nn.ConvTranspose2d, nn.InstanceNorm2d, nn.MaxPool2d),
        3: (nn.Conv3d, nn.ConvTranspose3d, nn.InstanceNorm3d, nn.MaxPool3d),
    }[dims]

    def block(channels, features):
        return nn.Sequential(
            conv(channels, features, 3, padding=1, bias=False),
            norm(features, affine=True),
            nn.ReLU(),
            conv(features, features, 3, padding=1, bias=False),
            norm(features, affine=True),
            nn.ReLU(),
        )

    class TorchUNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.levels = range(1, DEPTHS[dims] + 1)
            self.pool = pool(2, ceil_mode=True)
            channels = CHANNELS[dims]
            for level in self.levels:
                width = WIDTH * 2 ** (level - 1)
                setattr(self, f"down{level}", block(channels, width))
                setattr(self, f"up{level}", up(2 * width, width, 2, stride=2))
                setattr(self, f"merge{level}", block(2 * width, width))
                channels = width
            self.bottom = block(channels, 2 * channels)
            self.head = conv(WIDTH, CLASSES[dims], 1)

        def forward(self, x):
            skips = []
            for level in self.levels:
                skips.append(getattr(self, f"down{level}")(x))
                x = self.pool(skips[-1])
            x = self.bottom(x)
            for level in reversed(self.levels):
                skip = skips.pop()
                x = getattr(self, f"up{level}")(x)[(..., *map(slice, skip.shape[2:]))]
                x = getattr(self, f"merge{level}")(torch.cat([skip, x], 1))
            return self.head(x)

    return TorchUNet().double()


def torch_place(path):
    """Name in PyTorch of the parameter at a path."""
    *modules, leaf = path
    place = {"conv1": "0", "norm1": "1", "conv2": "3", "norm2": "4"}
    names = [place.get(module, module) for module in modules]
    return ".".join([*names, "bias" if leaf == "bias" else "weight"])


def to_torch_layout(path, array):
    """`[*kernel, in, out]` to `[out, in, *kernel]`; transposed convolutions have `[in, out]`."""
    if array.ndim == 1:
        return array
    order = (-2, -1) if path[-2].startswith("up") else (-1, -2)
    return np.moveaxis(array, order, (0, 1))


@both
def test_logits_and_gradients_are_those_of_pytorch(dims):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    peer = torch_unet(torch, dims)
    params = flatten_dict(jax.tree.map(np.float64, tiny_params(dims)))
    weights = {torch_place(path): to_torch_layout(path, p) for path, p in params.items()}
    shaped = {name: p.shape for name, p in peer.state_dict().items()}
    peer.load_state_dict(
        {name: torch.from_numpy(w.copy()).reshape(shaped[name]) for name, w in weights.items()}
    )
    pixels = torch.from_numpy(images(dims, np.float64)).movedim(-1, 1).requires_grad_()
    theirs = peer(pixels)
    theirs.backward(torch.from_numpy(cotangent(dims, np.float64)).movedim(-1, 1))

    logits, gradients, by_images = in_double(dims)
    assert_close(logits, theirs.detach().movedim(1, -1).numpy(), 1e-8)
    assert_close(by_images, pixels.grad.movedim(1, -1).numpy(), 1e-6)
    found = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    assert len(found) == len(params)
    for path, gradient in flatten_dict(gradients).items():
        expected = found[torch_place(path)]
        ours = to_torch_layout(path, gradient).reshape(expected.shape)
        assert np.abs(expected).max() > 1e-3, path
        assert_close(ours, expected, 1e-6)


@both
def test_up_convolutions_are_those_of_pytorch(dims):
    torch = pytest.importorskip("torch", reason="compares with torch, which is not installed")
    maps = np.random.RandomState(0).normal(size=(2, *(2, 3, 4)[:dims], 5)).astype(np.float32)
    up = UpConv(6)
    params = up.init(jax.random.key(0), jnp.asarray(maps))["params"]
    params = {"kernel": params["kernel"], "bias": jnp.arange(6.0)}
    peer = {2: torch.nn.ConvTranspose2d, 3: torch.nn.ConvTranspose3d}[dims](5, 6, 2, stride=2)
    kernel = to_torch_layout(("up", "kernel"), np.array(params["kernel"]))
    peer.weight.data, peer.bias.data = torch.from_numpy(kernel), torch.arange(6.0)
    theirs = peer(torch.from_numpy(maps).movedim(-1, 1)).detach().movedim(1, -1)
    ours = up.apply({"params": params}, jnp.asarray(maps))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-5, atol=1e-5)


def assert_close(ours, theirs, tolerance):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


# Types, memory, devices


def test_four_devices_compute_what_one_does():
    dims = 2
    with jax.enable_x64(True):
        model = tiny_unet(dims, dtype=jnp.float64, axis_name="batch")
        step = functools.partial(logits_and_gradients, model)
        mapped = jax.pmap(step, axis_name="batch", in_axes=(None, 0, 0))
        params = jax.tree.map(np.float64, tiny_params(dims))
        arguments = params, *(array(dims, np.float64)[:, None] for array in (images, cotangent))
        compiled = mapped.lower(*arguments).compile()
        logits, gradients, by_images = jax.device_get(compiled(*arguments))
    expected_logits, expected_gradients, expected_by_images = in_double(dims)
    assert_close(logits[:, 0], expected_logits, 1e-9)
    assert_close(by_images[:, 0], expected_by_images, 1e-9)
    jax.tree.map(
        lambda shares, whole: assert_close(shares.sum(0), whole, 1e-9),
        gradients,
        expected_gradients,
    )


@both
def test_nothing_crosses_devices(dims):
    model = tiny_unet(dims, axis_name="batch")
    step = functools.partial(logits_and_gradients, model)
    mapped = jax.pmap(step, axis_name="batch", in_axes=(None, 0, 0))
    shards = images(dims)[:, None], cotangent(dims)[:, None]
    assert "psum" not in str(jax.make_jaxpr(mapped)(tiny_params(dims), *shards))


def test_bfloat16_computes_in_half_and_keeps_the_rest_in_float32():
    model = tiny_unet(2, dtype=jnp.bfloat16)
    step = functools.partial(logits_and_gradients, model)
    arguments = tiny_params(2), images(2), cotangent(2)
    outputs = jax.eval_shape(step, *arguments)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(outputs)} == {"float32"}
    program = str(jax.make_jaxpr(model.apply)({"params": tiny_params(2)}, images(2)))
    assert "preferred_element_type=bfloat16" in program
    assert "rsqrt" in program
    for line in program.splitlines():
        if "rsqrt" in line:
            assert "f32" in line and "bf16" not in line
    half, whole = (
        jax.jit(m.apply)({"params": tiny_params(2)}, images(2)) for m in (model, tiny_unet(2))
    )
    assert 0 < np.abs(half - whole).max() < 0.1 * np.abs(whole).max()


@both
def test_float64_is_float64_throughout(dims):
    with jax.enable_x64(True):
        model = tiny_unet(dims, dtype=jnp.float64)
        inputs = images(dims, np.float64)
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {"float64"}
        assert "f32" not in str(jax.make_jaxpr(model.apply)(variables, inputs))


def test_rematerialised_blocks_give_the_same_and_keep_less():
    memory, results = [], []
    for remat in (False, True):
        step = functools.partial(logits_and_gradients, tiny_unet(2, remat=remat))
        arguments = tiny_params(2), images(2), cotangent(2)
        compiled = jax.jit(step).lower(*arguments).compile(CPU_COMPILER_OPTIONS)
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
        results.append(compiled(*arguments))
    assert memory[1] < memory[0]
    for kept, computed_again in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(kept, computed_again, rtol=1e-4, atol=1e-4)


@both
@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_accelerators_get_their_own_convolutions(dims, platform):
    model = tiny_unet(dims)
    traced = jax.jit(model.apply).trace({"params": tiny_params(dims)}, images(dims))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution(") == 5 * DEPTHS[dims] + 2


# What a user does


def test_kernels_start_with_the_variance_that_keeps_that_of_the_maps():
    """2 / fan in before a ReLU (He et al. 2015, arXiv 1502.01852), else 1 / fan in."""
    maps = jnp.zeros((1, 4, 4, 40))
    kernel = ConvBlock(30).init(jax.random.key(0), maps)["params"]["conv1"]["kernel"]
    assert np.std(kernel) == pytest.approx((2 / (9 * 40)) ** 0.5, rel=0.05)
    kernel = UpConv(30).init(jax.random.key(0), maps)["params"]["kernel"]
    assert np.std(kernel) == pytest.approx(40**-0.5, rel=0.05)


@both
def test_a_small_problem_is_learnt_in_a_few_steps(dims):
    inputs = jnp.asarray(images(dims))
    labels = (inputs[..., 0] > 0).astype(jnp.int32)
    model, optimizer = tiny_unet(dims), optax.sgd(0.3, momentum=0.9)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = model.apply({"params": params}, inputs, train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    params = tiny_params(dims)
    state = optimizer.init(params)
    values = []
    for _ in range(40):
        params, state, value = step(params, state)
        values.append(float(value))
    assert values[0] > 0.5 > 0.1 > values[-1], values


def test_a_sample_alone_gives_the_same_logits():
    apply = jax.jit(tiny_unet(2).apply)
    variables = {"params": tiny_params(2)}
    together = apply(variables, images(2))
    np.testing.assert_allclose(
        together[1:2], apply(variables, images(2)[1:2]), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (jnp.zeros((2, 32, 32, 3), jnp.uint8), r"floating-point images \[batch, height, width, ch"),
        (jnp.zeros((2, 32, 32, 32, 1)), r"expected normalized floating-point images"),
        (jnp.zeros((2, 16, 12, 3)), "16x12 leave one pixel after 4 halvings.*more than 16"),
    ],
    ids=["uint8", "volumes", "too small"],
)
def test_other_images_are_refused(array, sentence, monkeypatch):
    # The annotations refuse these first; a user without them meets the sentence.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=sentence):
        create_model("unet", num_classes=2).init(jax.random.key(0), array)


def test_what_does_not_apply_is_refused():
    assert isinstance(create_model("unet", num_classes=2), UNet)
    for settings in ({"head": "cosine"}, {"freeze_backbone": True}):
        with pytest.raises(
            ValueError, match="linear head, no backbone to freeze, and takes images alone"
        ):
            create_model("unet", num_classes=2, **settings)
    with pytest.raises(ValueError, match="resnet50 takes no spatial_dims=3"):
        create_model("resnet50", num_classes=2, spatial_dims=3)
