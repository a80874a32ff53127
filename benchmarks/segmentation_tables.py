"""Comparison of segmentation losses: ``python -m benchmarks.segmentation_tables``.

It trains the missing runs, one for each loss with everything else equal, then prints their test
metrics with intervals, and their differences to the first loss with p-values. Several workers may
run the same command at once.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import tyro

from benchmarks.paper.runs import Run, train_missing
from benchmarks.record import record, table
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import TrainingStopped, UserError, run_command
from lmf_jax.evaluation.comparison import format_p
from lmf_jax.evaluation.formatting import format_interval
from lmf_jax.evaluation.segmentation.comparison import compare_runs
from lmf_jax.evaluation.segmentation.run import FinishedSegmentation, read_run
from lmf_jax.evaluation.statistics import holm
from lmf_jax.runs.files import best_epoch

LOSSES = (
    "ce",
    "dice",
    "tversky",
    "focal-tversky",
    "segmentation-focal",
    "combo",
    "mixed-focal",
    "asymmetric-unified-focal",
    "lmf",
)
METRICS = ("dsc", "iou", "precision", "recall", "hd95")


@dataclass(frozen=True)
class Options:
    """Compare segmentation losses; finished runs are only read."""

    dataset: str = "isic2018_task1"
    """Name of the dataset."""
    losses: tuple[str, ...] = LOSSES
    """Names of --loss of train.py; the others are compared with the first."""
    image_size: int = 128
    """Side of the images in pixels."""
    epochs: int = 8
    """Passes over the training part."""
    batch_size: int = 16
    """Images per step."""
    learning_rate: float = 1e-3
    """Learning rate of AdamW."""
    augment: str = "dihedral"
    """The augmentation, as --augment of train.py."""
    seed: int = 0
    """Seed of the training."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets."""
    runs_dir: Path = Path("runs/segmentation_tables")
    """The folder of the runs."""


def main() -> None:
    """Train missing runs, then print and record the table."""
    options = parse_in_one_line(lambda: tyro.cli(Options), [Options])
    runs = [run_of(options, loss) for loss in options.losses]
    failed = train_missing(runs)
    # The GPU belongs to the workers that still train.
    jax.config.update("jax_platforms", "cpu")
    finished = {run: read_run(run.folder) for run in runs if run.is_finished}
    if not finished:
        raise UserError(f"No run is finished in {options.runs_dir}.")
    rows = result_rows(finished)
    path = record(
        "segmentation_tables",
        rows,
        place=f"{options.dataset}-{options.image_size}px-{options.epochs}-epochs",
        dataset=options.dataset,
        num_cases=len(next(iter(finished.values())).ids),
        commands={run.name: shlex.join(["python", "train.py", *run.flags]) for run in finished},
    )
    path.with_suffix(".md").write_text(f"{table(rows)}\n")
    if failed:
        names = "; ".join(run.name for run in failed)
        raise TrainingStopped(f"{len(failed)} of {len(runs)} runs failed: {names}.")


def run_of(options: Options, loss: str) -> Run:
    """Return the run of a loss."""
    settings = {
        "task": "segmentation",
        "dataset": options.dataset,
        "image-size": options.image_size,
        "epochs": options.epochs,
        "batch-size": options.batch_size,
        "learning-rate": options.learning_rate,
        "augment": options.augment,
        "loss": loss,
        "seed": options.seed,
    }
    flags = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    place = f"{options.image_size}px-{options.epochs}-epochs"
    return Run(
        name=f"{loss}, seed {options.seed}",
        folder=options.runs_dir / options.dataset / place / f"{loss}-{options.seed}",
        flags=tuple(flags),
        places=("--data-dir", options.data_dir),
    )


def result_rows(finished: dict[Run, FinishedSegmentation]) -> list[dict[str, Any]]:
    """Return a row for each run: its metrics, and the difference of its DSC to the first run."""
    differences = _differences([run.folder for run in finished])
    rows = []
    for found, difference in zip(finished.values(), differences, strict=True):
        test, intervals = found.test, found.test["intervals"]
        rows.append(
            {
                "loss": found.config["loss"],
                **{name: f"{test[name]:.3f}" for name in METRICS[:-1]},
                f"hd95, {test['hd95_unit']}": f"{test['hd95']:.1f}",
                "interval of dsc": format_interval(intervals["dsc"]),
                "dsc less the first's": difference,
                "best epoch": best_epoch(found.history, "val_dsc")["epoch"],
                "seconds": round(sum(epoch["seconds"] for epoch in found.timing)),
                "trained on": f"{found.device['kind']}, jax {found.versions['jax']}",
            }
        )
    return rows


def _differences(folders: Sequence[Path]) -> list[str]:
    """Format the differences in DSC to the first run, with intervals and corrected p-values."""
    if len(folders) < 2:
        return [""] * len(folders)
    comparison = compare_runs(folders)
    to_first = [pair for pair in comparison.pairs if pair.first == 0]
    corrected = holm([pair.wilcoxon_p for pair in to_first])
    texts = [""]
    for pair, p in zip(to_first, corrected, strict=True):
        dsc = pair.dsc  # the first run minus this one: the signs are reversed below
        interval = f"[{-dsc.high:+.3f}, {-dsc.low:+.3f}]"
        texts.append(f"{-dsc.difference:+.3f} {interval}, p {format_p(p)}")
    return texts


if __name__ == "__main__":
    run_command("benchmarks.segmentation_tables", main)
