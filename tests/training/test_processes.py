"""Two processes train together, and the first writes the explanations."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lmf_jax.evaluation.classification.mistakes import read_mistakes
from tests.helpers.meeting import WITHOUT_CACHE, meeting_flags
from tests.helpers.quick_compilation import QUICK_EMITTERS
from tests.helpers.tiny_training import NUM_CLASSES

ROOT = Path(__file__).parent.parent.parent
SETTINGS = ["--epochs", "1", "--batch-size", "8", "--image-size", "32", "--learning-rate", "1e-3"]


@pytest.mark.slow
def test_two_processes_train_and_the_first_speaks_writes_and_explains(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "tests.helpers.process", str(folder), *SETTINGS]
    environment = os.environ | WITHOUT_CACHE | {"XLA_FLAGS": QUICK_EMITTERS}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [
        subprocess.Popen([*command, *words], cwd=ROOT, env=environment, **pipes)
        for words in meeting_flags(2)
    ]
    printed = [process.communicate(timeout=240)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(printed)
    assert ["epoch 1/1" in text for text in printed] == [True, False]
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1
    logits = np.load(folder / "logits.npy")
    assert logits.shape == (11, NUM_CLASSES)
    assert np.isfinite(logits).all()
    mistakes = read_mistakes(folder, len(logits))
    assert len(mistakes.indices) > 0
