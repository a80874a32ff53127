"""What a person sees while it runs, and the same numbers as files."""

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import jax
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar
from tqdm import tqdm

from lmf_jax.runs.atomic_files import read_json_lines, write_json_lines
from lmf_jax.runs.files import EpochMetrics
from lmf_jax.training.checkpoint import History

_SCORES = {
    "val_accuracy": "val accuracy",
    "val_macro_f1": "val macro F1",
    "val_dsc": "val DSC",
    "val_iou": "val IoU",
}
"""Figures of a validation, as far as the task has them, and how they are called."""


class Progress:
    """A bar with images/s and time left on a terminal, one line per epoch everywhere.

    Of several processes, the first alone prints and writes.
    """

    def __init__(self, run_dir: Path, epochs: int, images: int, history: History) -> None:
        """Show a run of so many epochs in all that has so many images to go.

        Args:
            run_dir: The folder of the run.
            epochs: Number of epochs in all.
            images: Number of images left to train on.
            history: Rows of the epochs before, where the run goes on; they become the file, which
                a killed run may have left a row short.
        """
        self._run_dir = run_dir
        self._epochs = epochs
        self._images = 0
        self._seconds = 0.0
        self.compiling = True
        """Whether no step is over yet."""
        speaks = jax.process_index() == 0
        self._events = _open_events(run_dir / "tensorboard") if speaks else None
        if speaks and history:
            write_json_lines(run_dir / "metrics.jsonl", history)
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
        if self._events is not None:
            with contextlib.suppress(OSError):  # every epoch was written out, or its error told
                self._events.close()

    def add(self, images: int) -> None:
        """Count a step and the time since the last call; of the first step say that it compiled."""
        now = time.perf_counter()
        if self.compiling:
            self.compiling = False
            if self._events is not None:
                tqdm.write(f"first step after {now - self._last:.0f} s of compilation")
        else:
            self._seconds += now - self._last
            self._images += images
        self._last = now
        self._bar.update(images)

    def end_epoch(self, history: History) -> None:
        """Print and write the last row, whose epoch has just ended; count time from here on."""
        if self._events is not None:
            row = history[-1]
            rate = self._images / self._seconds if self._images else None
            self._write_files(history, rate)
            scalars = row if rate is None else row | {"images_per_second": rate}
            _write_events(self._events, int(row["step"]), scalars)
            self._print_line(row, rate)
        self._seconds, self._images = 0.0, 0
        self._last = time.perf_counter()

    def _write_files(self, history: History, rate: float | None) -> None:
        write_json_lines(self._run_dir / "metrics.jsonl", history)
        epoch = history[-1]["epoch"]
        timing = {"epoch": epoch, "seconds": self._seconds, "images_per_second": rate}
        path = self._run_dir / "timing.jsonl"
        before = [old for old in read_json_lines(path) if old["epoch"] < epoch]
        write_json_lines(path, [*before, timing])

    def _print_line(self, row: EpochMetrics, rate: float | None) -> None:
        speed = "" if rate is None else f"  {rate:.0f} images/s"
        scores = "".join(
            f"  {title} {row[name]:.3f}" for name, title in _SCORES.items() if name in row
        )
        tqdm.write(
            f"epoch {row['epoch']:{len(str(self._epochs))}}/{self._epochs}"
            f"  train loss {row['train_loss']:.4f}  val loss {row['val_loss']:.4f}{scores}"
            f"  lr {row['learning_rate']:.1e}{speed}"
        )
        sys.stdout.flush()


def _open_events(folder: Path) -> EventsWriter:
    """Open a file of TensorBoard's, and not SummaryWriter: its thread dies of a full disk.

    The run would then wait for that thread forever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return EventsWriter(str(folder / "events"), f".{os.getpid()}")


def _write_events(events: EventsWriter, step: int, scalars: Mapping[str, float | int]) -> None:
    for name, value in scalars.items():
        summary = scalar(name, value)
        events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
    events.flush()
