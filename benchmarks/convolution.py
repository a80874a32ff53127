"""Speed of convolutions on a CPU by implementation: ``python -m benchmarks.convolution``.

Forward and both gradients of single layers, batch 32, at the shapes that dominate the time of the
architectures: the implementation that :func:`lmf_jax.models.convolution.convolve` chooses, XLA's
convolution, and PyTorch's (``--peer torch``), in turns. In a network, neighboring layers share
layouts, so ``benchmarks.train_step`` decides.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax

from benchmarks.record import record
from benchmarks.turns import Turns, calls_per_second
from lmf_jax.distributed.devices import CPU_COMPILER_OPTIONS
from lmf_jax.distributed.initialize import keep_memory
from lmf_jax.models.convolution import convolve

LAYERS = (
    (16, 64, 64, 1, 1),
    (16, 64, 256, 1, 1),
    (8, 128, 512, 1, 1),
    (4, 256, 1024, 1, 1),
    (2, 512, 2048, 1, 1),
    (16, 64, 64, 3, 1),
    (16, 128, 32, 3, 1),
    (16, 48, 192, 3, 1),
    (8, 128, 128, 3, 1),
    (4, 256, 256, 3, 1),
    (2, 512, 512, 3, 1),
    (16, 128, 128, 3, 2),
    (64, 3, 24, 3, 2),
    (64, 3, 64, 7, 2),
    (128, 32, 32, 3, 1),
    (64, 128, 64, 3, 1),
    (8, 512, 0, 3, 1),
    (4, 960, 0, 3, 1),
)
"""Side of the feature map, channels, features (0: depthwise), side of the kernel, stride."""

BATCH = 32


@dataclass(frozen=True)
class Options(Turns):
    """Measure single convolutions, forward and backward."""

    seconds: float = 0.2
    """Length of a turn."""


def main() -> None:
    """Print a row per layer."""
    options = tyro.cli(Options)
    keep_memory()
    record("convolution", [measure(options, *layer) for layer in LAYERS], peer=options.peer)


def measure(
    options: Options, side: int, channels: int, features: int, kernel_side: int, stride: int
) -> dict[str, Any]:
    """Measure one layer in turns and return the row, in milliseconds."""
    random = np.random.default_rng(0)
    images = random.normal(size=(BATCH, side, side, channels)).astype(np.float32)
    kernel_shape = (kernel_side, kernel_side, channels if features else 1, features or channels)
    kernel = random.normal(size=kernel_shape).astype(np.float32)
    padding = ((kernel_side // 2, kernel_side // 2),) * 2
    chosen = partial(convolve, stride=stride, padding=padding)
    xla = partial(
        lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=1 if features else channels,
    )
    calls = {"chosen": ours(chosen, images, kernel), "XLA": ours(xla, images, kernel)}
    if options.peer == "torch":
        from benchmarks.torch_peer import make_convolution

        calls["torch"] = make_convolution(images, kernel, stride)
    rates = calls_per_second(calls, seconds=options.seconds, rounds=options.rounds)
    milliseconds = {name: 1e3 / statistics.median(found) for name, found in rates.items()}
    row: dict[str, Any] = {"map": side, "channels": channels, "features": features or "depthwise"}
    row |= {"kernel": kernel_side, "stride": stride, **milliseconds}
    print(row, flush=True)
    return row


def ours(
    convolution: Callable[..., Any], images: np.ndarray, kernel: np.ndarray
) -> Callable[[], Any]:
    """Return the convolution with both gradients, compiled like the train step."""
    arguments = jnp.asarray(images), jnp.asarray(kernel)
    cotangent = jnp.ones(jax.eval_shape(convolution, *arguments).shape)

    def step(images: Any, kernel: Any, cotangent: Any) -> Any:
        outputs, backward = jax.vjp(convolution, images, kernel)
        return outputs, backward(cotangent)

    compiled = jax.jit(step).lower(*arguments, cotangent).compile(dict(CPU_COMPILER_OPTIONS))
    return lambda: jax.block_until_ready(compiled(*arguments, cotangent))


if __name__ == "__main__":
    main()
