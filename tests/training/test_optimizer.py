import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lmf_jax.training.optimizer import make_optimizer, step_decay

TARGET = np.array([1.0, -2.0, 0.5], np.float32)


def ours(name: str, steps: int) -> np.ndarray:
    schedule = step_decay(0.1, decay_epochs=2, decay_factor=0.1, steps_per_epoch=3)
    optimizer = make_optimizer(name, schedule, weight_decay=0.1)
    params = jnp.array([0.3, 0.2, -1.0])
    state = optimizer.init(params)
    for _ in range(steps):
        gradient = 2 * (params - TARGET)
        with jax.numpy_dtype_promotion("standard"):  # Optax is not written for the strict one
            updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return np.asarray(params)


@pytest.mark.parametrize(("name", "peer"), [("adamw", "AdamW"), ("adam-l2", "Adam")])
def test_the_updates_are_those_of_pytorch(name, peer):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    params = torch.tensor([0.3, 0.2, -1.0], requires_grad=True)
    optimizer = getattr(torch.optim, peer)([params], lr=0.1, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
    for step in range(15):
        optimizer.zero_grad()
        ((params - torch.tensor(TARGET)) ** 2).sum().backward()
        optimizer.step()
        if step % 3 == 2:  # PyTorch decays by epochs, and an epoch has three steps here
            scheduler.step()
    np.testing.assert_allclose(ours(name, 15), params.detach(), rtol=5e-5)


def test_the_two_optimizers_differ_where_the_weights_decay():
    assert not np.allclose(ours("adamw", 10), ours("adam-l2", 10), rtol=1e-2)


def test_the_rate_falls_at_the_first_step_of_the_epoch():
    schedule = step_decay(1e-4, decay_epochs=30, decay_factor=0.1, steps_per_epoch=10)
    rates = [float(schedule(step)) for step in (0, 299, 300, 599, 600)]
    np.testing.assert_allclose(rates, [1e-4, 1e-4, 1e-5, 1e-5, 1e-6], rtol=1e-6)


def test_a_factor_of_zero_stops_the_learning():
    schedule = step_decay(1e-4, decay_epochs=1, decay_factor=0.0, steps_per_epoch=10)
    np.testing.assert_allclose([schedule(9), schedule(10)], [1e-4, 0], rtol=1e-6)
