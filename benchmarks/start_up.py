"""Time to the first step: ``python -m benchmarks.start_up``.

``train.py`` is started twice: with an empty compilation cache, and with the cache of the first
start. The time is from the start of Python to the message after the first step; then the run is
killed. The default dataset is prepared in advance.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.record import record
from data.batches.image_cache import open_images
from data.splits.dataset import load_dataset
from lmf_jax.config import DEFAULT_DATA_DIR, ImageSpec


@dataclass(frozen=True)
class Options:
    """Measure the time to the first step, cold and warm."""

    models: tuple[str, ...] = ("resnet50", "densenet121", "efficientnet_v2_s")
    """Architectures to start."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets and image caches."""


def main() -> None:
    """Print a row per architecture."""
    options = tyro.cli(Options)
    dataset = load_dataset("digits_lt", data_dir=options.data_dir)
    spec = ImageSpec.of_size(dataset.defaults["image_size"])
    open_images(dataset, spec, data_dir=options.data_dir)
    rows = [measure(model, options.data_dir) for model in options.models]
    record("start_up", rows)


def measure(model: str, data_dir: str) -> dict[str, Any]:
    """Start twice and return the row."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "--model", model, "--data-dir", data_dir]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compilations"}
        first, second = (
            seconds_to_first_step([*command, "--run-dir", f"{folder}/run-{start}"], environment)
            for start in range(2)
        )
        files = [path.stat().st_size for path in Path(f"{folder}/compilations").iterdir()]
    row = {"model": model, "first start, s": first, "second start, s": second}
    row |= {"times faster": first / second, "cache MB": sum(files) / 1e6}
    print(row, flush=True)
    return row


def seconds_to_first_step(command: list[str], environment: dict[str, str]) -> float:
    """Start a run and end it after its first step."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=environment | {"PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith("first step"):
                elapsed = time.perf_counter() - started
                run.kill()
                return elapsed
    raise SystemExit(f"{' '.join(command)} ended before its first step.")


if __name__ == "__main__":
    main()
