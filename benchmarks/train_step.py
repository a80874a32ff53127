"""Speed of training, compared with PyTorch: ``python -m benchmarks.train_step --peer torch``.

The step is that of ``train.py``: normalize, forward, loss, backward, AdamW, on made-up images that
lie on the device. The two libraries take turns, a few steps each, within one process; the first
calls, which compile, are not counted. Memory is what the compiler set aside for the step, and for
PyTorch the peak of a process of its own.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import tyro

from benchmarks.record import record
from benchmarks.turns import Turns, calls_per_second
from lmf_jax.config import Config
from lmf_jax.distributed.devices import shard_batch
from lmf_jax.distributed.initialize import keep_memory
from lmf_jax.training.classification import Classification, make_classification

CLASS_COUNTS = [4693, 779, 769, 360, 229, 100, 81]
"""Training part of HAM10000."""


@dataclass(frozen=True)
class Options(Turns):
    """Measure training images per second."""

    models: tuple[str, ...] = ("resnet50", "densenet121", "efficientnet_v2_s")
    """Architectures to measure."""
    sizes: tuple[tuple[int, int], ...] = ((64, 32), (128, 16), (224, 8))
    """Pairs of image side and batch size."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation in JAX."""
    memory: Literal["kept", "returned"] = "kept"
    """Whether the C library keeps memory between steps, as in train.py; for both libraries."""


def main() -> None:
    """Print a row per architecture and size."""
    options = tyro.cli(Options)
    if options.memory == "kept":
        keep_memory()
    rows = (
        measure(options, model, side, batch_size)
        for model in options.models
        for side, batch_size in options.sizes
    )
    record("train_step", rows, precision=options.precision, peer=options.peer)


def measure(options: Options, model: str, side: int, batch_size: int) -> dict[str, Any]:
    """Measure one architecture and size in turns, and return the row."""
    images, labels = made_up_batch(side, batch_size)
    step, megabytes = our_step(options.precision, model, images, labels)
    steps = {"lmf-jax": step}
    if options.peer == "torch":
        from benchmarks.torch_peer import make_step, step_megabytes

        torch_megabytes = step_megabytes(model, len(CLASS_COUNTS), images, labels)
        steps["torch"] = make_step(model, len(CLASS_COUNTS), images, labels)
    rates = calls_per_second(steps, seconds=options.seconds, rounds=options.rounds)
    speeds = {name: [batch_size * rate for rate in found] for name, found in rates.items()}
    ours = statistics.median(speeds["lmf-jax"])
    row: dict[str, Any] = {"model": model, "size": side, "batch": batch_size}
    row |= {"images/s": round(ours, 1), "step MB": round(megabytes)}
    if "torch" in speeds:
        theirs = statistics.median(speeds["torch"])
        turns = zip(speeds["lmf-jax"], speeds["torch"], strict=True)
        row |= {"torch images/s": round(theirs, 1), "torch MB": round(torch_megabytes)}
        row |= {"over torch": ours / theirs}
        row |= {"of each turn": " ".join(f"{a / b:.2f}" for a, b in turns)}
    print(row, flush=True)
    return row


def our_step(
    precision: Literal["float32", "bfloat16"], model: str, images: np.ndarray, labels: np.ndarray
) -> tuple[Callable[[], Any], float]:
    """Return the train step of ``train.py`` on one batch, and its memory in megabytes."""
    program = program_for(precision, model, images)
    batch = shard_batch({"image": images, "label": labels})
    state = program.initial_state()
    compiled = program.train_step.compile(state, batch)
    memory = compiled.memory_analysis()
    needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(compiled(state, batch))

    return step, needed / 1e6


def made_up_batch(side: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 images ``[B, side, side, 3]`` and labels ``[B]``."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch_size, side, side, 3), np.uint8)
    return images, random.integers(0, len(CLASS_COUNTS), batch_size).astype(np.int32)


def program_for(
    precision: Literal["float32", "bfloat16"], model: str, images: np.ndarray
) -> Classification:
    """Return the program of a run of ``train.py`` on images of this shape."""
    config = Config.of(
        model=model,
        precision=precision,
        image_size=images.shape[1:3],
        batch_size=len(images),
    )
    return make_classification(config.resolve({}), CLASS_COUNTS)


if __name__ == "__main__":
    main()
