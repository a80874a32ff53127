"""``train.py`` with a tiny model, in separate processes that may be killed.

They are forked from a server that has imported all modules and started no threads, so a start takes
one second instead of ten.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from tests.helpers.meeting import meeting_flags
from tests.helpers.quick_compilation import FEW_PASSES, QUICK_EMITTERS

SETTINGS = ("--batch-size", "32", "--augment", "shift", "--checkpoint-steps", "5")
SETTINGS += ("--learning-rate", "1e-2", "--ema-decay", "0.9")
IMAGE_SIZE = ("--image-size", "32")
"""Volumes have patches instead."""

EPOCHS = ("--epochs", "6")
"""Of a run of one process; twenty kills leave some of them to do."""

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["train", "tests.helpers.tiny_training"])


@dataclass(frozen=True)
class Training:
    """A process that trains.

    Attributes:
        run_dir: The folder of the run.
        process: As multiprocessing knows it.
        started: A file that is there once the first step is over.
        output: A file of all that it prints.
    """

    run_dir: Path
    process: BaseProcess
    started: Path
    output: Path

    def wait_for_first_step(self) -> None:
        """Return when the first step is over, or the process."""
        while not self.started.exists() and self.process.is_alive():
            time.sleep(0.002)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid or 0, number)

    def end(self, seconds: float = 300) -> int:
        """Wait for the end; return the exit code, as a shell would say it."""
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, f"still running:\n{self.output.read_text()}"
        return code if code >= 0 else 128 - code


def start(run_dir: Path, data_dir: Path, *flags: str) -> Training:
    """Start training, or go on with it where the folder holds a run."""
    (training,) = start_together(run_dir, data_dir, 1, *flags)
    return training


def start_together(run_dir: Path, data_dir: Path, processes: int, *flags: str) -> list[Training]:
    """Start several processes that train one run."""
    size = () if "--patch-size" in flags else IMAGE_SIZE
    words = ["--run-dir", str(run_dir), "--data-dir", str(data_dir), *size, *SETTINGS, *flags]
    words += ["--resume"] if (run_dir / "config.json").exists() else []
    return [_start(run_dir, [*words, *flags]) for flags in meeting_flags(processes)]


def _start(run_dir: Path, words: list[str]) -> Training:
    files = Path(tempfile.mkdtemp(prefix="lmf-jax-training-"))
    started, output = files / "started", files / "output"
    output.touch()
    process = _FORKS.Process(target=_train, args=(words, started, output))
    process.start()
    return Training(run_dir, process, started, output)


def _train(words: list[str], started: Path, output: Path) -> None:
    """Be ``train.py``, with tiny models and a sign after each first step."""
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["XLA_FLAGS"] = f"{QUICK_EMITTERS} {FEW_PASSES}"
    import jax

    import train
    from lmf_jax.cli import cross_validation
    from lmf_jax.cli.tasks import classification as tasks
    from lmf_jax.inference import segmenter
    from lmf_jax.training import classification, segmentation
    from lmf_jax.training.progress import Progress
    from tests.helpers.tiny_training import tiny_model, tiny_unet

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    if "--num-processes" in words:
        jax.config.update("jax_enable_compilation_cache", False)  # as meeting.WITHOUT_CACHE says
    classification.create_model = lambda name, **settings: tiny_model(**settings)
    for module in (segmentation, segmenter):
        module.create_model = lambda name, **settings: tiny_unet(**settings)
    # These take half of the time, and are made from the files that are compared.
    tasks.explain_mistakes = lambda *_: None
    train.write_report = cross_validation.write_report = _write_no_report
    add = Progress.add

    def add_and_tell(progress: Progress) -> None:
        add(progress)
        started.touch()

    Progress.add = add_and_tell
    sys.argv = ["train.py", *words]
    try:
        train.main()
    finally:
        if jax.distributed.is_initialized():
            jax.distributed.shutdown()  # multiprocessing runs no exit handlers


def _write_no_report(run_dir: Path) -> Path:
    """Write an empty report, which marks a fold as finished."""
    (run_dir / "report.html").touch()
    return run_dir / "report.html"


def run_to_the_end(run_dir: Path, data_dir: Path, *flags: str) -> str:
    """Train, or go on, until the end; return what was printed."""
    training = start(run_dir, data_dir, *flags)
    code, printed = training.end(), training.output.read_text()
    assert code == 0, printed
    return printed


def kill_at_a_random_moment(training: Training, rng: random.Random, longest: float) -> bool:
    """Kill a training with SIGKILL; return whether it left a save half done.

    Mostly between the first step and ``longest`` seconds later, one in five while it starts.
    """
    if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 1.5))
    else:
        training.wait_for_first_step()
        time.sleep(rng.uniform(0, longest))
    training.send(signal.SIGKILL)
    training.process.join()
    return any((training.run_dir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def difference(one: Path, other: Path) -> str:
    """Return in which file two finished runs differ, to the bit; "" if in none.

    The checksums in the newest checkpoint's record stand for every array of the train state.
    """
    for name in ("metrics.jsonl", "test.json"):
        if (one / name).read_bytes() != (other / name).read_bytes():
            return name
    with np.load(one / "predictions.npz") as a, np.load(other / "predictions.npz") as b:
        for name in a.files:
            if not np.array_equal(a[name], b[name]):
                return f"{name} of predictions.npz"
    if newest_record(one) != newest_record(other):
        return "the newest checkpoint"
    return ""


def newest_record(run_dir: Path) -> dict:
    """Return the record of the newest checkpoint."""
    steps = [path for path in (run_dir / "checkpoints").iterdir() if path.name.isdigit()]
    newest = max(steps, key=lambda path: int(path.name))
    return json.loads((newest / "record" / "metadata").read_text())
