"""The folder of a cross-validation: its folds, their locks, and the record of the whole.

``RUN/fold-1`` to ``RUN/fold-N`` are ordinary run folders. ``config.json`` of ``RUN`` has the number
of folds and no number of a fold.
"""

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmf_jax.errors import UserError
from lmf_jax.runs.files import PARTS, fold_dir, num_folds, read_record

REPORT = "report.html"
"""The file that is written last, when everything else of a fold or of the whole is complete."""


def fold_dirs(run_dir: str | Path) -> list[Path]:
    """Return the folders of all folds of a cross-validation, which must be finished.

    Raises:
        UserError: If the folder has no cross-validation, or a fold is not finished.
    """
    total = num_folds(read_record(run_dir))
    if total is None:
        raise UserError(f"The run in {run_dir} has no folds; expected one of train.py --folds.")
    folders = [fold_dir(run_dir, number) for number in range(1, total + 1)]
    missing = [str(folder) for folder in folders if not (folder / "test.json").exists()]
    if missing:
        raise UserError(
            f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not finished; continue "
            f"with: python train.py --resume --run-dir {run_dir}"
        )
    return folders


def member_dirs(run_dirs: Sequence[str | Path]) -> list[str | Path]:
    """Return the folders of runs, with the folds of a cross-validation in place of its folder.

    Raises:
        UserError: If there is no such run, or a fold is not finished.
    """
    return [
        member
        for run_dir in run_dirs
        for member in (fold_dirs(run_dir) if num_folds(read_record(run_dir)) else [run_dir])
    ]


def require_single_run(run_dir: str | Path) -> None:
    """Refuse the folder of a cross-validation, which has a model in each of its folds.

    Raises:
        UserError: If it is one, or there is no run in the folder.
    """
    total = num_folds(read_record(run_dir))
    if total is not None:
        raise UserError(
            f"The run in {run_dir} is a cross-validation of {total} folds, each with its own "
            f"model; give one of them, such as {fold_dir(run_dir, 1)}."
        )


def is_finished(folder: Path, epochs: int) -> bool:
    """Return whether a fold was trained for this number of epochs, tested and reported.

    Args:
        folder: The folder of the fold.
        epochs: The setting ``epochs``.
    """
    if not (folder / REPORT).exists():
        return False
    return bool(read_record(folder)["config"].get("epochs") == epochs)


@contextlib.contextmanager
def try_lock(run_dir: Path, name: str) -> Iterator[bool]:
    """Hold a lock in the folder of a cross-validation, if no other process holds it.

    The lock ends with its process, so the fold of a killed process is free again. On a disk without
    locks every process gets it; such processes each need their own ``--fold``.

    Args:
        run_dir: The folder.
        name: What is locked, such as ``fold-2``.

    Yields:
        Whether this process holds the lock.

    Raises:
        UserError: If the folder cannot be written.
    """
    path = run_dir / f".{name}.lock"
    try:
        file = path.open("a")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:
            pass
        yield True


def joint_dataset(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the description of the data of a cross-validation for ``config.json``.

    The test counts are those of all images, each of which is in one test part; the counts of
    training and validation are rounded means over the folds.

    Args:
        folds: The description of the data of each fold.
    """
    digest = hashlib.sha256("".join(fold["fingerprint"] for fold in folds).encode())
    notes = [
        note
        if all(note in other.get("split_notes", []) for other in folds)
        else f"Fold {n}: {note}"
        for n, fold in enumerate(folds, start=1)
        for note in fold.get("split_notes", [])
    ]
    joint = {**folds[0], "fingerprint": digest.hexdigest()}
    for of_fold in ("metadata", "metadata_fingerprint"):  # each fold encodes by its training part
        joint.pop(of_fold, None)
    if "split_notes" in joint:
        joint["split_notes"] = list(dict.fromkeys(notes))
    for key in ("class_counts", "negative_counts", "num_cases"):
        if key in joint:
            joint[key] = {
                part: _joint_counts([fold[key][part] for fold in folds], part) for part in PARTS
            }
    return joint


def _joint_counts(counts: Sequence[Any], part: str) -> Any:
    values = np.array(counts)
    if part == "test":
        return values.sum(axis=0).tolist()
    return np.rint(values.mean(axis=0)).astype(np.int64).tolist()
