"""What the TPU compiler says of the train step, with no TPU: ``python -m benchmarks.tpu_compile``.

The step is that of ``train.py``, mapped over all chips of a slice of a TPU pod: uint8
images in, forward, loss, backward, the sums over chips, AdamW. The compiler of the ``tpu`` extra
needs no chip, only the name of the slice; the state is never made, only its shapes. Memory,
operations, bytes and all-reduces are the compiler's own figures. Times and efficiencies are
modelled from them (:mod:`benchmarks.roofline`): nothing here was run on a TPU.
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
    """Compile for TPUs that need not be there."""

    models: tuple[str, ...] = ("resnet50", "densenet121", "efficientnet_v2_s")
    """Architectures to compile."""
    topologies: tuple[str, ...] = ("v5e:2x4", "v5e:16x16", "v4:4x4x4")
    """Slices of a pod: the kind of chip, and how many stand along each axis."""


def main() -> None:
    """Print what was compiled, then what follows from it."""
    options = tyro.cli(Options)
    use_compiler_alone()
    rows = measure_each([(m, topology) for topology in options.topologies for m in options.models])
    modelled = [row for compiled in rows for row in scaling(compiled)]
    print("Modelled, not measured: share of linear scaling, from 1 chip to 256")
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


def use_compiler_alone() -> None:
    """Keep JAX from looking for a TPU, also where there is one.

    Raises:
        UserError: If the compiler is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "The TPU compiler (libtpu) is not installed; get it with: pip install -e '.[tpu]'"
        )
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # it would ask Google's cloud where it is
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # a chip would allow one process
    jax.config.update("jax_platforms", "cpu")
    # What is compiled for chips that are not there cannot be read back from a cache.
    jax.config.update("jax_enable_compilation_cache", False)


def measure_each(cells: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return a row for every model and slice, in turn.

    Each has a process of its own: the compiler gives back gigabytes only when its process ends.
    """
    with ProcessPoolExecutor(
        max_workers=1,
        mp_context=get_context("spawn"),
        initializer=use_compiler_alone,
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
        ).resolve({}),
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
    """Return the chips of a slice, which are named and need not be there."""
    # By itself the compiler takes each of the two cores of a v4 for a device; a pod gives it both.
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    return get_topology_desc(topology, platform="tpu", **options).devices


def compile_step(settings: Config, devices: list[jax.Device]) -> Any:
    """Compile the train step for these devices, without an array on any of them."""
    config = settings.resolve({})
    program = make_classification(config, CLASS_COUNTS, devices)
    share = (len(devices), config.training.batch_size // len(devices))
    batch = {
        "image": jax.ShapeDtypeStruct(
            (*share, config.data.image_size, config.data.image_size, 3), jnp.uint8
        ),
        "label": jax.ShapeDtypeStruct(share, jnp.int32),
    }
    state = jax.eval_shape(program.initial_state)
    return program.train_step.compile(state, batch)


def all_reduce_bytes(hlo: str) -> list[int]:
    """Return the bytes that each all-reduce of a compiled program sums up.

    One all-reduce may have many operands, which the compiler put together; its result is as many
    arrays of the same shapes. What stands in a loop counts once: this step has none.

    Args:
        hlo: The program as text.
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
    """Return the modelled efficiency of a compiled step, without latency and with it."""
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
        of = {"model": row["model"], "compiled for": row["topology"], "all-reduce takes": takes}
        times = {"1 chip ms": 1000 * seconds[1], "256 ms": 1000 * seconds[256]}
        shares = {str(chips): seconds[1] / time for chips, time in seconds.items()}
        modelled.append(of | times | shares)
    return modelled


if __name__ == "__main__":
    run_command("benchmarks.tpu_compile", main)
