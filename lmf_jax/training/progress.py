"""What a person sees while it runs, and the same numbers as files."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from tensorboardX import SummaryWriter
from tqdm import tqdm

from lmf_jax.training.checkpoint import History
from lmf_jax.training.run_folder import read_json_lines, write_json_lines


class Progress:
    """A bar with images/s and time left on a terminal, one line per epoch everywhere.

    Of several processes, the first alone prints and writes.
    """

    def __init__(self, run_dir: Path, epochs: int, images: int) -> None:
        """Show a run of so many epochs in all that has so many images to go."""
        self._run_dir = run_dir
        self._epochs = epochs
        self._images = 0
        self._seconds = 0.0
        speaks = jax.process_index() == 0
        self._writer = SummaryWriter(str(run_dir / "tensorboard")) if speaks else None
        self._bar = tqdm(
            total=images,
            unit=" images",
            leave=False,
            dynamic_ncols=True,
            disable=not (speaks and sys.stderr.isatty()),
        )
        self._last = time.perf_counter()

    def close(self) -> None:
        """Take the bar away and finish the files."""
        self._bar.close()
        if self._writer is not None:
            self._writer.close()

    def compiled(self) -> None:
        """Say how long the first step took, and count time and images from here on."""
        if self._writer is not None:
            tqdm.write(f"first step after {time.perf_counter() - self._last:.0f} s of compilation")
        self._seconds, self._images = 0.0, 0
        self._last = time.perf_counter()

    def add(self, images: int) -> None:
        """Count a step and the time since the last call as training."""
        now = time.perf_counter()
        self._seconds += now - self._last
        self._images += images
        self._last = now
        self._bar.update(images)

    def end_epoch(self, history: History) -> None:
        """Print and write the last row, whose epoch has just ended; count time from here on."""
        if self._writer is not None:
            rate = self._images / self._seconds
            self._write_files(history, rate)
            for name, value in (history[-1] | {"images_per_second": rate}).items():
                self._writer.add_scalar(name, value, history[-1]["step"])
            self._print_line(history[-1], rate)
        self._seconds, self._images = 0.0, 0
        self._last = time.perf_counter()

    def _write_files(self, history: History, rate: float) -> None:
        row = history[-1]
        timing = {
            "epoch": row["epoch"],
            "seconds": self._seconds,
            "images_per_second": rate,
        }
        path = self._run_dir / "timing.jsonl"
        before = [old for old in read_json_lines(path) if old["epoch"] < row["epoch"]]
        write_json_lines(path, [*before, timing])
        write_json_lines(self._run_dir / "metrics.jsonl", history)

    def _print_line(self, row: Mapping[str, float | int], rate: float) -> None:
        tqdm.write(
            f"epoch {row['epoch']:{len(str(self._epochs))}}/{self._epochs}"
            f"  train loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}"
            f"  val accuracy {row['val_accuracy']:.3f}  val macro F1 {row['val_macro_f1']:.3f}"
            f"  lr {row['learning_rate']:.1e}  {rate:.0f} images/s"
        )
        sys.stdout.flush()
