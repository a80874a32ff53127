import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from lmf_jax.models import create_model
from lmf_jax.models.layers import Dropout


def test_drop_rates_grow_linearly_over_the_blocks_with_a_shortcut():
    layers = []

    def record(next_method, args, kwargs, context):
        if isinstance(context.module, Dropout) and context.method_name == "__call__":
            layers.append(context.module)
        return next_method(*args, **kwargs)

    model = create_model("efficientnet_v2_s", num_classes=2)
    with nn.intercept_methods(record):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    *skips, head = layers
    assert head.rate == 0.2 and not head.whole_examples
    assert all(skip.whole_examples for skip in skips)
    first_of_wider_stages = {2, 6, 10, 16, 25}  # change the shape, have no shortcut
    expected = [0.2 * block / 40 for block in range(40) if block not in first_of_wider_stages]
    assert [skip.rate for skip in skips] == pytest.approx(expected)
