import jax
import numpy as np
import pytest

from lmf_jax.distributed import devices
from tests.training import test_step


@pytest.mark.parametrize("settings", [{}, test_step.EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_both_forms_compute_the_same_bits(count, settings, monkeypatch):
    states = []
    for form in (devices.shard_map_step, devices.pmap_step):
        monkeypatch.setattr(devices, "map_step", form)
        states.append(test_step.train(count, 3, **settings))
    for leaf, other in zip(*map(jax.tree.leaves, states), strict=True):
        np.testing.assert_array_equal(leaf, other)


def test_both_forms_return_a_batch_on_the_devices_of_its_inputs(each_form):
    def double(variables, batch):
        return 2 * batch["image"] + variables["offset"]

    step = devices.map_over_devices(double, None, donate_state=False, sharded_output=True)
    batch = devices.shard_batch({"image": np.arange(8, dtype=np.float32)})
    doubled = step(devices.replicate({"offset": np.float32(1)}), batch)
    np.testing.assert_array_equal(doubled, 2 * np.arange(8).reshape(4, 2) + 1)
    assert doubled.sharding.is_equivalent_to(batch["image"].sharding, 2)


def test_both_forms_donate_the_state(each_form):
    def add(variables, batch):
        return {"sum": variables["sum"] + jax.lax.psum(batch["image"].sum(), devices.AXIS)}

    step = devices.map_over_devices(add, None, donate_state=True, sharded_output=False)
    batch = devices.shard_batch({"image": np.ones(8, np.float32)})
    state = devices.replicate({"sum": np.float32(1)})
    assert step(state, batch)["sum"] == 9
    assert state["sum"].is_deleted()
