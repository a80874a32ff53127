"""The tiny model, trained by any number of processes on any number of forced devices.

The processes are forked from a server that has imported all modules and started no threads, so a
start takes one second instead of ten.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.meeting import meeting_flags
from tests.helpers.quick_compilation import FEW_PASSES, QUICK_EMITTERS

SETTINGS = ["--image-size", "32", "--batch-size", "16", "--epochs", "2", "--decay-epochs", "1"]
SETTINGS += ["--learning-rate", "1e-3", "--augment", "shift", "--mixup", "0.4"]
SETTINGS += ["--accumulate", "2", "--ema-decay", "0.9"]
TRAINING, VALIDATION = 80, 21
"""Five steps an epoch; the last of two validation batches is padded."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["train", "tests.helpers.tiny_training"])


@dataclass(frozen=True)
class Part:
    """A part of a run.

    Attributes:
        run_dir: The folder of the run, resumed if there is a checkpoint.
        precision: Float32 or float64.
        last_step: The step after which the part is saved and stopped, if given.
    """

    run_dir: Path
    precision: str
    last_step: int | None = None

    @property
    def found(self) -> Path:
        """The folder of the recorded values, a file per process."""
        return self.run_dir.with_name(f"{self.run_dir.name}-found")


def run(processes: int, devices: int, parts: list[Part], output: Path, map_step: Callable) -> None:
    """Train with this number of processes and devices, one part after the other.

    ``map_step`` maps a step over devices. No process outlives this call.
    """
    outputs = [output.with_name(f"{output.name}-{number}") for number in range(processes)]
    started: list[BaseProcess] = []
    for flags, file in zip(meeting_flags(processes), outputs, strict=True):
        work = ([*SETTINGS, *flags], devices // processes, parts, file, map_step)
        started.append(_FORKS.Process(target=_work, args=work))
    try:
        for process in started:
            process.start()
        codes = _wait(started, seconds=300)
    finally:
        for process in started:
            if process.is_alive():
                process.kill()
                process.join()
    printed = [file.read_text()[-3000:] for file in outputs if file.exists()]
    assert codes == [0] * processes, "\n\n".join([f"exit codes {codes}", *printed])


def _wait(processes: list[BaseProcess], seconds: float) -> list[int | None]:
    """Return the exit codes when all are over or one has failed; None of what still runs."""
    deadline = time.monotonic() + seconds
    while True:
        running = [process.sentinel for process in processes if process.is_alive()]
        codes = [process.exitcode for process in processes]
        if not running or any(codes) or time.monotonic() > deadline:
            return codes
        connection.wait(running, deadline - time.monotonic())


def found(part: Part) -> dict[str, np.ndarray]:
    """Return the values of a part, step by step, and check that all processes agree.

    Their blocks of each batch are concatenated.
    """
    curves = []
    for file in sorted(part.found.iterdir()):
        with np.load(file) as curve:
            curves.append(dict(curve))
    first, *others = curves
    for other in others:
        for name in first.keys() - {"rows"}:
            np.testing.assert_array_equal(other[name], first[name], err_msg=name)
    first["rows"] = np.concatenate([curve["rows"] for curve in curves], axis=1)
    return first


def labels() -> np.ndarray:
    """Return the label of every row; of the last class so few that some batches have none."""
    values = np.random.default_rng(0).integers(0, 2, TRAINING + VALIDATION)
    values[[*range(0, 60, 20), *range(TRAINING, TRAINING + 3)]] = 2
    return values.astype(np.int32)


def _images() -> np.ndarray:
    """Return random images; the first number of each is its row."""
    shape = (TRAINING + VALIDATION, 32, 32, 3)
    images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    images[:, 0, 0, 0] = np.arange(len(images))
    return images


def _work(
    words: list[str], local_devices: int, parts: list[Part], output: Path, map_step: Callable
) -> None:
    """Be one of the processes."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    forced = f"--xla_force_host_platform_device_count={local_devices}"
    os.environ["XLA_FLAGS"] = f"{forced} {QUICK_EMITTERS} {FEW_PASSES}"
    import jax

    from lmf_jax.cli.command_line import parse_config
    from lmf_jax.distributed import devices
    from lmf_jax.distributed.initialize import initialize
    from lmf_jax.training import classification
    from tests.helpers.tiny_training import tiny_model

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    classification.create_model = lambda name, **settings: tiny_model(**settings)
    devices.map_step = map_step
    config = parse_config(words).resolve({})
    initialize(config.run)
    assert jax.local_device_count() == local_devices
    if jax.process_count() > 1:
        jax.config.update("jax_enable_compilation_cache", False)  # as meeting.WITHOUT_CACHE says
    programs: dict[str, Any] = {}
    for part in parts:
        _train(part, config, programs)
    if jax.process_count() > 1:
        jax.distributed.shutdown()  # multiprocessing runs no exit handlers


def _train(part: Part, config: Any, programs: dict[str, Any]) -> None:
    """Train a part of a run, and write the values after every step."""
    import jax

    from data.batches.pipeline import evaluation_batches, train_batches
    from lmf_jax.distributed.preemption import StopRequest
    from lmf_jax.errors import Interrupted
    from lmf_jax.training.classification import make_classification
    from lmf_jax.training.loop import fit

    jax.config.update("jax_enable_x64", part.precision == "float64")
    going_on = (part.run_dir / "checkpoints").exists()
    config = config.replace(run_dir=str(part.run_dir), resume=going_on)
    object.__setattr__(config.model, "precision", part.precision)  # the flag does not offer float64
    rows = np.arange(TRAINING + VALIDATION)
    share = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    share["batch_size"] = config.training.batch_size
    training = train_batches(_images(), labels(), rows[:TRAINING], seed=0, **share)
    validation = evaluation_batches(_images(), labels(), rows[TRAINING:], **share)
    if part.precision not in programs:  # compiled once for all parts
        counts = np.bincount(labels()[:TRAINING])
        programs[part.precision] = make_classification(config, counts)
    program = programs[part.precision]
    watched = _WatchedStep(program, validation)
    StopRequest.should_stop = lambda self, step: step == part.last_step
    with contextlib.suppress(Interrupted):
        program = dataclasses.replace(program, train_step=watched)
        fit(config.training, config.run, program, part.run_dir, training, validation)
    part.found.mkdir(exist_ok=True)
    np.savez(part.found / f"{jax.process_index()}.npz", **watched.curve())


class _WatchedStep:
    """A train step that records its batches, its states, and their predictions."""

    def __init__(self, program: Any, validation: Any) -> None:
        self._program = program
        self._validation = validation
        self._steps: list[dict[str, Any]] = []

    def __call__(self, state: Any, batch: Any) -> Any:
        from lmf_jax.inference.predict import predict

        rows = np.asarray(batch["image"])[..., 0, 0, 0].ravel()
        state = self._program.train_step(state, batch)
        variables = state.evaluation_variables
        logits, truths = predict(self._program.predict_step, variables, self._validation)
        np.testing.assert_array_equal(truths, labels()[TRAINING:])
        found = {
            "loss": state.loss_sum,
            "batch_stats": state.batch_stats,
            "gradients": state.opt_state[0].mu,  # Adam's moving average of them
            "params": state.params,
            "ema": state.ema,
        }
        found = {name: _flat(tree) for name, tree in found.items()}
        self._steps.append({"step": int(state.step), "rows": rows, "logits": logits, **found})
        return state

    def curve(self) -> dict[str, np.ndarray]:
        """Return the recorded values, step by step."""
        return {name: np.stack([step[name] for step in self._steps]) for name in self._steps[0]}


def _flat(tree: Any) -> np.ndarray:
    """Return all values of a tree in one vector, and check that all devices agree."""
    import jax

    leaves = []
    for leaf in jax.tree.leaves(tree):
        first, *others = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        for other in others:
            np.testing.assert_array_equal(other, first)
        leaves.append(np.ravel(first))
    return np.concatenate(leaves)
