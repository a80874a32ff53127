"""Progress of a run: terminal output, ``metrics.jsonl``, ``timing.jsonl`` and TensorBoard files."""

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
"""Validation metrics of all tasks, and their titles on the terminal."""


class Progress:
    """A progress bar on a terminal, one line per epoch, and the metrics as files.

    Only the first process prints and writes.
    """

    def __init__(self, run_dir: Path, epochs: int, images: int, history: History) -> None:
        """Start the progress bar and open the files.

        Args:
            run_dir: The folder of the run.
            epochs: Total number of epochs.
            images: Images left to train on.
            history: Rows of the finished epochs of a resumed run. They are written again, since a
                killed run may lack the last row.
        """
        self._run_dir = run_dir
        self._epochs = epochs
        self._images = 0
        self._seconds = 0.0
        self.compiling = True
        """Whether the first step, which compiles, is still to come."""
        is_first_process = jax.process_index() == 0
        self._events = _open_events(run_dir / "tensorboard") if is_first_process else None
        if is_first_process and history:
            write_json_lines(run_dir / "metrics.jsonl", history)
        self._bar = tqdm(
            total=images,
            unit=" images",
            leave=False,
            dynamic_ncols=True,
            disable=not (is_first_process and sys.stderr.isatty()),
        )
        self._last = time.perf_counter()

    def close(self) -> None:
        """Remove the bar and close the files."""
        self._bar.close()
        if self._events is not None:
            with contextlib.suppress(OSError):  # end_epoch has flushed, or raised the error
                self._events.close()

    def add(self, images: int) -> None:
        """Count the images and the time of a step; the first step counts as compilation."""
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
        """Print and write the last row of the history, and restart the clock."""
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
    """Open a TensorBoard file.

    Not with ``SummaryWriter``: a full disk ends its thread, and the run would wait for it forever.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return EventsWriter(str(folder / "events"), f".{os.getpid()}")


def _write_events(events: EventsWriter, step: int, scalars: Mapping[str, float | int]) -> None:
    for name, value in scalars.items():
        summary = scalar(name, value)
        events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
    events.flush()
