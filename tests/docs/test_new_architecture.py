"""The architecture of docs/extending.md: its code is imported and its model created."""

import jax
import jax.numpy as jnp
import pytest

from lmf_jax.cli.command_line import parse_config
from lmf_jax.errors import UserError
from lmf_jax.models import create_model
from tests.docs.conftest import documented_code


def test_the_example_has_fewer_than_thirty_lines() -> None:
    assert len(documented_code("A new architecture").splitlines()) < 30


@pytest.mark.usefixtures("own_files")
@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_the_documented_model_is_created(head) -> None:
    import my_model  # noqa: F401

    model = create_model("small-net", num_classes=7, head=head)
    images = jnp.zeros((2, 32, 32, 3))
    variables = model.init(jax.random.key(0), images)
    assert set(variables) == {"params", "batch_stats"}
    assert model.apply(variables, images).shape == (2, 7)
    assert model.apply(variables, images, method="features").shape == (2, 4, 4, 64)
    assert parse_config(["--model", "small-net"]).model.model == "small-net"


def test_the_documented_model_is_gone_after_the_tests() -> None:
    with pytest.raises(UserError, match="small-net"):
        parse_config(["--model", "small-net"])
