"""Two real processes train, validate, save and resume as one does."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.meeting import meeting_flags
from tests.quick_compilation import QUICK_EMITTERS

ROOT = Path(__file__).parent.parent.parent
SETTINGS = [
    "--epochs",
    "2",
    "--batch-size",
    "8",
    "--image-size",
    "32",
    "--learning-rate",
    "1e-3",
    "--decay-epochs",
    "30",
]


def train(folder: Path, processes: int, *arguments: str) -> dict[str, np.ndarray]:
    """Train on two devices in all, and return what the first process found."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.training.process", str(folder), *SETTINGS, *arguments]
    command += ["--augment", "shift"]
    flags = f"--xla_force_host_platform_device_count={2 // processes} {QUICK_EMITTERS}"
    started = [
        subprocess.Popen(
            [*command, *words],
            cwd=ROOT,
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for words in meeting_flags(processes)
    ]
    printed = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0] * processes, "\n".join(printed)
    assert all("epoch" not in text for text in printed[1:]), "only the first process speaks"
    with np.load(folder / "result.npz") as result:
        return dict(result)


def test_two_processes_train_and_resume_as_one(tmp_path):
    one, two = train(tmp_path / "one", 1), train(tmp_path / "two", 2)
    np.testing.assert_array_equal(two["labels"], one["labels"])
    assert len(two["labels"]) == 11
    np.testing.assert_allclose(two["params"], one["params"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(two["logits"], one["logits"], rtol=0, atol=1e-5)
    rows = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("one", "two")]
    assert [len(text.splitlines()) for text in rows] == [2, 2]

    again = train(tmp_path / "two", 2, "--resume")
    np.testing.assert_array_equal(again["params"], two["params"])
