"""Overhead of reading images in a prediction: ``python -m benchmarks.predict RUN FOLDER``.

``python -m lmf_jax predict`` from the files to the probabilities, compared with the forward passes
of the same number of batches in memory, in turns within one process. The start (imports, checkpoint
and compilation) is excluded, and printed separately.
"""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

from benchmarks.record import record
from data.inputs.image_files import InferenceImages, image_files
from lmf_jax.config import format_size
from lmf_jax.distributed.devices import shard_batch
from lmf_jax.distributed.initialize import initialize
from lmf_jax.errors import run_command
from lmf_jax.inference.classifier import load_classifier


@dataclass(frozen=True)
class Options:
    """Compare the prediction of a folder of images with its forward passes."""

    run: Annotated[str, tyro.conf.Positional]
    """The folder of a run."""
    folder: Annotated[str, tyro.conf.Positional]
    """The folder of images."""
    images: int = 1000
    """Images of the folder to predict."""
    rounds: int = 5
    """Turns of each; medians are printed."""


def main() -> None:
    """Print one row: both medians and their ratio."""
    options = tyro.cli(Options)
    started = time.perf_counter()
    initialize()
    classifier = load_classifier(options.run)
    step, spec = classifier.predict_step, classifier.config.data.image_spec
    batch_size = 32 * jax.device_count()
    files = image_files(Path(options.folder))[: options.images]
    full = shard_batch({"image": np.zeros((batch_size, *spec.shape), np.uint8)})
    jax.block_until_ready(step(classifier.variables, full))
    prepared = time.perf_counter() - started

    def from_files() -> None:
        classifier.predict(InferenceImages(files, spec, batch_size))

    def bare() -> None:
        for _ in range(0, len(files), batch_size):
            logits = step(classifier.variables, full)
        jax.block_until_ready(logits)

    turns: dict[str, list[float]] = {"bare": [], "from files": []}
    for turn in range(options.rounds + 1):
        for name, call in (("bare", bare), ("from files", from_files)):
            started = time.perf_counter()
            call()
            if turn:
                turns[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(seconds) for name, seconds in turns.items()}
    row: dict[str, Any] = {"model": classifier.config.model.model}
    row |= {"size": format_size(classifier.config.data.image_size), "images": len(files)}
    row |= {"forward passes, s": medians["bare"], "from files, s": medians["from files"]}
    row |= {"ratio": medians["from files"] / medians["bare"], "start and compile, s": prepared}
    record("predict", [row], turns=turns)


if __name__ == "__main__":
    run_command("benchmarks.predict", main)
