"""Overhead of the training loop around the step: ``python -m benchmarks.epoch``.

The loop of ``train.py`` runs with a clock around each call of the train step and the prediction
step that waits for the device. The rest of the wall time is that of the loop: reading and copying
batches, metrics, checkpoints, output and files.

The clock prevents the overlap of input and step. So the loop and the bare step are first run in
turns without it: "loop over bare step" is the rate of an epoch of training steps (as in
``timing.jsonl``) over that of repeated calls of the step.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from benchmarks.record import record
from data.batches.image_cache import cached_images
from data.batches.pipeline import evaluation_batches, train_batches
from data.splits.dataset import load_dataset
from lmf_jax.config import DEFAULT_DATA_DIR, Config, ResolvedConfig
from lmf_jax.distributed.devices import shard_batch
from lmf_jax.distributed.initialize import keep_memory
from lmf_jax.training.classification import Classification, make_classification
from lmf_jax.training.loop import fit


@dataclass(frozen=True)
class Options:
    """Measure the share of the wall time that the loop spends inside the steps."""

    model: Literal["resnet50", "densenet121", "efficientnet_v2_s"] = "resnet50"
    """The architecture."""
    epochs: int = 9
    """Epochs to run; the first compiles and is not counted."""
    dataset: str = "digits_lt"
    """A prepared dataset; the longer an epoch, the smaller the share of its checkpoint."""
    image_size: int | None = None
    """Side of the images (default: from the dataset)."""
    turns: int = 4
    """Turns of the loop and of its bare step."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets and image caches."""


@dataclass
class Clock:
    """A function with the start and end of each of its calls."""

    function: Callable[..., Any]
    calls: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, wait for the device, and record start and end."""
        started = time.perf_counter()
        result = jax.block_until_ready(self.function(*arguments))
        self.calls.append((started, time.perf_counter()))
        return result


def main() -> None:
    """Print one row per epoch after the first, and their medians."""
    options = tyro.cli(Options)
    keep_memory()
    config, program, streams = prepare(options)
    rates = loop_over_bare_step(config, program, streams, options.turns)
    print("loop over bare step, turn by turn:", " ".join(f"{rate:.3f}" for rate in rates))
    print(f"median {statistics.median(rates):.3f}")
    train_clock, predict_clock = Clock(program.train_step), Clock(program.predict_step)
    clocks: dict[str, Any] = {"train_step": train_clock, "predict_step": predict_clock}
    timed = dataclasses.replace(program, **clocks)
    with tempfile.TemporaryDirectory() as folder:
        fit(config.training, config.run, timed, Path(folder), *streams)
    rows = rows_of(train_clock, predict_clock, program)
    record("epoch", rows, loop_over_bare_step=rates)


def loop_over_bare_step(
    config: ResolvedConfig, program: Classification, streams: tuple[Any, Any], turns: int
) -> list[float]:
    """Return the rate of the loop over that of the bare step, for all turns after the first."""
    batch = shard_batch(next(streams[0]))
    ratios = []
    for turn in range(turns + 1):
        with tempfile.TemporaryDirectory() as folder:
            fit(config.replace(epochs=2).training, config.run, program, Path(folder), *streams)
            lines = (Path(folder) / "timing.jsonl").read_text().splitlines()
            looping = json.loads(lines[-1])["images_per_second"]
        state = program.train_step(program.initial_state(), batch)
        steps = program.settings.steps_per_epoch
        started = time.perf_counter()
        for _ in range(steps):
            state = program.train_step(state, batch)
        jax.block_until_ready(state)
        bare = steps * config.training.batch_size / (time.perf_counter() - started)
        if turn:
            ratios.append(looping / bare)
    return ratios


def prepare(options: Options) -> tuple[ResolvedConfig, Classification, tuple[Any, Any]]:
    """Open the dataset and build the program and the batches, as ``train.py`` does."""
    dataset = load_dataset(options.dataset, data_dir=options.data_dir)
    settings = Config.of(model=options.model, epochs=options.epochs, image_size=options.image_size)
    config = settings.resolve(dataset.defaults)
    images = cached_images(dataset, config.data.image_spec, options.data_dir)
    training = train_batches(
        images, dataset.labels, dataset.rows["train"], batch_size=config.training.batch_size, seed=0
    )
    validation = evaluation_batches(
        images, dataset.labels, dataset.rows["validation"], batch_size=config.training.batch_size
    )
    return (
        config,
        make_classification(config, dataset.class_counts("train")),
        (training, validation),
    )


def rows_of(
    train_clock: Clock, predict_clock: Clock, program: Classification
) -> list[dict[str, Any]]:
    """Return the fractions of the time of each epoch after the first, up to the next epoch."""
    per_epoch = program.settings.steps_per_epoch
    steps = train_clock.calls
    rows = []
    for first in range(per_epoch, len(steps) - per_epoch, per_epoch):
        begin, end = steps[first][0], steps[first + per_epoch][0]
        training = sum(b - a for a, b in steps[first : first + per_epoch])
        validation = sum(b - a for a, b in predict_clock.calls if begin <= a < end)
        wall = end - begin
        rows.append(
            {
                "epoch": first // per_epoch + 1,
                "seconds": wall,
                "train steps": training / wall,
                "validation steps": validation / wall,
                "all steps": (training + validation) / wall,
            }
        )
    return [
        *rows,
        {"epoch": "median"} | {name: median_of(rows, name) for name in list(rows[0])[1:]},
    ]


def median_of(rows: list[dict[str, Any]], name: str) -> float:
    """Return the median of a column."""
    return statistics.median(row[name] for row in rows)


if __name__ == "__main__":
    main()
