"""Checkpoints: the train state, the input position and the metrics so far, as one bundle.

With them goes how the model's images are normalised: nobody can predict with weights without it.

The newest two are kept, and the best: the first epoch with the highest validation score. Each
holds checksums of all that is in it. If a full disk has cut the newest short, or a failing one has
changed it, it is put aside; the one before is as good, since a run repeats itself.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from lmf_jax.distributed.devices import Variables
from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.models.normalisation import Normalisation
from lmf_jax.runs.best_checkpoint import (
    SilenceClosedLoop,
    check_checksums,
    first_line,
    item_handlers,
    state_checksums,
)
from lmf_jax.runs.checksum import record_checksum
from lmf_jax.runs.files import EpochMetrics, best_epoch
from lmf_jax.training.state import TrainState

History = list[EpochMetrics]
"""One row per finished epoch, as in ``metrics.jsonl``."""


class Checkpoints:
    """The checkpoints of a run, by step."""

    def __init__(self, folder: Path, normalisation: Normalisation | None, score: str) -> None:
        """Open the folder, which is made if needed.

        Args:
            folder: Where the checkpoints lie.
            normalisation: Of the images that the model takes; None if they come normalised.
            score: The figure of the history by which the best epoch is chosen.
        """
        SilenceClosedLoop.install()
        self._normalisation = normalisation
        self._score = score
        self._policy = _NewestAndBest()
        self._saved: tuple[int, int] | None = None
        """Step and number of finished epochs of the newest checkpoint."""
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(preservation_policy=self._policy),
            item_handlers=item_handlers(),
        )

    def save(
        self, step: int, state: TrainState, input_state: Mapping[str, Any], history: History
    ) -> None:
        """Save in the background; nothing happens if just this is saved already.

        Args:
            step: Updates done so far, no fewer than at the save before.
            state: The state after them; it may be given up to the next step at once.
            input_state: The position of the input after them.
            history: Rows of the finished epochs.

        Raises:
            TrainingStopped: If this or the save before cannot be written.
        """
        if self._saved == (step, len(history)):
            return
        with self._writing():
            if self._saved is not None and self._saved[0] == step:
                # Saved before the epoch was validated. Until it is saved again there is the one
                # before.
                self._manager.wait_until_finished()
                self._manager.delete(step)
            self._policy.best_steps = {
                best_epoch(rows, self._score)["step"] for rows in (history, history[:-1]) if rows
            }
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(_global_arrays(state)),
                    record=ocp.args.JsonSave(self._record(state, input_state, history)),
                ),
            )
            self._saved = (step, len(history))

    def _record(
        self, state: TrainState, input_state: Mapping[str, Any], history: History
    ) -> dict[str, Any]:
        record: dict[str, Any] = {
            "input": dict(input_state),
            "history": history,
            "normalisation": self._normalisation and asdict(self._normalisation),
            "score": self._score,
        }
        if jax.process_index() == 0:  # who writes it
            record["checksums"] = state_checksums(vars(state))
            record["checksum"] = record_checksum(record)
        return record

    def restore_latest(self, like: TrainState) -> tuple[TrainState, dict[str, Any], History] | None:
        """Return the newest state, its input position and the history; None if none was saved.

        A checkpoint that is not whole is put aside, as ``<step>.broken``, and named; then it is the
        one before.

        Args:
            like: A state of the same shapes, on the devices to restore to.

        Raises:
            UserError: If no checkpoint is whole; then all stay where they are.
        """
        broken: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, like)
                reason = ""
            except Exception as error:  # Orbax and TensorStore raise nearly everything
                reason = first_line(error)
            if reason := _reason_of_any_process(reason):
                broken[step] = reason
                continue
            self._put_aside(broken, step)
            state, record = restored
            self._saved = (step, len(record["history"]))
            return state, record["input"], record["history"]
        if broken:
            raise UserError(
                f"No checkpoint in {self._manager.directory} is whole "
                f"({'; '.join(f'{step}: {reason}' for step, reason in broken.items())}); mend the "
                "disk, or start a new run."
            )
        return None

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        arguments = ocp.args.Composite(state=_restore_as(like), record=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=arguments)
        state, record = restored["state"], restored["record"]
        check_checksums(record, vars(state))
        return state, record

    def _put_aside(self, broken: Mapping[int, str], whole_step: int) -> None:
        folder = Path(self._manager.directory)
        if broken and jax.process_index() == 0:
            for step, reason in broken.items():
                aside = folder / f"{step}.broken"
                shutil.rmtree(aside, ignore_errors=True)
                (folder / str(step)).rename(aside)
                print(
                    f"The checkpoint of step {step} is broken ({reason}); it is put aside as "
                    f"{aside}, and the run goes on from step {whole_step}."
                )
        if broken:
            multihost_utils.sync_global_devices("checkpoints put aside")
            self._manager.reload()

    def restore_best(self, like: TrainState, history: History) -> Variables:
        """Return the variables to evaluate with, from the best epoch of the history.

        Raises:
            TrainingStopped: If the last save cannot be written, or the checkpoint is broken.
        """
        with self._writing():
            self._manager.wait_until_finished()
        step = int(best_epoch(history, self._score)["step"])
        try:
            return self._restore(step, like)[0].evaluation_variables
        except Exception as error:  # Orbax and TensorStore raise nearly everything
            raise TrainingStopped(
                f"The checkpoint of the best epoch, step {step} in {self._manager.directory}, is "
                f"broken ({first_line(error)}); nothing is tested without it. Start the run anew."
            ) from error

    def close(self) -> None:
        """Finish saving and give up the folder.

        Raises:
            TrainingStopped: If the last save cannot be written.
        """
        with self._writing():
            self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Say in one line what Orbax and TensorStore say of a disk that takes no more."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise TrainingStopped(
                f"A checkpoint cannot be written to {self._manager.directory} "
                f"({first_line(error)}); the ones before are kept. Make room, and "
                "go on with --resume."
            ) from error


def _reason_of_any_process(reason: str) -> str:
    """Return why a checkpoint is broken, to all processes if one of them found it so; else ""."""
    if jax.process_count() == 1:
        return reason
    if multihost_utils.process_allgather(np.asarray(bool(reason))).any():
        return reason or "another process cannot read it"
    return ""


@dataclass
class _NewestAndBest(PreservationPolicy):
    # Orbax's own BestN forgets the scores of earlier checkpoints when the folder is opened again.
    best_steps: set[float | int] = field(default_factory=set)
    """The best epoch as the newest checkpoint knows it, and as the one before does."""

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = {checkpoint.step for checkpoint in checkpoints[-2:]} | self.best_steps
        return [checkpoint.step in kept for checkpoint in checkpoints]


def _restore_as(like: TrainState) -> ocp.args.PyTreeRestore:
    """Return what makes Orbax restore to the shapes, types and devices of this state."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    arguments = ocp.checkpoint_utils.construct_restore_args(abstract)
    return ocp.args.PyTreeRestore(abstract, restore_args=arguments)


def _global_arrays(state: TrainState) -> TrainState:
    """Return the state as Orbax wants it: a mapped step returns host-local arrays."""
    if jax.process_count() == 1:
        return state
    return jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, state)
