"""``python train.py`` from the command line to the report, on one device and on two forced ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.colored_images import draw_images
from tests.helpers.quick_compilation import QUICK_EMITTERS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def own_images(tmp_path_factory):
    """Return three classes of 200, 60 and 20 images, each with another color."""
    return draw_images(tmp_path_factory.mktemp("own") / "three colors", (200, 60, 20))


def test_the_default_trains_tests_and_reports(data_dir, tmp_path):
    """By XLA's own emitters; EfficientNetV2-S takes three minutes: its steps are tested alone."""
    lines = train(["--run-dir", tmp_path / "run", "--data-dir", data_dir], "")
    assert lines[0].startswith("resnet50 with loss lmf on digits_lt")
    record, _ = check_run(tmp_path / "run", num_test=269, num_classes=10)
    assert record["device"]["count"] == 1


@pytest.mark.slow
def test_own_images_train_test_and_report(own_images, data_dir, tmp_path):
    command = ["--dataset", f"folder:{own_images}", "--image-size", "32", "--cache", "none"]
    command += ["--model", "densenet121", "--sampling", "class-balanced", "--pretrained", "none"]
    command += ["--run-dir", tmp_path / "run", "--data-dir", data_dir]
    lines = train(command, f"--xla_force_host_platform_device_count=2 {QUICK_EMITTERS}")
    assert lines[0].startswith(f"densenet121 with loss lmf on folder:{own_images}")
    record, test = check_run(tmp_path / "run", num_test=42, num_classes=3)
    assert record["dataset"]["class_names"] == ["blue", "green", "red"]
    assert [row["support"] for row in test["per_class"].values()] == [3, 9, 30]


def train(arguments, xla_flags):
    """Run ``train.py`` for an epoch; return what it printed."""
    command = [sys.executable, "train.py", "--epochs", "1", *map(str, arguments)]
    environment = os.environ | {"XLA_FLAGS": xla_flags}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert any(line.startswith("epoch 1/1") for line in lines)
    assert any(line.startswith("macro mean") for line in lines)
    return lines


def check_run(run, num_test, num_classes):
    """Check the files of a run against each other; return its record and its test results."""
    record = json.loads((run / "config.json").read_text())
    assert sum(record["dataset"]["class_counts"]["test"]) == num_test
    test = json.loads((run / "test.json").read_text())
    assert 0 <= test["macro_f1"] <= 1
    assert len(test["per_class"]) == num_classes
    with np.load(run / "predictions.npz") as predictions:
        assert predictions["logits"].shape == (num_test, num_classes)
        accuracy = np.mean(predictions["logits"].argmax(-1) == predictions["labels"])
    assert accuracy == pytest.approx(test["accuracy"])
    assert f"{test['macro_f1']:.3f}" in (run / "report.html").read_text()
    return record, test
