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
    "val_map": "val mAP",
    "val_auroc": "val macro AUROC",
}
"""Validation metrics of all tasks, and their titles on the terminal."""


MEASURED_STEPS = 3
"""Steps after the compiling one from which the end of the training is estimated."""

CONSTANT_EPOCHS = 3
"""Epochs in a row with one answer for every validation image after which the user is told."""


class Progress:
    """A progress bar on a terminal, one line per epoch, and the metrics as files.

    Only the first process prints and writes.
    """

    def __init__(
        self, run_dir: Path, *, epochs: int, steps: int, batch_size: int, history: History
    ) -> None:
        """Start the progress bar and open the files.

        Args:
            run_dir: The folder of the run.
            epochs: Total number of epochs.
            steps: Steps left to train.
            batch_size: Images of a step.
            history: Rows of the finished epochs of a resumed run. They are written again, since a
                killed run may lack the last row.
        """
        self._run_dir = run_dir
        self._epochs = epochs
        self._steps_left = steps
        self._batch_size = batch_size
        self._images = 0
        self._seconds = 0.0
        self._is_compiling = True
        self._measured: list[float] = []
        self._constant_epochs = 0
        self._is_constant_told = False
        is_first_process = jax.process_index() == 0
        self._events = _open_events(run_dir / "tensorboard") if is_first_process else None
        if is_first_process and history:
            write_json_lines(run_dir / "metrics.jsonl", history)
        self._bar = tqdm(
            total=steps * batch_size,
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

    @property
    def waits_for_step(self) -> bool:
        """Whether the device has to finish the next step before :meth:`add`, which measures it."""
        return self._is_compiling or len(self._measured) == MEASURED_STEPS - 1

    def add(self) -> None:
        """Count the images and the time of a step; the first step counts as compilation."""
        now = time.perf_counter()
        self._steps_left -= 1
        if self._is_compiling:
            self._is_compiling = False
            if self._events is not None:
                tqdm.write(f"first step after {now - self._last:.0f} s of compilation")
        else:
            self._seconds += now - self._last
            self._images += self._batch_size
            self._estimate_end(now - self._last)
        self._last = now
        self._bar.update(self._batch_size)

    def _estimate_end(self, seconds: float) -> None:
        """Print the steps that are left and their end, once the first ones are measured."""
        if len(self._measured) == MEASURED_STEPS:
            return
        self._measured.append(seconds)
        is_due = len(self._measured) == MEASURED_STEPS and self._steps_left
        if not is_due or self._events is None:
            return
        from lmf_jax.evaluation.formatting import format_duration  # loads SciPy

        per_step = sum(self._measured) / MEASURED_STEPS
        left = per_step * self._steps_left
        end = time.strftime("%H:%M", time.localtime(time.time() + left))
        tqdm.write(
            f"{self._steps_left:,} steps left; at {per_step:.2g} s each, as the last "
            f"{MEASURED_STEPS}, they take about {format_duration(left)} (until {end}), without "
            "validation"
        )

    def end_epoch(self, history: History, *, is_constant: bool = False) -> None:
        """Print and write the last row of the history, and restart the clock.

        Args:
            history: The rows of all finished epochs.
            is_constant: Whether every validation image got the same class.
        """
        if self._events is not None:
            row = history[-1]
            rate = self._images / self._seconds if self._images else None
            self._write_files(history, rate)
            scalars = row if rate is None else row | {"images_per_second": rate}
            _write_events(self._events, int(row["step"]), scalars)
            self._print_line(row, rate)
            self._tell_constant(is_constant)
        self._seconds, self._images = 0.0, 0
        self._last = time.perf_counter()

    def _tell_constant(self, is_constant: bool) -> None:
        """Tell, once, that the model has answered one class for several epochs."""
        self._constant_epochs = self._constant_epochs + 1 if is_constant else 0
        if self._constant_epochs < CONSTANT_EPOCHS or self._is_constant_told:
            return
        self._is_constant_told = True
        tqdm.write(
            f"The model has answered one class for every validation image in {CONSTANT_EPOCHS} "
            "epochs in a row; if it stays so, try --pretrained with ImageNet weights, another "
            "--learning-rate, more --epochs, or --sampling class-balanced."
        )

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
