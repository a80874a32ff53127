"""``train.py --task segmentation`` to the report, on images and volumes, with a tiny U-Net."""

import json
import os
import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from data.volume_preparation import prepare_volumes
from lmf_jax.training import segmentation, trained_segmenter
from lmf_jax.training.progress import Progress
from tests.data.made_volumes import make_brats20, make_kits19
from tests.training.tiny import tiny_unet

TRAIN = str(Path(__file__).parent.parent / "train.py")
IMAGES = ["--dataset", "digits_masks", "--image-size", "32", "--batch-size", "16"]
VOLUMES = ["--patch-size", "8", "16", "16", "--batch-size", "4", "--augment", "mirror"]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Runs of this module build the tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (segmentation, trained_segmenter):
            patch.setattr(module, "create_model", lambda name, **settings: tiny_unet(**settings))
        yield


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepared volumes; the images are prepared on first use."""
    root = tmp_path_factory.mktemp("segment")
    for name, make in (("kits19", make_kits19), ("brats20", make_brats20)):
        prepare_volumes(name, make(root / "raw" / name), root / "data")
    return root / "data"


def train(run_dir, data_dir, *words):
    """Run ``train.py`` in this process; return the code that it ends with."""
    arguments = ["--task", "segmentation", "--data-dir", data_dir, "--run-dir", run_dir, *words]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, arguments)])
        try:
            runpy.run_path(TRAIN, run_name="__main__")
        except SystemExit as stop:
            return stop.code
    return 0


RUNS = {
    "digits_masks": [*IMAGES, "--epochs", "2", "--loss", "mixed-focal", "--learning-rate", "1e-3"],
    "kits19": [*VOLUMES, "--epochs", "3", "--loss", "asymmetric-unified-focal"],
    "brats20": [*VOLUMES, "--epochs", "2", "--loss", "lmf", "--optimizer", "sgd"],
}
RUNS["kits19"] += ["--dataset", "kits19", "--learning-rate", "1e-2", "--ema-decay", "0.9"]
RUNS["brats20"] += ["--dataset", "brats20", "--schedule", "plateau", "--decay-epochs", "1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, data_dir):
    """A finished run on each dataset."""
    root = tmp_path_factory.mktemp("whole")
    for name, words in RUNS.items():
        assert train(root / name, data_dir, *words) == 0
    return root


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def results_of(run):
    return json.loads((run / "test.json").read_text())


@pytest.mark.parametrize(
    ("name", "num_test", "classes", "unit"),
    [
        ("digits_masks", 120, ["background", "digit", "spot"], "pixels"),
        ("kits19", 1, ["background", "kidney", "tumour"], "mm"),
        ("brats20", 1, None, "mm"),
    ],
)
def test_a_run_trains_tests_and_reports(whole, name, num_test, classes, unit):
    run = whole / name
    rows = lines_of(run)
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert all(0 <= row["val_iou"] <= row["val_dsc"] <= 1 for row in rows)
    test = results_of(run)
    assert test["hd95_unit"] == unit
    assert len(test["per_case"]) == num_test
    if classes is not None:
        assert list(test["per_class"]) == classes
    with np.load(run / "cases.npz") as cases:
        found, made_up, missed = np.moveaxis(cases["counts"], -1, 0)
        both_empty = found + made_up + missed == 0
        dsc = np.where(both_empty, 1, 2 * found / (2 * found + made_up + missed + both_empty))
        np.testing.assert_allclose(dsc[:, 1:].mean(0).mean(), test["dsc"], rtol=1e-6)
    assert f"{test['dsc']:.3f}" in (run / "report.html").read_text()


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stopped_within_an_epoch_ends_as_one_that_was_not(
    whole, name, data_dir, tmp_path, monkeypatch
):
    """The third step is in the middle of an epoch of every dataset."""
    real, steps = Progress.add, iter(range(1, 100))

    def add_and_stop(progress, images):
        real(progress, images)
        if next(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "add", add_and_stop)
        assert train(tmp_path / "run", data_dir, *RUNS[name]) == 143
    assert train(tmp_path / "run", data_dir, *RUNS[name], "--resume") == 0
    assert lines_of(tmp_path / "run") == lines_of(whole / name)
    assert results_of(tmp_path / "run") == results_of(whole / name)


def test_the_learning_rate_falls_when_the_validation_loss_does_not(whole):
    first, second = lines_of(whole / "brats20")
    assert first["learning_rate"] == pytest.approx(1e-4)
    fell = second["val_loss"] < first["val_loss"] - 1e-4
    assert second["learning_rate"] == pytest.approx(1e-4)
    assert isinstance(fell, bool)
