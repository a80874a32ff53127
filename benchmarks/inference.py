"""Speed of prediction: ``python -m benchmarks.inference --peer torch``.

The prediction step of ``train.py``: normalize and forward in evaluation mode, on made-up images
that lie on the device. PyTorch runs in inference mode, in turn, within one process.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import tyro

from benchmarks.record import record
from benchmarks.train_step import CLASS_COUNTS, made_up_batch, program_for
from benchmarks.turns import Turns, calls_per_second
from lmf_jax.distributed.devices import shard_batch
from lmf_jax.distributed.initialize import keep_memory


@dataclass(frozen=True)
class Options(Turns):
    """Measure predicted images per second."""

    models: tuple[str, ...] = ("resnet50", "densenet121", "efficientnet_v2_s")
    """Architectures to measure."""
    sizes: tuple[tuple[int, int], ...] = ((64, 32), (224, 1), (224, 8))
    """Pairs of image side and batch size."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the computation in JAX."""


def main() -> None:
    """Print a row per architecture and size."""
    options = tyro.cli(Options)
    keep_memory()
    rows = [
        measure(options, model, side, batch_size)
        for model in options.models
        for side, batch_size in options.sizes
    ]
    record("inference", rows, precision=options.precision, peer=options.peer)


def measure(options: Options, model: str, side: int, batch_size: int) -> dict[str, Any]:
    """Measure one architecture and size in turns, and return the row."""
    images, _ = made_up_batch(side, batch_size)
    calls = {"lmf-jax": ours(options.precision, model, images)}
    if options.peer == "torch":
        from benchmarks.torch_peer import make_inference

        calls["torch"] = make_inference(model, len(CLASS_COUNTS), images)
    rates = calls_per_second(calls, seconds=options.seconds, rounds=options.rounds)
    medians = {name: batch_size * statistics.median(found) for name, found in rates.items()}
    row: dict[str, Any] = {"model": model, "size": side, "batch": batch_size}
    row |= {"images/s": round(medians["lmf-jax"], 1)}
    if "torch" in medians:
        row |= {"torch images/s": round(medians["torch"], 1)}
        row |= {"over torch": medians["lmf-jax"] / medians["torch"]}
    print(row, flush=True)
    return row


def ours(
    precision: Literal["float32", "bfloat16"], model: str, images: np.ndarray
) -> Callable[[], Any]:
    """Return the prediction step of ``train.py`` on one batch."""
    program = program_for(precision, model, images)
    variables = program.initial_state().evaluation_variables
    on_devices = shard_batch({"image": images})
    return lambda: jax.block_until_ready(program.predict_step(variables, on_devices))


if __name__ == "__main__":
    main()
