"""Multi-label losses, trained and compared: ``python -m benchmarks.multilabel_losses``.

It trains the missing runs, one for each loss and seed, then prints their mAP and its differences
with paired intervals, as ``python -m lmf_jax compare`` does. Several workers may run the same
command at once.
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.paper.runs import Run, train_missing
from benchmarks.record import record, table
from lmf_jax.errors import TrainingStopped, run_command
from lmf_jax.evaluation.multilabel.comparison import (
    MultilabelComparison,
    compare_runs,
    format_comparison,
)


@dataclass(frozen=True)
class Options:
    """Train a multi-label dataset with several losses and seeds."""

    losses: tuple[str, ...] = ("bce", "ldam-drw", "lmf", "asl")
    """Names of --loss of train.py; the others are compared with the first."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the training."""
    dataset: str = "digits_multilabel"
    """Name of the dataset."""
    train_flags: str = ""
    """Further flags of train.py, in one string."""
    runs_dir: str = "runs/multilabel_losses"
    """Folder of the runs."""


def main() -> None:
    """Train missing runs, then print and record the comparison with the first loss."""
    options = tyro.cli(Options)
    runs = [make_run(options, loss, seed) for seed in options.seeds for loss in options.losses]
    failed = train_missing(runs)
    if failed:
        names = "; ".join(run.name for run in failed)
        raise TrainingStopped(f"{len(failed)} of {len(runs)} runs failed: {names}.")
    folders = [
        make_run(options, loss, seed).folder for loss in options.losses for seed in options.seeds
    ]
    comparison = compare_runs(folders)
    print(format_comparison(comparison), end="\n\n")
    differences = list(difference_rows(comparison))
    record(
        "multilabel_losses",
        [run_row(run) for run in runs],
        place=options.dataset,
        differences=differences,
    )
    print(table(differences))


def make_run(options: Options, loss: str, seed: int) -> Run:
    """Return the run of a loss with a seed."""
    flags = ["--task", "multilabel", "--dataset", options.dataset, "--loss", loss]
    flags += ["--seed", str(seed), *shlex.split(options.train_flags)]
    folder = Path(options.runs_dir) / options.dataset / loss / f"seed-{seed}"
    return Run(name=f"{loss}, seed {seed}", folder=folder, flags=tuple(flags))


def run_row(run: Run) -> dict[str, Any]:
    """Return the metrics of one run and its command."""
    test = json.loads((run.folder / "test.json").read_text())
    return {
        "run": run.name,
        "mAP": test["mean_average_precision"],
        "macro AUROC": test["mean_auroc"],
        "macro F1": test["macro_f1"],
        "command": shlex.join(["python", "train.py", *run.flags]),
    }


def difference_rows(comparison: MultilabelComparison) -> Iterator[dict[str, str]]:
    """Yield the difference of mAP of each loss to the first, with both intervals, in points."""
    for pair, p in zip(comparison.pairs, comparison.holm_p, strict=True):
        if pair.first != 0:
            continue
        found, seeds = pair.mean_average_precision, pair.over_seeds
        yield {
            "loss": comparison.run_groups[pair.second].name,
            "mAP less that of the first": f"{-100 * found.difference:+.2f}",
            "over images": f"[{-100 * found.high:+.2f}, {-100 * found.low:+.2f}]",
            "over seeds": (
                "" if seeds is None else f"[{-100 * seeds.high:+.2f}, {-100 * seeds.low:+.2f}]"
            ),
            "p, Holm": f"{p:.3f}",
        }


if __name__ == "__main__":
    run_command("benchmarks.multilabel_losses", main)
