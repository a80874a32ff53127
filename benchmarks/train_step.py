"""How fast a model trains, beside PyTorch: ``python -m benchmarks.train_step --peer torch``.

The step is that of ``train.py``: normalise, forward, loss, backward, AdamW, on made-up images that
lie on the device. The two libraries take turns, a few steps each, within one process; the first
calls, which compile, are not counted. Memory is what the compiler set aside for the step.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import tyro

from benchmarks.record import record
from lmf_jax.config import Config
from lmf_jax.training.loop import make_program
from lmf_jax.training.start_up import keep_memory
from lmf_jax.training.step import spread_over_devices

CLASS_COUNTS = [4693, 779, 769, 360, 229, 100, 81]
"""HAM10000's training part."""


@dataclass(frozen=True)
class Options:
    """Measure training images a second."""

    models: tuple[str, ...] = ("resnet50", "densenet121", "efficientnet_v2_s")
    """Architectures to measure."""
    sizes: tuple[tuple[int, int], ...] = ((64, 32), (128, 16), (224, 8))
    """Sides of the images and images in a batch, in pairs."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Our type of computation."""
    peer: Literal["torch", "none"] = "none"
    """Who runs in turn; torch needs torch and torchvision installed."""
    memory: Literal["kept", "returned"] = "kept"
    """Whether the C library keeps memory from step to step, as in train.py; for both sides."""
    seconds: float = 2.0
    """Length of a turn."""
    rounds: int = 7
    """Turns of each; medians are printed."""


def main() -> None:
    """Print a row per architecture and size."""
    options = tyro.cli(Options)
    if options.memory == "kept":
        keep_memory()
    rows = [
        measure(options, model, side, batch_size)
        for model in options.models
        for side, batch_size in options.sizes
    ]
    record("train_step", rows, precision=options.precision, peer=options.peer)


def measure(options: Options, model: str, side: int, batch_size: int) -> dict[str, Any]:
    """Let both take turns at one architecture and size, and return the row."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch_size, side, side, 3), np.uint8)
    labels = random.integers(0, len(CLASS_COUNTS), batch_size).astype(np.int32)
    step, megabytes = our_step(options.precision, model, images, labels)
    steps = {"lmf-jax": step}
    if options.peer == "torch":
        from benchmarks.torch_peer import make_step

        steps["torch"] = make_step(model, len(CLASS_COUNTS), images, labels)
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 1):
        for name, run in steps.items():
            speed = batch_size * steps_per_second(run, options.seconds)
            if turn:  # the first warms up
                speeds[name].append(speed)
    ours = statistics.median(speeds["lmf-jax"])
    row: dict[str, Any] = {"model": model, "size": side, "batch": batch_size}
    row |= {"images/s": round(ours, 1), "step MB": round(megabytes)}
    if "torch" in speeds:
        theirs = statistics.median(speeds["torch"])
        turns = zip(speeds["lmf-jax"], speeds["torch"], strict=True)
        row |= {"torch images/s": round(theirs, 1), "over torch": ours / theirs}
        row |= {"of each turn": " ".join(f"{a / b:.2f}" for a, b in turns)}
    print(row, flush=True)
    return row


def our_step(
    precision: Literal["float32", "bfloat16"], model: str, images: np.ndarray, labels: np.ndarray
) -> tuple[Callable[[], Any], float]:
    """Return the training step of ``train.py`` on one batch, and the megabytes that it needs."""
    config = Config(
        model=model,  # type: ignore[arg-type]
        precision=precision,
        image_size=images.shape[1],
        batch_size=len(images),
    )
    program = make_program(config.resolve({}), CLASS_COUNTS)
    batch = spread_over_devices({"image": images, "label": labels})
    state = program.initial_state()
    compiled = program.train_step.lower(state, batch).compile()  # type: ignore[attr-defined]
    memory = compiled.memory_analysis()
    needed = memory.temp_size_in_bytes + memory.argument_size_in_bytes

    def step() -> None:
        nonlocal state
        state = jax.block_until_ready(compiled(state, batch))

    return step, needed / 1e6


def steps_per_second(step: Callable[[], Any], seconds: float) -> float:
    """Run steps for so long; at least one."""
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        step()
        count += 1
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
