import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jaxtyping import config as jaxtyping_config

from lmf_jax.training.optimizer import (
    PlateauDecay,
    make_optimizer,
    scale_by_plateau,
    set_lr_scale,
    step_decay,
)

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


PEERS = {
    "adamw": ("AdamW", {}),
    "adam-l2": ("Adam", {}),
    "sgd": ("SGD", {"momentum": 0.9, "nesterov": True}),
}


@pytest.mark.parametrize("name", PEERS)
def test_the_updates_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    params = torch.tensor([0.3, 0.2, -1.0], requires_grad=True)
    peer, options = PEERS[name]
    optimizer = getattr(torch.optim, peer)([params], lr=0.1, weight_decay=0.1, **options)
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


def test_the_rate_decays_when_the_loss_stays_and_not_before():
    plateau = PlateauDecay(patience=2, factor=0.1)
    losses = [1.0, 0.8, 0.9, 0.80005, 0.7, 0.75, 0.9, 0.9, 0.9, 0.6]
    #          best best    1   2: decay best  1  2: decay 1 2: decay best
    shares = [plateau.lr_scale(losses[:epochs]) for epochs in range(len(losses) + 1)]
    expected = [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    np.testing.assert_allclose(shares, expected, rtol=1e-12)


def test_the_plateau_of_pytorch_decays_in_the_same_epochs():
    """PyTorch counts one epoch more before it decays; its patience is ours less one."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    losses = (np.random.default_rng(0).random(40).cumsum() / np.arange(1, 41)).tolist()
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=2, threshold=1e-4, threshold_mode="abs"
    )
    theirs = []
    for loss in losses:
        scheduler.step(loss)
        theirs.append(optimizer.param_groups[0]["lr"])
    plateau = PlateauDecay(patience=3, factor=0.5)
    ours = [plateau.lr_scale(losses[:epochs]) for epochs in range(1, 41)]
    np.testing.assert_allclose(ours, theirs)
    assert ours[-1] < 0.2


def test_the_share_of_a_plateau_scales_the_update():
    optimizer = optax.chain(optax.sgd(1.0, momentum=0.9), scale_by_plateau())
    params, gradients = jnp.zeros(3), jnp.array([1.0, -2.0, 3.0])
    state = optimizer.init(params)
    whole, _ = optimizer.update(gradients, state, params)
    part, _ = optimizer.update(gradients, set_lr_scale(state, 0.25), params)
    np.testing.assert_array_equal(part, 0.25 * np.asarray(whole))


def rates_around_decays(periods, decay_factor):
    """Return the rates under jit one update before and at the first three decays, ``[P, 6]``."""
    schedules = [
        step_decay(1e-4, decay_epochs=e, decay_factor=decay_factor, steps_per_epoch=n)
        for e, n in periods
    ]
    steps = [[k * e * n - early for k in (1, 2, 3) for early in (1, 0)] for e, n in periods]

    @jax.jit
    def rates(steps):
        return jnp.stack([jax.vmap(s)(row) for s, row in zip(schedules, steps, strict=True)])

    return rates(jnp.array(steps))


@pytest.mark.parametrize("decay_factor", [0.1, 0.0, 1.0])
def test_the_rate_falls_at_its_update_whatever_the_period(decay_factor):
    """A quotient in float32 is late for 41, 47, 55 and 13,860 steps, among others."""
    periods = [(period, 1) for period in range(1, 301)] + [(1, 41), (30, 462), (7, 5)]
    expected = 1e-4 * decay_factor ** np.array([0, 1, 1, 2, 2, 3], float)
    for start in range(0, len(periods), 50):
        some = periods[start : start + 50]
        for period, rates in zip(some, rates_around_decays(some, decay_factor), strict=True):
            np.testing.assert_allclose(rates, expected, rtol=1e-6, err_msg=str(period))


def test_the_rate_falls_at_its_update_for_every_period_up_to_20_000(monkeypatch):
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)  # the period is traced

    def rates(period):
        schedule = step_decay(1.0, decay_epochs=1, decay_factor=0.5, steps_per_epoch=period)
        decays = period * jnp.arange(1, 6)
        return schedule(decays - 1), schedule(decays)

    before, after = jax.jit(jax.vmap(rates))(jnp.arange(1, 20_001))
    expected = np.broadcast_to(0.5 ** np.arange(1, 6), (20_000, 5))
    np.testing.assert_array_equal(before, 2 * expected)
    np.testing.assert_array_equal(after, expected)


def test_a_period_may_be_longer_than_any_training():
    schedule = step_decay(1e-4, decay_epochs=2**31 - 1, decay_factor=0.1, steps_per_epoch=462)
    assert schedule(10**9) == np.float32(1e-4)


def test_the_rates_are_those_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 41, 0.1)
    theirs = []
    for _ in range(41 * 5):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    schedule = step_decay(1e-4, decay_epochs=41, decay_factor=0.1, steps_per_epoch=1)
    ours = jax.jit(jax.vmap(schedule))(jnp.arange(41 * 5))
    np.testing.assert_allclose(ours, theirs, rtol=5e-7)


@pytest.mark.parametrize("decay_factor", [0.1, 0.97, 0.0, 1.0])
def test_the_rate_outside_of_a_step_is_the_rate_in_it(decay_factor):
    schedule = step_decay(3e-4, decay_epochs=3, decay_factor=decay_factor, steps_per_epoch=1)
    optimizer = make_optimizer("sgd", schedule, weight_decay=0.0, momentum=0.0)

    @jax.jit
    def step(params, state):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(jnp.ones(()), state, params)

    params, used = jnp.zeros(()), []
    state = optimizer.init(params)
    for _ in range(60):
        update, state = step(params, state)
        used.append(-float(update))
    assert used == [float(schedule(count)) for count in range(60)]
