"""A non-numeric argument is refused with its name and its value."""

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config

from lmf_jax import class_margins, focal_loss, ldam_loss, lmf_loss
from lmf_jax.losses import (
    cosine_tversky_loss,
    dice_loss,
    effective_number_weights,
    logit_adjusted_loss,
    make_objective,
)

LOGITS, LABELS = jnp.zeros((2, 3)), jnp.array([0, 1])
MARGINS = class_margins([3, 2, 1])
AT_LEAST_0 = "a number of at least 0"

WRONG = [
    (lambda: lmf_loss(LOGITS, LABELS, MARGINS, alpha="x"), f"alpha is 'x'; expected {AT_LEAST_0}."),
    (
        lambda: lmf_loss(LOGITS, LABELS, MARGINS, gamma=True),
        f"gamma is True; expected {AT_LEAST_0}",
    ),
    (lambda: focal_loss(LOGITS, LABELS, gamma=None), f"gamma is None; expected {AT_LEAST_0}."),
    (lambda: ldam_loss(LOGITS, LABELS, MARGINS, scale=[1]), "scale is [1]; expected a number abo"),
    (
        lambda: logit_adjusted_loss(LOGITS, LABELS, [3, 2, 1], tau=1j),
        "tau is 1j; expected a number",
    ),
    (
        lambda: class_margins([3, 2], max_margin="m"),
        "max_margin is 'm'; expected a number above 0.",
    ),
    (
        lambda: effective_number_weights([3, 2], effective_number_beta="b"),
        "effective_number_beta is 'b'; expected a number in [0, 1).",
    ),
    (lambda: class_margins(["a", "b"]), "class_counts are ['a', 'b']; expected one number for e"),
    (lambda: focal_loss(LOGITS, LABELS, class_weights=["a", "b", "c"]), "class_weights are ['a', "),
    (lambda: focal_loss("x", LABELS), "logits are 'x'; expected an array of numbers."),
    (
        lambda: focal_loss(LOGITS, "b"),
        "labels are 'b'; expected an array of numbers.",
    ),
    (lambda: dice_loss(LOGITS[None], LABELS[None], smooth="s"), "smooth is 's'; expected a number"),
    (
        lambda: cosine_tversky_loss(LOGITS[None], LABELS[None], gamma="g"),
        "gamma is 'g'; expected a whole number of at least 1.",
    ),
    *(
        (lambda name=name, option=option: make_objective(name, [3, 2, 1], **{option: "x"}), text)
        for name, option, text in [
            ("lmf", "alpha", f"alpha is 'x'; expected {AT_LEAST_0}."),
            ("lmf", "scale", "scale is 'x'; expected a number above 0."),
            ("ldam-drw", "drw_start", "drw_start is 'x'; expected a number in [0, 1]."),
            ("class-balanced", "effective_number_beta", "effective_number_beta is 'x'; expected"),
            ("tversky", "delta", "delta is 'x'; expected a number in [0, 1]."),
            ("combo", "weight", "weight is 'x'; expected a number in [0, 1]."),
        ]
    ),
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_a_wrong_type_is_told_plainly(call, message, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(TypeError) as error:
        call()
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.array(2.0, np.float32)])
def test_every_kind_of_number_is_taken(number, monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    expected = lmf_loss(LOGITS, LABELS, MARGINS, alpha=2.0, scale=2.0)
    found = lmf_loss(LOGITS, LABELS, MARGINS, alpha=number, scale=jnp.asarray(number, float))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
