"""Softplus, accurate to the last digits for all arguments, and so are its derivatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def softplus(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return log(1 + exp(x))."""
    return softplus_both(x)[0]


@jax.custom_jvp
def softplus_both(x: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return softplus of x and of -x, from one exponential and one logarithm."""
    rest = jnp.log1p(jnp.exp(-jnp.abs(x)))
    return jnp.maximum(x, 0) + rest, jnp.maximum(-x, 0) + rest


@softplus_both.defjvp
def _softplus_both_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple, tuple]:
    (x,), (tangent,) = primals, tangents
    rising = jax.nn.sigmoid(x) * tangent
    return softplus_both(x), (rising, rising - tangent)
