import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax
from jax.test_util import check_grads

from lmf_jax.models.convolution import FEW_CHANNELS, LARGE_MAP_PIXELS, convolve

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def arrays(images_shape, kernel_shape):
    generator = np.random.RandomState(0)
    return [
        jnp.asarray(generator.normal(size=s), jnp.float32) for s in (images_shape, kernel_shape)
    ]


def reference(images, kernel, *, stride=1, padding=((0, 0), (0, 0))):
    groups = images.shape[-1] // kernel.shape[2]
    return lax.conv_general_dilated(
        images,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=DIMENSIONS,
        feature_group_count=groups,
    )


def value_and_gradients(convolution, images, kernel):
    value, vjp = jax.vjp(convolution, images, kernel)
    return value, *vjp(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))


sides = st.tuples(st.integers(0, 2), st.integers(0, 2))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    image_size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel_size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.tuples(sides, sides),
    channels=st.integers(1, 5) | st.integers(FEW_CHANNELS, FEW_CHANNELS + 2),
    features=st.none() | st.integers(1, 5) | st.sampled_from((40, 88)),  # None: depthwise
)
def test_value_and_gradients_equal_the_compiler_s_convolution(
    image_size, kernel_size, stride, padding, channels, features
):
    padded = [n + sum(side) for n, side in zip(image_size, padding, strict=True)]
    assume(all(n >= k for n, k in zip(padded, kernel_size, strict=True)))
    # Where a window sees padding alone, the compiler's gradient by a 1x1 kernel is not 0.
    assume(all(max(side) < k for side, k in zip(padding, kernel_size, strict=True)))
    kernel_channels = (1, channels) if features is None else (channels, features)
    images, kernel = arrays((2, *image_size, channels), (*kernel_size, *kernel_channels))
    ours, theirs = (
        jax.jit(functools.partial(value_and_gradients, functools.partial(f, **options)))(
            images, kernel
        )
        for f, options in [
            (convolve, {"stride": stride, "padding": padding}),
            (reference, {"stride": stride, "padding": padding}),
        ]
    )
    for our, their in zip(ours, theirs, strict=True):
        assert our.shape == their.shape
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-5 * np.abs(their).max())


@pytest.mark.parametrize(
    ("side", "kernel_shape", "stride"),
    [(32, (7, 7, 3, 8), 2), (16, (3, 3, 64, 8), 2), (64, (3, 3, 3, 8), 1), (64, (3, 3, 40, 8), 1)],
)
def test_all_axes_are_in_the_order_that_xla_is_fast_for(side, kernel_shape, stride):
    """XLA turns others, but not in a loop, where it takes many times as long for them."""
    edge = kernel_shape[0] // 2
    convolution = functools.partial(convolve, stride=stride, padding=((edge, edge),) * 2)
    traced = jax.jit(functools.partial(value_and_gradients, convolution)).trace(
        *arrays((2, side, side, kernel_shape[2]), kernel_shape)
    )
    program = traced.lower(lowering_platforms=("cpu",)).as_text()
    orders = set(re.findall(r"dim_numbers = (.*?), window", program))
    assert orders == {"[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"}


@pytest.mark.parametrize(("channels", "features"), [(3, 5), (FEW_CHANNELS, 5), (5, 40)])
def test_large_maps_are_convolved_alike(channels, features):
    side = math.isqrt(LARGE_MAP_PIXELS)
    operands = arrays((1, side, side, channels), (3, 3, channels, features))
    options = {"padding": ((1, 1), (1, 0))}
    ours, theirs = (
        jax.jit(functools.partial(value_and_gradients, functools.partial(f, **options)))(*operands)
        for f in (convolve, reference)
    )
    for our, their in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-4 * np.abs(their).max())


FORMS = {
    "pointwise": ((2, 5, 5, 3), (1, 1, 3, 4), {"stride": 2}),
    "many channels to fewer": ((2, 4, 4, 40), (1, 1, 40, 8), {}),
    "many channels to more": ((2, 4, 4, 40), (1, 1, 40, 48), {}),
    "many channels, small map": ((2, 4, 4, 40), (3, 3, 40, 8), {"padding": ((1, 1), (1, 1))}),
    "many channels to fewer, large map": (
        (2, 5, 5, 40),
        (3, 3, 40, 8),
        {"padding": ((1, 1), (1, 1))},
    ),
    "small map": ((2, 4, 4, 3), (3, 3, 3, 4), {"padding": ((1, 1), (1, 1))}),
    "depthwise": ((2, 5, 5, 3), (3, 3, 1, 3), {"stride": 2, "padding": ((1, 1), (1, 1))}),
}
every_form = pytest.mark.parametrize(
    ("images_shape", "kernel_shape", "options"), FORMS.values(), ids=FORMS.keys()
)


@every_form
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_their_own_convolution_and_the_cpu_does_not(
    images_shape, kernel_shape, options, platform
):
    traced = jax.jit(functools.partial(convolve, **options)).trace(
        *arrays(images_shape, kernel_shape)
    )
    assert "convolution" in traced.lower(lowering_platforms=(platform,)).as_text()
    assert "convolution" not in traced.lower(lowering_platforms=("cpu",)).as_text()


@every_form
def test_derivatives_of_second_order(images_shape, kernel_shape, options):
    with jax.enable_x64(True):
        operands = [np.float64(array) for array in arrays(images_shape, kernel_shape)]
        convolution = jax.jit(functools.partial(convolve, **options))
        check_grads(
            lambda *a: jnp.square(convolution(*a)), operands, order=2, modes=["rev"], eps=1e-4
        )


@every_form
def test_products_with_the_second_derivative_need_no_second_pass_back(
    images_shape, kernel_shape, options
):
    images, kernel = arrays(images_shape, kernel_shape)

    def slope(kernel):
        return jax.grad(lambda k: jnp.square(convolve(images, k, **options)).sum())(kernel)

    # The slope is linear in the kernel, so its derivative along the kernel is the slope.
    np.testing.assert_allclose(
        jax.jvp(slope, (kernel,), (kernel,))[1], slope(kernel), rtol=1e-4, atol=1e-4
    )


@every_form
def test_rematerialised_gradient_is_the_same(images_shape, kernel_shape, options):
    operands = arrays(images_shape, kernel_shape)
    convolution = functools.partial(convolve, **options)
    plain = value_and_gradients(convolution, *operands)
    rematerialised = value_and_gradients(jax.checkpoint(convolution), *operands)
    for a, b in zip(plain, rematerialised, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@every_form
def test_devices_share_the_batch(images_shape, kernel_shape, options):
    images, kernel = arrays((4, *images_shape), kernel_shape)
    gradients = functools.partial(value_and_gradients, functools.partial(convolve, **options))
    mapped = jax.pmap(gradients, in_axes=(0, None))(images, kernel)
    for device in range(4):
        for a, b in zip(mapped, gradients(images[device], kernel), strict=True):
            np.testing.assert_allclose(a[device], b, rtol=1e-5, atol=1e-5)


def test_kernel_for_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"does not fit 6 channels"):
        convolve(*arrays((2, 5, 5, 6), (3, 3, 2, 6)))
