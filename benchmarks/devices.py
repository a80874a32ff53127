"""Difference between training on one and on two devices: ``python -m benchmarks.devices``.

Each architecture is trained at full size on images of the shape of digits_lt, on one and on two
forced CPU devices, in separate processes: one step in float32, eight steps in float64.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.record import record
from lmf_jax.distributed.devices import AXIS, shard_batch
from lmf_jax.losses import make_objective
from lmf_jax.models import create_model
from lmf_jax.training.optimizer import make_optimizer
from lmf_jax.training.state import StepSettings, create_train_state
from lmf_jax.training.step import make_train_step

SIDE, BATCH = 32, 32
COUNTS = [124, 92, 66, 48, 34, 24, 18, 13, 9, 6]
STEPS = {"float32": 1, "float64": 8}


@dataclass(frozen=True)
class Options:
    """Compare two devices with one."""

    models: tuple[str, ...] = ("resnet50", "densenet121", "efficientnet_v2_s")
    """Architectures to compare."""


def main() -> None:
    """Train every model on one device and on two, and print the largest differences."""
    options = tyro.cli(Options)
    rows = [compare(model, precision) for model in options.models for precision in STEPS]
    record("devices", rows)


def compare(model: str, precision: str) -> dict[str, Any]:
    """Return the relative differences of the loss, and of the largest entry of each kind."""
    with tempfile.TemporaryDirectory() as folder:
        one, two = (in_new_process(model, precision, count, Path(folder)) for count in (1, 2))
    row = {"model": model, "precision": precision, "steps": STEPS[precision]}
    for name in ("loss", "batch_stats", "gradients", "params"):
        difference = np.abs(two[name] - one[name]).max() / np.abs(one[name]).max()
        row[name] = f"{difference:.1e}"
    return row


def in_new_process(model: str, precision: str, count: int, folder: Path) -> dict[str, np.ndarray]:
    """Train with ``count`` forced CPU devices, and return the arrays."""
    path = folder / f"{count}.npz"
    command = [sys.executable, "-m", "benchmarks.devices", "--train", model, precision, str(path)]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_ENABLE_X64": str(precision == "float64"),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
    }
    subprocess.run(command, env=environment, check=True)
    with np.load(path) as arrays:
        return dict(arrays)


def train(name: str, precision: str, path: str) -> None:
    """Train on all devices of this process, and write the arrays to compare."""
    dtype = jnp.dtype(precision)
    settings = StepSettings(
        steps_per_epoch=13, total_steps=390, seed=0, dtype=dtype, augment="shift"
    )
    optimizer = make_optimizer("adamw", lambda step: 1e-3, weight_decay=5e-4)
    model = create_model(name, num_classes=len(COUNTS), dtype=dtype, axis_name=AXIS)
    step = make_train_step(model, make_objective("lmf", COUNTS, beta=0.5), optimizer, settings)
    state = create_train_state(model, optimizer, (SIDE, SIDE, 3), settings)
    for number in range(STEPS[precision]):
        state = step(state, shard_batch(random_batch(number)))
    np.savez(
        path,
        loss=state.loss_sum,
        batch_stats=flat(state.batch_stats),
        gradients=flat(state.opt_state[0].mu),  # Adam's first moment: their moving average
        params=flat(state.params),
    )


def random_batch(seed: int) -> dict[str, np.ndarray]:
    """Return random images with random labels."""
    rng = np.random.default_rng(seed)
    return {
        "image": rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8),
        "label": rng.integers(0, len(COUNTS), BATCH).astype(np.int32),
    }


def flat(tree: Any) -> np.ndarray:
    """Return all values of a tree in one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(*sys.argv[2:])
    else:
        main()
