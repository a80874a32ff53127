"""Checkpoints: the train state, the input position and the metrics so far, as one bundle.

With them goes how the model's images are normalised: nobody can predict with weights without it.

The newest two are kept, and the best: the first epoch with the highest validation macro F1.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import PreservationPolicy

from lmf_jax.errors import TrainingStopped, UserError
from lmf_jax.evaluation.finished_run import EpochMetrics, best_epoch
from lmf_jax.models.normalisation import Normalisation
from lmf_jax.training.step import TrainState, Variables

History = list[EpochMetrics]
"""One row per finished epoch, as in ``metrics.jsonl``."""


class Checkpoints:
    """The checkpoints of a run, by step."""

    def __init__(self, folder: Path, normalisation: Normalisation) -> None:
        """Open the folder, which is made if needed.

        Args:
            folder: where the checkpoints lie.
            normalisation: of the images that the model takes.
        """
        self._normalisation = normalisation
        self._policy = _NewestAndBest()
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(preservation_policy=self._policy),
            item_handlers=_handlers(),
        )

    def save(
        self, step: int, state: TrainState, input_state: Mapping[str, Any], history: History
    ) -> None:
        """Save in the background; nothing happens if the step is saved already.

        Args:
            step: updates done so far.
            state: the state after them; it may be given up to the next step at once.
            input_state: the position of the input after them.
            history: rows of the finished epochs.

        Raises:
            TrainingStopped: if this or the save before cannot be written.
        """
        if step in self._manager.all_steps():
            return
        if history:
            self._policy.best_step = best_epoch(history)["step"]
        record = {
            "input": dict(input_state),
            "history": history,
            "normalisation": asdict(self._normalisation),
        }
        with self._writing():
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(_global_arrays(state)),
                    record=ocp.args.JsonSave(record),
                ),
            )

    def restore_latest(self, like: TrainState) -> tuple[TrainState, dict[str, Any], History] | None:
        """Return the newest state, its input position and the history; None if none was saved.

        Args:
            like: a state of the same shapes, on the devices to restore to.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        arguments = ocp.args.Composite(state=_restore_as(like), record=ocp.args.JsonRestore())
        restored = self._manager.restore(step, args=arguments)
        return restored["state"], restored["record"]["input"], restored["record"]["history"]

    def restore_best(self, like: TrainState, history: History) -> Variables:
        """Return the variables to evaluate with, from the best epoch of the history.

        Raises:
            TrainingStopped: if the last save cannot be written.
        """
        with self._writing():
            self._manager.wait_until_finished()
        arguments = ocp.args.Composite(state=_restore_as(like))
        restored = self._manager.restore(best_epoch(history)["step"], args=arguments)
        return restored["state"].evaluation_variables

    def close(self) -> None:
        """Finish saving and give up the folder.

        Raises:
            TrainingStopped: if the last save cannot be written.
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
                f"({str(error).splitlines()[0][:200]}); the ones before are kept. Make room, and "
                "go on with --resume."
            ) from error


def read_best(folder: Path) -> tuple[Variables, Normalisation]:
    """Read the variables of a run's best epoch so far, and how their images are normalised.

    Nothing is written, so the run may still be going on.

    Args:
        folder: of the checkpoints.

    Raises:
        UserError: if there is no checkpoint of a finished epoch, or it is broken.
    """
    options = ocp.CheckpointManagerOptions(read_only=True)
    try:
        with ocp.CheckpointManager(
            folder.absolute(), options=options, item_handlers=_handlers()
        ) as manager:
            return _read_best(manager, folder)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"A checkpoint in {folder} is broken ({reason}).") from error


def _read_best(manager: ocp.CheckpointManager, folder: Path) -> tuple[Variables, Normalisation]:
    newest = manager.latest_step() if folder.is_dir() else None
    record = None if newest is None else manager.restore(newest, args=_RECORD)["record"]
    if record is None or not record["history"]:
        raise UserError(
            f"There is no checkpoint of a finished epoch in {folder}; let the run get so far."
        )
    step = best_epoch(record["history"])["step"]
    saved = manager.item_metadata(step)["state"].tree
    # As NumPy arrays: the devices that it was trained on may not be there.
    arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
    arguments = ocp.args.Composite(state=ocp.args.PyTreeRestore(restore_args=arrays))
    state = manager.restore(step, args=arguments)["state"]
    averaged = state["ema"] or {name: state[name] for name in ("params", "batch_stats")}
    how = record["normalisation"]
    return averaged, Normalisation(tuple(how["mean"]), tuple(how["std"]), how["channel_order"])


_RECORD = ocp.args.Composite(record=ocp.args.JsonRestore())


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    # Random-looking floats shrink by a tenth, and that takes more time than writing them.
    state = ocp.PyTreeCheckpointHandler(use_compression=False)
    return {"state": state, "record": ocp.JsonCheckpointHandler()}


@dataclass
class _NewestAndBest(PreservationPolicy):
    # Orbax's own BestN forgets the scores of earlier checkpoints when the folder is opened again.
    best_step: float | int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        newest = {checkpoint.step for checkpoint in checkpoints[-2:]}
        return [c.step in newest or c.step == self.best_step for c in checkpoints]


def _restore_as(like: TrainState) -> ocp.args.PyTreeRestore:
    """Return what makes Orbax restore to the shapes, types and devices of this state."""
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    arguments = ocp.checkpoint_utils.construct_restore_args(abstract)
    return ocp.args.PyTreeRestore(abstract, restore_args=arguments)


def _global_arrays(state: TrainState) -> TrainState:
    """Return the state as Orbax wants it: ``pmap`` gives each process arrays of its own."""
    if jax.process_count() == 1:
        return state
    return jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, state)
