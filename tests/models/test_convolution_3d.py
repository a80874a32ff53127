import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads
from jaxtyping import config as jaxtyping_config

from lmf_jax.models.convolution_3d import convolve_volumes

SAME = {"padding": ((1, 1), (1, 1), (1, 1))}
FORMS = {
    "one channel": ((2, 3, 4, 5, 1), (3, 3, 3, 1, 4), SAME),
    "many channels": ((2, 3, 5, 5, 40), (3, 3, 3, 40, 8), SAME),
    "pointwise": ((2, 3, 5, 5, 3), (1, 1, 1, 3, 4), {}),
    "uneven": ((2, 4, 3, 5, 2), (2, 3, 1, 2, 3), {"padding": ((1, 0), (0, 2), (0, 0))}),
    "strided": ((2, 5, 7, 6, 3), (3, 3, 3, 3, 4), {**SAME, "stride": (2, 2, 2)}),
    "slices not strided": (
        (2, 4, 9, 8, 1),
        (3, 7, 7, 1, 4),
        {"padding": ((1, 1), (3, 3), (3, 3)), "stride": (1, 2, 2)},
    ),
    "strided pointwise": ((2, 5, 4, 4, 8), (1, 1, 1, 8, 4), {"stride": (2, 2, 2)}),
    "one slice": ((2, 1, 5, 5, 3), (3, 3, 3, 3, 4), SAME),
}
every_form = pytest.mark.parametrize(
    ("volumes_shape", "kernel_shape", "options"), FORMS.values(), ids=FORMS.keys()
)


def arrays(*shapes):
    generator = np.random.RandomState(0)
    return [jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in shapes]


def reference(volumes, kernel, *, stride=(1, 1, 1), padding=((0, 0),) * 3):
    dimensions = ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(volumes, kernel, stride, padding, dimension_numbers=dimensions)


def value_and_gradients(convolution, volumes, kernel):
    value, vjp = jax.vjp(convolution, volumes, kernel)
    return value, *vjp(jnp.cos(jnp.arange(value.size, dtype=jnp.float32)).reshape(value.shape))


@every_form
def test_value_and_gradients_equal_the_compiler_s_convolution(volumes_shape, kernel_shape, options):
    ours, theirs = (
        jax.jit(functools.partial(value_and_gradients, functools.partial(f, **options)))(
            *arrays(volumes_shape, kernel_shape)
        )
        for f in (convolve_volumes, reference)
    )
    for our, their in zip(ours, theirs, strict=True):
        assert our.shape == their.shape
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-5 * np.abs(their).max())


@every_form
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_their_own_convolution_and_the_cpu_does_not(
    volumes_shape, kernel_shape, options, platform
):
    traced = jax.jit(functools.partial(convolve_volumes, **options)).trace(
        *arrays(volumes_shape, kernel_shape)
    )
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    of_volumes = "[b, 0, 1, 2, f]"
    assert text.count("stablehlo.convolution(") == 1 and of_volumes in text
    assert of_volumes not in traced.lower(lowering_platforms=("cpu",)).as_text()


def test_derivatives_of_second_order():
    volumes_shape, kernel_shape, options = FORMS["one channel"]
    with jax.enable_x64(True):
        operands = [np.float64(array) for array in arrays(volumes_shape, kernel_shape)]
        convolution = jax.jit(functools.partial(convolve_volumes, **options))
        check_grads(
            lambda *a: jnp.square(convolution(*a)), operands, order=2, modes=["rev"], eps=1e-4
        )


def test_products_with_the_second_derivative_need_no_second_pass_back():
    volumes_shape, kernel_shape, options = FORMS["one channel"]
    volumes, kernel = arrays(volumes_shape, kernel_shape)

    def slope(kernel):
        return jax.grad(lambda k: jnp.square(convolve_volumes(volumes, k, **options)).sum())(kernel)

    # The slope is linear in the kernel, so its derivative along the kernel is the slope.
    np.testing.assert_allclose(
        jax.jvp(slope, (kernel,), (kernel,))[1], slope(kernel), rtol=1e-4, atol=1e-4
    )


def test_devices_share_the_batch():
    volumes_shape, kernel_shape, options = FORMS["one channel"]
    volumes, kernel = arrays((4, *volumes_shape), kernel_shape)
    gradients = functools.partial(
        value_and_gradients, functools.partial(convolve_volumes, **options)
    )
    mapped = jax.pmap(gradients, in_axes=(0, None))(volumes, kernel)
    for device in range(4):
        for a, b in zip(mapped, gradients(volumes[device], kernel), strict=True):
            np.testing.assert_allclose(a[device], b, rtol=1e-5, atol=1e-5)


def test_kernel_for_other_channels_is_refused(monkeypatch):
    # The annotations refuse it first; a user without them meets the sentence.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"does not fit 6 channels"):
        convolve_volumes(*arrays((2, 5, 5, 5, 6), (3, 3, 3, 2, 6)))


def test_strides_that_differ_within_a_slice_are_refused():
    with pytest.raises(ValueError, match=r"stride is \(1, 1, 2\); expected the same along rows"):
        convolve_volumes(*arrays((2, 5, 5, 5, 2), (3, 3, 3, 2, 6)), stride=(1, 1, 2))
