"""Checkpoints: the train state, the input position and the metrics so far, in one bundle.

A checkpoint also records the normalization of the images, which prediction needs, and checksums of
its contents. The newest two are kept, and the best: the first epoch with the highest validation
score. A checkpoint that a full or failing disk broke is renamed, and the run resumes from the one
before it; training is deterministic, so the result is the same.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from lmf_jax.distributed.devices import Variables
from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.models.normalization import AnyNormalization, record_normalization
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
    """The checkpoints of a run by step."""

    def __init__(self, folder: Path, normalization: AnyNormalization | None, score: str) -> None:
        """Open the folder, or create it.

        Args:
            folder: The folder of the checkpoints.
            normalization: Normalization of the images; None if they come normalized.
            score: The validation metric that selects the best epoch.
        """
        SilenceClosedLoop.install()
        self._normalization = normalization
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
        """Save in the background, unless the newest checkpoint has the same step and epoch.

        Args:
            step: Updates so far, at least as many as at the previous save.
            state: The state after them; the next step may donate it at once.
            input_state: The position of the input after them.
            history: Rows of the finished epochs.

        Raises:
            TrainingStopped: If this or the previous checkpoint cannot be written.
        """
        if self._saved == (step, len(history)):
            return
        with self._writing():
            if self._saved is not None and self._saved[0] == step:
                # Saved after the last step of the epoch, before its validation. Orbax does not
                # replace a step; if the run is killed here, the checkpoint before it remains.
                self._manager.wait_until_finished()
                self._manager.delete(step)
            # Both, since this checkpoint may turn out to be broken: the one before then decides.
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
            "normalisation": record_normalization(self._normalization),
            "score": self._score,
        }
        if jax.process_index() == 0:  # only the first process writes the record
            record["checksums"] = state_checksums(vars(state))
            record["checksum"] = record_checksum(record)
        return record

    def restore_latest(self, like: TrainState) -> tuple[TrainState, dict[str, Any], History] | None:
        """Return the newest state, its input position and the history; None without checkpoints.

        Broken checkpoints are reported and renamed to ``<step>.broken``.

        Args:
            like: A state of the same shapes, on the devices to restore to.

        Raises:
            UserError: If all checkpoints are broken; none is renamed then.
        """
        broken: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._restore(step, like)
                reason = ""
            except Exception as error:  # Orbax and TensorStore raise nearly everything
                reason = first_line(error)
            if reason := _agree_on_reason(reason):
                broken[step] = reason
                continue
            self._rename_broken(broken, step)
            state, record = restored
            self._saved = (step, len(record["history"]))
            return state, record["input"], record["history"]
        if broken:
            raise UserError(
                f"Every checkpoint in {self._manager.directory} is broken "
                f"({'; '.join(f'{step}: {reason}' for step, reason in broken.items())}); repair "
                "the disk, or start a new run."
            )
        return None

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        arguments = ocp.args.Composite(state=_restore_args(like), record=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=arguments)
        state, record = restored["state"], restored["record"]
        check_checksums(record, vars(state))
        return state, record

    def _rename_broken(self, broken: Mapping[int, str], restored_step: int) -> None:
        if not broken:
            return
        folder = Path(self._manager.directory)
        if jax.process_index() == 0:
            for step, reason in broken.items():
                renamed = folder / f"{step}.broken"
                shutil.rmtree(renamed, ignore_errors=True)
                (folder / str(step)).rename(renamed)
                print(
                    f"The checkpoint of step {step} is broken ({reason}) and was renamed to "
                    f"{renamed}; the run continues from step {restored_step}."
                )
        multihost_utils.sync_global_devices("checkpoints renamed")
        self._manager.reload()

    def restore_best(self, like: TrainState, history: History) -> Variables:
        """Return the evaluation variables of the best epoch of the history.

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
                f"broken ({first_line(error)}), so the run cannot be tested; train it again."
            ) from error

    def close(self) -> None:
        """Finish saving and close the folder.

        Raises:
            TrainingStopped: If the last save cannot be written.
        """
        with self._writing():
            self._manager.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn the errors of Orbax and TensorStore on a full disk into one line."""
        try:
            yield
        except (OSError, ValueError) as error:
            raise TrainingStopped(
                f"A checkpoint cannot be written to {self._manager.directory} "
                f"({first_line(error)}); the earlier ones are kept. Free disk space, and continue "
                "with --resume."
            ) from error


def _agree_on_reason(reason: str) -> str:
    """Return why a checkpoint is broken for any process; "" if no process found damage."""
    if jax.process_count() == 1:
        return reason
    if multihost_utils.process_allgather(np.asarray(bool(reason))).any():
        return reason or "another process cannot read it"
    return ""


@dataclass
class _NewestAndBest(PreservationPolicy):
    # Orbax's own BestN forgets the scores of earlier checkpoints when the folder is opened again.
    best_steps: set[float | int] = field(default_factory=set)
    """Steps of the best epoch according to the newest checkpoint, and to the one before."""

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        kept = {checkpoint.step for checkpoint in checkpoints[-2:]} | self.best_steps
        return [checkpoint.step in kept for checkpoint in checkpoints]


def _restore_args(like: TrainState) -> ocp.args.PyTreeRestore:
    """Return the arguments that restore to the shapes, types and devices of a state."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    arguments = ocp.checkpoint_utils.construct_restore_args(abstract)
    return ocp.args.PyTreeRestore(abstract, restore_args=arguments)


def _global_arrays(state: TrainState) -> TrainState:
    """Return the state in the global arrays that Orbax needs; a step returns host-local ones."""
    if jax.process_count() == 1:
        return state
    return jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, state)
