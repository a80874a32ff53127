"""The first command of the README, timed and scored: ``python -m benchmarks.digits_lt``.

Every run starts with an empty data folder and an empty compilation cache. The time is that of the
whole process, from the start of Python to the report.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.record import record, table


@dataclass(frozen=True)
class Options:
    """Train on digits_lt with several losses and seeds."""

    losses: tuple[str, ...] = ("lmf", "ce")
    """Names of --loss of train.py."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the training."""


def main() -> None:
    """Run every loss with every seed, seed by seed, so that drift affects all losses alike."""
    options = tyro.cli(Options)
    rows = [train(loss, seed) for seed in options.seeds for loss in options.losses]
    summary = [summarize(loss, rows) for loss in options.losses]
    record("digits_lt", rows, summary=summary)
    print(table(summary))


def train(loss: str, seed: int) -> dict[str, Any]:
    """Run ``train.py`` as in the README and return its row."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "train.py", "--loss", loss, "--seed", str(seed)]
        command += ["--run-dir", f"{folder}/run", "--data-dir", f"{folder}/data"]
        if loss == "lmf":
            command += ["--alpha", "1", "--beta", "0.5"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compilations"}
        started = time.perf_counter()
        subprocess.run(command, env=environment, check=True)
        seconds = time.perf_counter() - started
        test = json.loads(Path(f"{folder}/run/test.json").read_text())
    return {
        "loss": loss,
        "seed": seed,
        "test macro F1": test["macro_f1"],
        "test accuracy": test["accuracy"],
        "seconds": round(seconds, 1),
    }


def summarize(loss: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean, smallest and largest score of a loss over the seeds."""
    of_loss = [row for row in rows if row["loss"] == loss]
    scores = [row["test macro F1"] for row in of_loss]
    return {
        "loss": loss,
        "seeds": len(scores),
        "mean test macro F1": statistics.mean(scores),
        "smallest": min(scores),
        "largest": max(scores),
        "median seconds": statistics.median(row["seconds"] for row in of_loss),
    }


if __name__ == "__main__":
    main()
