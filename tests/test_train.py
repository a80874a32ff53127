"""``python train.py`` from the command line to the report, on one forced device and on two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from data import load_dataset
from lmf_jax.config import Config
from lmf_jax.training.classification import make_classification
from lmf_jax.training.step import spread_over_devices
from tests.coloured_images import draw_images
from tests.training.devices import assert_close, on_one, only, place

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def own_images(tmp_path_factory):
    """Three classes of 200, 60 and 20 images, each with a colour of its own."""
    return draw_images(tmp_path_factory.mktemp("own") / "three colours", (200, 60, 20))


@pytest.mark.parametrize(("model", "devices"), [("resnet50", 1), ("efficientnet_v2_s", 2)])
def test_every_model_trains_tests_and_reports(model, devices, data_dir, tmp_path):
    quick = model != "resnet50"  # that runs as a person's does; compiled so it takes half the time
    command = ["--model", model, "--run-dir", tmp_path / "run", "--data-dir", data_dir]
    lines = train(command, devices, quick)
    assert lines[0].startswith(f"{model} with loss lmf on digits_lt")
    record, _ = check_run(tmp_path / "run", num_test=269, num_classes=10)
    assert record["device"]["count"] == devices


def test_own_images_train_test_and_report(own_images, data_dir, tmp_path):
    command = ["--dataset", f"folder:{own_images}", "--image-size", "32", "--cache", "none"]
    command += ["--model", "densenet121", "--sampling", "class-balanced"]
    command += ["--run-dir", tmp_path / "run", "--data-dir", data_dir]
    lines = train(command, 2, quick=True)
    assert lines[0].startswith(f"densenet121 with loss lmf on folder:{own_images}")
    record, test = check_run(tmp_path / "run", num_test=42, num_classes=3)
    assert record["dataset"]["class_names"] == ["blue", "green", "red"]
    assert [row["support"] for row in test["per_class"].values()] == [3, 9, 30]


def train(arguments, devices, quick):
    """Run ``train.py`` for an epoch; return what it printed."""
    command = [sys.executable, "train.py", "--epochs", "1", *map(str, arguments)]
    flags = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(quick)),
    }
    result = subprocess.run(
        command, cwd=ROOT, env=os.environ | flags, capture_output=True, text=True
    )
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


def test_the_first_step_in_float32_is_that_of_one_device(data_dir):
    """ResNet-50 at full size; ``python -m benchmarks.devices`` prints the same of all models."""
    dataset = load_dataset("digits_lt", data_dir=data_dir)
    config = Config(epochs=1).resolve(dataset.defaults)
    rng = np.random.default_rng(0)
    size = config.image_size
    batch = {
        "image": rng.integers(0, 256, (config.batch_size, size, size, 3), np.uint8),
        "label": rng.integers(0, 10, config.batch_size).astype(np.int32),
    }
    with only(1):
        program = make_classification(config, dataset.class_counts("train"))
        initial = jax.device_get(program.initial_state())
    states = []
    for devices in (1, 2):
        with only(devices):
            program = make_classification(config, dataset.class_counts("train"))
            state = program.train_step(place(initial), spread_over_devices(batch))
        states.append(on_one(state))
    one, two = states
    np.testing.assert_allclose(two.loss_sum, one.loss_sum, rtol=1e-5)
    assert_close(two.batch_stats, one.batch_stats, 1e-5)
    # After one step the first moment of Adam is a tenth of the summed gradient.
    assert_close(two.opt_state[0].mu, one.opt_state[0].mu, 1e-5)
