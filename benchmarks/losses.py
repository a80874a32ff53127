"""Speed of the losses: ``python -m benchmarks.losses --peer torch``.

Value and gradient of the mean over a batch, jitted, compared with optax's softmax cross entropy;
and the released LMF loss (``form="released"``), compared with the same formula in eager PyTorch, as
its authors run it. All run in turns within one process. Small batches measure the time of a call,
large ones the time of a logit: [262144, 8] is a dense map of 8 classes, [4096, 1000] ImageNet.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from benchmarks.record import record
from benchmarks.turns import Turns, calls_per_second
from lmf_jax import class_margins
from lmf_jax.distributed.initialize import keep_memory
from lmf_jax.losses import (
    cross_entropy_loss,
    focal_loss,
    ldam_loss,
    lmf_loss,
    make_objective,
)


@dataclass(frozen=True)
class Options(Turns):
    """Measure the losses forward and backward."""

    sizes: tuple[tuple[int, int], ...] = ((32, 7), (256, 1000), (262144, 8), (4096, 1000))
    """Pairs of the number of examples and of classes."""


def main() -> None:
    """Print a row per size and loss."""
    options = tyro.cli(Options)
    keep_memory()
    rows = [row for size in options.sizes for row in measure(options, *size)]
    record("losses", rows, peer=options.peer)


def measure(options: Options, num_examples: int, num_classes: int) -> list[dict[str, Any]]:
    """Measure all losses at one size in turns, and return a row for each."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (num_examples, num_classes)).astype(np.float32)
    labels = random.integers(0, num_classes, num_examples).astype(np.int32)
    class_counts = random.integers(5, 5000, num_classes)
    calls = ours(logits, labels, class_counts)
    if options.peer == "torch":
        from benchmarks.torch_peer import make_lmf_loss

        margins = np.asarray(class_margins(class_counts))
        calls["lmf released, torch"] = make_lmf_loss(logits, labels, margins)
    rates = calls_per_second(calls, seconds=options.seconds, rounds=options.rounds)
    medians = {name: 1 / statistics.median(found) for name, found in rates.items()}
    rows = [
        {
            "examples": num_examples,
            "classes": num_classes,
            "loss": name,
            "ms": 1e3 * median,
            "of optax's ce": median / medians["ce, optax"],
            "torch's time over ours": medians["lmf released, torch"] / median
            if "lmf released, torch" in medians and name == "lmf released"
            else "",
        }
        for name, median in medians.items()
    ]
    for row in rows:
        print(row, flush=True)
    return rows


def ours(
    logits: np.ndarray, labels: np.ndarray, class_counts: np.ndarray
) -> dict[str, Callable[[], Any]]:
    """Return a call of each loss and its gradient on the device."""
    margins = class_margins(class_counts)
    released = make_objective("lmf", class_counts)
    losses: dict[str, Callable[..., Any]] = {
        "ce, optax": optax.softmax_cross_entropy_with_integer_labels,
        "ce": cross_entropy_loss,
        "focal": partial(focal_loss, class_weights=margins),
        "ldam": partial(ldam_loss, margins=margins),
        "lmf": partial(lmf_loss, margins=margins),
        "lmf released": released,
    }
    on_device = jnp.asarray(logits), jnp.asarray(labels)

    def call(loss: Callable[..., Any]) -> Callable[[], Any]:
        step = jax.jit(jax.value_and_grad(lambda x, y: jnp.mean(loss(x, y))))
        return lambda: jax.block_until_ready(step(*on_device))

    return {name: call(loss) for name, loss in losses.items()}


if __name__ == "__main__":
    main()
