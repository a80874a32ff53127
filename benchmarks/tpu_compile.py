"""The train step compiled for TPUs, without a TPU: ``python -m benchmarks.tpu_compile``.

The step is that of ``train.py``, mapped over all chips of a slice of a TPU pod: uint8 images in,
forward, loss, backward, sums over chips, AdamW. The compiler of the ``tpu`` extra needs only the
name of the slice and the shapes of the state. Memory, operations, bytes and all-reduces are figures
of the compiler. Times and efficiencies are modeled from them (:mod:`benchmarks.roofline`); nothing
was run on a TPU.
"""

import importlib.metadata
import importlib.util
import math
import os
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from jax.experimental.topologies import get_topology_desc

from benchmarks import roofline
from benchmarks.record import record, table
from benchmarks.train_step import CLASS_COUNTS
from lmf_jax.config import Config
from lmf_jax.errors import UserError, run_command
from lmf_jax.training.classification import make_classification

SIDE, IMAGES_PER_CHIP = 224, 128

CHIP_COUNTS = [2**doublings for doublings in range(9)]

_ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}


@dataclass(frozen=True)
class Options:
    """Compile for TPUs, which need not be present."""

    models: tuple[str, ...] = ("resnet50", "densenet121", "efficientnet_v2_s")
    """Architectures to compile."""
    topologies: tuple[str, ...] = ("v5e:2x4", "v5e:16x16", "v4:4x4x4")
    """Slices of a pod: the kind of chip, and the number of chips along each axis."""


def main() -> None:
    """Print the figures of the compiler, then those of the model."""
    options = tyro.cli(Options)
    use_compiler_only()
    rows = measure_each([(m, topology) for topology in options.topologies for m in options.models])
    modelled = [row for compiled in rows for row in scaling(compiled)]
    print("Modeled, not measured: fraction of linear scaling, from 1 chip to 256")
    print(table(modelled))
    record(
        "tpu_compile",
        rows,
        place="compiled-for-TPU",
        libtpu=importlib.metadata.version("libtpu"),
        images_per_chip=IMAGES_PER_CHIP,
        modelled=modelled,
        modelled_chips={kind: asdict(chip) for kind, chip in roofline.CHIPS.items()},
    )


def use_compiler_only() -> None:
    """Keep JAX from using a TPU, even if there is one.

    Raises:
        UserError: If the compiler is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "The TPU compiler (libtpu) is not installed; get it with: pip install -e '.[tpu]'"
        )
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # no query of Google's metadata server
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # no lock of a chip by one process
    jax.config.update("jax_platforms", "cpu")
    # A program for absent chips cannot be loaded from the cache.
    jax.config.update("jax_enable_compilation_cache", False)


def measure_each(cells: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return a row for every model and slice.

    Each is compiled in a new process: the compiler frees gigabytes only when its process ends.
    """
    with ProcessPoolExecutor(
        max_workers=1,
        mp_context=get_context("spawn"),
        initializer=use_compiler_only,
        max_tasks_per_child=1,
    ) as pool:
        return list(pool.map(measure, *zip(*cells, strict=True)))


def measure(model: str, topology: str) -> dict[str, Any]:
    """Compile one model for one slice, and return the row."""
    devices = devices_of(topology)
    started = time.perf_counter()
    compiled = compile_step(
        Config.of(
            model=model,
            precision="bfloat16",
            image_size=SIDE,
            batch_size=IMAGES_PER_CHIP * len(devices),
        ),
        devices,
    )
    seconds = time.perf_counter() - started
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    needed = memory.argument_size_in_bytes + memory.output_size_in_bytes
    needed += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    all_reduces = all_reduce_bytes(compiled.as_text())
    row = {
        "model": model,
        "topology": topology,
        "chips": len(devices),
        "memory GB": needed / 1e9,
        "temporary GB": memory.temp_size_in_bytes / 1e9,
        "fits 16 GB": "yes" if needed <= 16e9 else "no",
        "TFLOP": cost["flops"] / 1e12,
        "GB accessed": cost["bytes accessed"] / 1e9,
        "all-reduces": len(all_reduces),
        "MB reduced": sum(all_reduces) / 1e6,
        "compile s": round(seconds),
    }
    print(row, flush=True)
    return row


def devices_of(topology: str) -> list[jax.Device]:
    """Return descriptions of the chips of a slice."""
    # By default each of the two cores of a v4 is a device; in a pod, both cores form one.
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    return get_topology_desc(topology, platform="tpu", **options).devices


def compile_step(settings: Config, devices: list[jax.Device]) -> Any:
    """Compile the train step for devices that are only described."""
    config = settings.resolve({})
    program = make_classification(config, CLASS_COUNTS, devices)
    sharded = (len(devices), config.training.batch_size // len(devices))
    batch = {
        "image": jax.ShapeDtypeStruct((*sharded, *config.data.image_spec.shape), jnp.uint8),
        "label": jax.ShapeDtypeStruct(sharded, jnp.int32),
    }
    state = jax.eval_shape(program.initial_state)
    return program.train_step.compile(state, batch)


def all_reduce_bytes(hlo: str) -> list[int]:
    """Return the bytes that each all-reduce of a compiled program sums.

    The compiler may combine all-reduces into one with several operands; its result has the shapes
    of all. An all-reduce in a loop would count once, but the step has no loops.

    Args:
        hlo: The text of the program.
    """
    results = re.findall(r" = (.*?) all-reduce(?:-start)?\(", hlo)
    return [
        sum(
            _ITEM_BYTES[kind] * math.prod(int(side) for side in sides.split(",") if side)
            for kind, sides in re.findall(r"(\w+)\[([\d,]*)\]", result)
        )
        for result in results
    ]


def scaling(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the modeled efficiency of a compiled step, without and with latency."""
    chip = roofline.CHIPS[row["topology"].split(":")[0]]
    flops, accessed = row["TFLOP"] * 1e12, row["GB accessed"] * 1e9
    computation = roofline.computation_seconds(chip, flops=flops, accessed=accessed)
    modelled = []
    for takes in ("bandwidth", "and latency"):
        seconds = {}
        for chips in CHIP_COUNTS:
            waiting = roofline.transfer_seconds(chip, chips, reduced=row["MB reduced"] * 1e6)
            if takes == "and latency":
                waiting += roofline.latency_seconds(chip, chips, all_reduces=row["all-reduces"])
            seconds[chips] = computation + waiting
        names = {"model": row["model"], "compiled for": row["topology"], "all-reduce takes": takes}
        times = {"1 chip ms": 1000 * seconds[1], "256 ms": 1000 * seconds[256]}
        efficiencies = {str(chips): seconds[1] / time for chips, time in seconds.items()}
        modelled.append(names | times | efficiencies)
    return modelled


if __name__ == "__main__":
    run_command("benchmarks.tpu_compile", main)
