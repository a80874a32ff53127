"""Read the best checkpoint of a run and verify its checksums."""

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from lmf_jax.distributed.devices import Variables
from lmf_jax.errors import UserError
from lmf_jax.models.normalization import AnyNormalization, recorded_normalization
from lmf_jax.runs.checksum import record_checksum, tree_checksum
from lmf_jax.runs.files import best_epoch


def read_best(folder: Path) -> tuple[Variables, AnyNormalization | None]:
    """Read the variables of the best epoch so far, and the normalization of the images.

    Nothing is written, so the run may still be in progress.

    Args:
        folder: The folder of the checkpoints.

    Raises:
        UserError: If there is no checkpoint of a finished epoch, or it is broken.
    """
    SilenceClosedLoop.install()
    options = ocp.CheckpointManagerOptions(read_only=True)
    try:
        with ocp.CheckpointManager(
            folder.absolute(), options=options, item_handlers=item_handlers()
        ) as manager:
            return _read_best(manager, folder)
    except UserError:
        raise
    except Exception as error:  # Orbax and TensorStore raise nearly everything
        raise UserError(
            f"A checkpoint in {folder} is broken ({first_line(error)}); train the run again."
        ) from error


def _read_best(
    manager: ocp.CheckpointManager, folder: Path
) -> tuple[Variables, AnyNormalization | None]:
    newest = manager.latest_step() if folder.is_dir() else None
    record = None if newest is None else manager.restore(newest, args=_RECORD)["record"]
    if record is not None:
        check_checksums(record, {})
    if record is None or not record["history"]:
        raise UserError(
            f"There is no checkpoint of a finished epoch in {folder}; train at least one epoch."
        )
    step = best_epoch(record["history"], record["score"])["step"]
    saved = manager.item_metadata(step)["state"].tree
    # As NumPy arrays: the devices of the training may not exist here.
    arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), saved)
    arguments = ocp.args.Composite(
        state=ocp.args.PyTreeRestore(restore_args=arrays), record=ocp.args.JsonRestore()
    )
    best = manager.restore(step, args=arguments)
    state = {name: best["state"][name] for name in ("params", "batch_stats", "ema")}
    check_checksums(best["record"], state)
    variables = state.pop("ema") or state
    return variables, recorded_normalization(record["normalisation"])


_RECORD = ocp.args.Composite(record=ocp.args.JsonRestore())


def state_checksums(state: Mapping[str, PyTree]) -> dict[str, int]:
    """Return the checksum of each entry of a train state."""
    return {name: tree_checksum(values) for name, values in state.items()}


def check_checksums(record: Mapping[str, Any], state: Mapping[str, PyTree]) -> None:
    """Raise ValueError if the record or an entry of the state was changed after it was saved."""
    unsigned_record = {name: value for name, value in record.items() if name != "checksum"}
    if record["checksum"] != record_checksum(unsigned_record):
        raise ValueError("its record was changed")
    for name, checksum in state_checksums(state).items():
        if checksum != record["checksums"][name]:
            raise ValueError(f"its {name} were changed")


@dataclass(frozen=True)
class SilenceClosedLoop:
    """An ``unraisablehook`` that drops the error of a closed event loop.

    Orbax reads or writes all arrays concurrently and raises the first error. The remaining tasks
    then find their event loop closed, and Python would print a traceback for each of them, or a
    warning for those that had not begun.
    """

    print_others: Callable[[Any], Any]

    def __call__(self, unraisable: Any) -> None:
        """Pass an unraisable exception on unless its event loop is closed."""
        if "Event loop is closed" not in str(unraisable.exc_value):
            self.print_others(unraisable)

    @classmethod
    def install(cls) -> None:
        """Install the hook once, and a filter for the warning."""
        if not isinstance(sys.unraisablehook, cls):
            sys.unraisablehook = cls(sys.unraisablehook)
            warnings.filterwarnings("ignore", "coroutine 'Store", RuntimeWarning)


def first_line(error: Exception) -> str:
    """Return the first line of an error, shortened, or its type if it has no text."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


def item_handlers() -> dict[str, ocp.CheckpointHandler]:
    """Return the Orbax handlers of a checkpoint's items."""
    # Compression saves a tenth of random-looking floats and takes longer than writing them.
    state = ocp.PyTreeCheckpointHandler(use_compression=False)
    return {"state": state, "record": ocp.JsonCheckpointHandler()}
