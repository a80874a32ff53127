"""Checkpoints: the train state, the input position and the metrics so far, as one bundle.

The newest two and the best one are kept. The best is the first epoch with the highest validation
macro F1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    BestN,
    LatestN,
)

from lmf_jax.errors import UserError
from lmf_jax.training.step import TrainState, Variables

History = list[dict[str, float]]
"""One row per finished epoch, as in ``metrics.jsonl``."""


class Checkpoints:
    """The checkpoints of a run, by step."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, which is made if needed."""
        # A best_fn together with max_to_keep would delete the newest when the score falls.
        best = BestN(get_metric_fn=_score, n=1, keep_checkpoints_without_metrics=False)
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(2), best])
            ),
            item_names=("state", "record"),
        )

    def save(
        self, step: int, state: TrainState, input_state: Mapping[str, Any], history: History
    ) -> None:
        """Save in the background; a checkpoint at the end of an epoch competes for the best.

        Args:
            step: updates done so far.
            state: the state after them; it may be given up to the next step at once.
            input_state: the position of the input after them.
            history: rows of the finished epochs; the last one is of this step if an epoch ends
                here.
        """
        if step in self._manager.all_steps():
            return
        ends_epoch = bool(history) and history[-1]["step"] == step
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_global_arrays(state)),
                record=ocp.args.JsonSave({"input": dict(input_state), "history": history}),
            ),
            metrics=history[-1] if ends_epoch else None,
        )

    def restore_latest(self, like: TrainState) -> tuple[TrainState, dict[str, Any], History]:
        """Return the newest state, its input position and the history.

        Args:
            like: a state of the same shapes, on the devices to restore to.

        Raises:
            UserError: if there is no checkpoint.
        """
        step = self._manager.latest_step()
        if step is None:
            raise UserError(
                f"There is no checkpoint in {self._manager.directory}; start the run anew."
            )
        restored = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(_abstract(like)), record=ocp.args.JsonRestore()
            ),
        )
        return restored["state"], restored["record"]["input"], restored["record"]["history"]

    def restore_best(self, like: TrainState, history: History) -> Variables:
        """Return the variables to evaluate with, from the best epoch."""
        best = max(history, key=_score)
        restored = self._manager.restore(
            int(best["step"]),
            args=ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(like))),
        )
        return restored["state"].evaluation_variables

    def wait(self) -> None:
        """Return when everything saved is on the disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish saving and give up the folder."""
        self._manager.close()


def _score(row: Mapping[str, float]) -> tuple[float, float]:
    return row["val_macro_f1"], -row["epoch"]


def _abstract(state: TrainState) -> TrainState:
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, state)


def _global_arrays(state: TrainState) -> TrainState:
    """Return the state as Orbax wants it: ``pmap`` gives each process arrays of its own."""
    if jax.process_count() == 1:
        return state
    return jax.tree.map(ocp.utils.fully_replicated_host_local_array_to_global_array, state)
