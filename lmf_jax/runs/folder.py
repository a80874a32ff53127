"""The run folder: its name, its creation, and the settings of the run in it."""

import errno
import importlib.metadata
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

import lmf_jax
from lmf_jax.config import ResolvedConfig, run_only_keys, with_defaults
from lmf_jax.errors import JointError, UserError
from lmf_jax.models.weight_files import describe_weights
from lmf_jax.output_files import file_name
from lmf_jax.runs.atomic_files import read_json_lines, write_atomically
from lmf_jax.runs.files import read_record

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")

SHARED_DISK_SECONDS = 60
"""Time after which NFS clients notice a new folder: the default of ``acdirmax``."""


def open_run(config: ResolvedConfig, dataset: Mapping[str, Any]) -> Path:
    """Make the folder of a new run, or check that a resumed run has the same settings.

    The number of epochs may change, unless finished epochs depend on it; ``config.json`` is
    updated then.

    Args:
        config: The resolved settings.
        dataset: The description of the data for ``config.json``.

    Returns:
        The folder, with ``config.json`` in it.

    Raises:
        UserError: If the folder exists and is not resumed, is resumed with other settings or data,
            cannot be written, or is not visible to all processes; or if the pretrained weights
            cannot be read.
    """
    if config.run.resume:
        return _resumed_folder(config, dataset)
    if jax.process_count() > 1 and not config.run.run_dir:
        raise UserError("Several processes need a common folder; give all the same --run-dir.")
    record = {
        "config": config.record(),
        "dataset": dict(dataset),
        "weights": describe_weights(config.model.pretrained, config.model.model),
        "versions": versions(),
        "git_commit": _git_commit(),
        "device": {
            "platform": jax.devices()[0].platform,
            "kind": jax.devices()[0].device_kind,
            "count": jax.device_count(),
            "process_count": jax.process_count(),
        },
    }
    if not config.run.run_dir:
        return next(folder for folder in _default_folders(config) if _make(folder, record))
    folder = Path(config.run.run_dir)
    if not _on_all_processes(jax.process_index() > 0 or _make(folder, record)):
        raise JointError(
            f"The run folder {folder} exists; give another --run-dir, or --resume to continue it."
        )
    if not _on_all_processes(_wait_for(folder / "config.json")):
        raise JointError(
            f"The run folder {folder}, made by the first process, is not visible to all others; "
            "give a --run-dir on a disk that every host has mounted."
        )
    return folder


def _resumed_folder(config: ResolvedConfig, dataset: Mapping[str, Any]) -> Path:
    folder, epochs = Path(config.run.run_dir), config.training.epochs
    record = read_record(folder)
    _check_same_run(record, config, dataset)
    if record["config"]["epochs"] != epochs and jax.process_index() == 0:
        _write_record(folder, record | {"config": record["config"] | {"epochs": epochs}})
    return folder


def has_record(run_dir: str | Path) -> bool:
    """Return whether a folder has the settings of a run."""
    return (Path(run_dir) / "config.json").exists()


def read_config(run_dir: str | Path) -> ResolvedConfig:
    """Return the settings that a run was started with.

    Raises:
        UserError: If there is no run in the folder, or one of another version.
    """
    record = read_record(run_dir)
    try:
        return ResolvedConfig.from_record(record["config"])
    except TypeError as error:
        raise UserError(
            f"The run in {run_dir} was started by another version ({error}); resume it with "
            f"lmf-jax {record['versions'].get('lmf_jax')}."
        ) from error


def _default_folders(config: ResolvedConfig) -> Iterator[Path]:
    kind, _, path = config.data.dataset.partition(":")  # of a path, only the last component
    dataset = "-".join(filter(None, (kind, Path(path).stem)))
    seed = config.training.seed
    name = file_name(f"{dataset}-{config.model.model}-{config.loss.loss}-{seed}", longest=200)
    return (Path("runs", f"{name}-{number}" if number > 1 else name) for number in count(1))


def _make(folder: Path, record: Mapping[str, Any]) -> bool:
    """Make the folder with its ``config.json``; return False if it exists.

    A rename makes both at once: a run that is killed here can be resumed, or has no folder.
    """
    if folder.exists():
        return False
    record = {**record, "config": record["config"] | {"run_dir": str(folder)}}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{file_name(folder.name, longest=200)}.", dir=folder.parent
        ) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir()
            _write_record(new, record)
            new.rename(folder)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # another run has just made it
            return False
        raise UserError(f"The run folder {folder} cannot be made: {error.strerror}.") from error
    return True


def _write_record(folder: Path, record: Mapping[str, Any]) -> None:
    write_atomically(folder / "config.json", json.dumps(record, indent=2) + "\n")


def _wait_for(path: Path) -> bool:
    """Wait until a file made by another process is visible; return False after a timeout.

    Network disks cache the absence of a file. With a folder that only the first process sees, a run
    would train an epoch and then wait forever in its first checkpoint.
    """
    end = time.monotonic() + SHARED_DISK_SECONDS
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _on_all_processes(value: bool) -> bool:
    """Return the logical AND of a value over all processes."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.process_allgather(np.asarray(value)).all())


def _check_same_run(
    record: Mapping[str, Any], config: ResolvedConfig, dataset: Mapping[str, Any]
) -> None:
    saved, now = with_defaults(record["config"]), json.loads(json.dumps(config.record()))
    differences = [
        f"{key} {saved.get(key)} (now {now[key]})"
        for key in now
        if key != "epochs" and key not in run_only_keys() and saved.get(key) != now[key]
    ]
    if record["dataset"]["fingerprint"] != dataset["fingerprint"]:
        differences.append("the images, labels or split of the dataset")
    if differences:
        raise UserError(
            f"The run in {config.run.run_dir} was started with other settings: "
            f"{', '.join(differences)}; resume with the same, or start a new run."
        )
    if saved.get("epochs") != config.training.epochs:
        _check_epochs(saved.get("epochs"), config)


def _check_epochs(before: int | None, config: ResolvedConfig) -> None:
    """Refuse another number of epochs if finished epochs depend on it."""
    epochs, run_dir = config.training.epochs, config.run.run_dir
    if config.loss.loss == "ldam-drw" and 0 < config.loss.drw_start < 1:
        raise UserError(
            f"The run in {run_dir} was started with --epochs {before}, and ldam-drw re-weights "
            f"after a fraction of them (--drw-start {config.loss.drw_start}), so its first epochs "
            f"would differ with --epochs {epochs}; resume with --epochs {before}, or start a new "
            "run."
        )
    check_epochs_done(len(read_json_lines(Path(run_dir) / "metrics.jsonl")), epochs, run_dir)


def check_epochs_done(done: int, epochs: int, run_dir: str) -> None:
    """Refuse to resume a run with fewer epochs than it has finished.

    Args:
        done: Number of finished epochs.
        epochs: Number of epochs of the resumed run.
        run_dir: Its folder, for the error.

    Raises:
        UserError: If ``done`` is larger than ``epochs``.
    """
    if done > epochs:
        raise UserError(
            f"The run in {run_dir} has finished {done} epochs, more than --epochs {epochs}; "
            f"resume with --epochs {done} or more, or start a new run."
        )


def versions() -> dict[str, str]:
    """Return the versions of Python and of all packages that results depend on."""
    found = {"lmf_jax": lmf_jax.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _git_commit() -> str | None:
    """Return the commit of this checkout, with ``+`` if it has changes; None outside of git."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
