"""The figures of the TPU compiler and of the roofline model against counts by hand."""

import importlib.util
import re
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from benchmarks import roofline
from benchmarks.tpu_compile import all_reduce_bytes, devices_of, scaling, use_compiler_only
from lmf_jax.distributed.devices import AXIS
from lmf_jax.errors import UserError
from lmf_jax.losses import make_objective
from lmf_jax.training.optimizer import make_optimizer
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step
from tests.helpers.tiny_training import SIDE, tiny_model

IMAGE = (SIDE, SIDE, 3)

CHIP = roofline.Chip(flops=100.0, memory_bandwidth=10.0, link_bandwidth=5.0, axes=2)

HLO = """
ENTRY %main.0_spmd (param.2: f32[], param.3: f32[1,4]) -> f32[] {
  %sum = f32[64]{0:T(128)S(1)} all-reduce(%fusion.35), channel_id=1, to_apply=%add.1
  %sums = (f32[7,2]{1,0:T(8,128)S(1)}, /*index=1*/bf16[3]{0:T(256)}, f32[]{:T(128)}) all-reduce-start(%a, %b, %c), channel_id=2
  %done = (f32[7,2]{1,0:T(8,128)S(1)}, /*index=1*/bf16[3]{0:T(256)}, f32[]{:T(128)}) all-reduce-done(%sums)
  %all-reduce.3 = f32[5]{0} get-tuple-element(%done), index=0
}
"""  # noqa: E501


def test_the_operands_of_an_all_reduce_are_counted_once():
    assert all_reduce_bytes(HLO) == [64 * 4, 14 * 4 + 3 * 2 + 4]


def test_the_slower_of_arithmetic_and_memory_sets_the_time():
    assert roofline.computation_seconds(CHIP, flops=300.0, accessed=20.0) == 3.0
    assert roofline.computation_seconds(CHIP, flops=300.0, accessed=40.0) == 4.0


@pytest.mark.parametrize(("chips", "seconds"), [(1, 0.0), (2, 4.0), (4, 3.0), (16, 3.75)])
def test_a_ring_uses_two_links_of_a_chip(chips, seconds):
    assert roofline.transfer_seconds(CHIP, chips, reduced=20.0) == seconds


@pytest.mark.parametrize(("chips", "hops"), [(1, 0), (2, 1), (8, 1 + 2), (256, 8 + 8)])
def test_every_all_reduce_crosses_the_torus(chips, hops):
    seconds = roofline.latency_seconds(CHIP, chips, all_reduces=10)
    assert seconds == pytest.approx(10 * hops * 1e-6)


def test_efficiency_is_the_share_of_a_step_that_waits_for_no_chip():
    row = {"model": "m", "topology": "v5e:2x4", "TFLOP": 0.0, "GB accessed": 8.19}  # 10 ms
    row |= {"MB reduced": 400.0, "all-reduces": 1250}
    bandwidth, latency = scaling(row)
    assert bandwidth["1"] == latency["1"] == 1.0
    assert bandwidth["4"] == pytest.approx(10 / (10 + 6))
    assert latency["4"] == pytest.approx(10 / (10 + 6 + 2.5))
    assert latency["256 ms"] == pytest.approx(10 + 2 * 255 / 256 * 4 + 20)


def test_without_the_compiler_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install -e '.[tpu]'")):
        use_compiler_only()


@pytest.fixture
def compiler():
    """Leave the other tests their compilation cache."""
    use_compiler_only()
    compilation_cache.reset_cache()  # asks the settings again
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the tpu extra")
def test_a_small_step_compiles_for_chips_that_are_not_there(compiler):
    devices = devices_of("v5e:2x4")
    optimizer = make_optimizer("adamw", lambda step: 1e-3, weight_decay=5e-4)
    settings = StepSettings(steps_per_epoch=1, total_steps=1, seed=0)
    model, objective = tiny_model(axis_name=AXIS), make_objective("lmf", [60, 30, 10])
    step = make_train_step(model, objective, optimizer, settings, devices)
    state = jax.eval_shape(partial(create_train_state, model, optimizer, IMAGE, settings))
    batch = {
        "image": jax.ShapeDtypeStruct((8, 2, *IMAGE), jnp.uint8),
        "label": jax.ShapeDtypeStruct((8, 2), jnp.int32),
    }
    sums = all_reduce_bytes(step.compile(state, batch).as_text())
    gradients = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
    statistics = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.batch_stats))
    # A batch norm sums its statistics; its two sums backward are gradients. Then there is the loss.
    assert gradients < sum(sums) < gradients + statistics + 100
