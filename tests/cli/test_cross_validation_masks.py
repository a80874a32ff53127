"""``train.py --task segmentation --folds``: every case is tested once."""

import json

import numpy as np
import pytest

import train as training
from lmf_jax.cli.command_line import parse_config
from lmf_jax.cli.tasks import TASKS
from lmf_jax.evaluation import read_run
from lmf_jax.inference import segmenter
from lmf_jax.runs.folds import fold_dirs
from lmf_jax.training import segmentation
from tests.helpers.image_pairs import draw_pairs
from tests.helpers.tiny_training import tiny_unet

COUNT = 24


@pytest.fixture(autouse=True)
def tiny(monkeypatch, without_pictures):
    """Replace the model by a tiny one."""
    for module in (segmentation, segmenter):
        monkeypatch.setattr(module, "create_model", lambda name, **settings: tiny_unet(**settings))


@pytest.mark.slow
def test_every_case_is_tested_once_and_the_whole_is_read_back(tmp_path, capsys):
    words = ["--task", "segmentation", "--dataset", draw_pairs(tmp_path, COUNT), "--folds", "2"]
    words += ["--data-dir", f"{tmp_path}/data", "--run-dir", f"{tmp_path}/run", "--epochs", "1"]
    words += ["--image-size", "32", "--batch-size", "4", "--resume"]
    run = training.train(parse_config(words)).results
    assert len(set(run.ids)) == COUNT and not run.history
    folds = [TASKS["segmentation"].read_run(folder) for folder in fold_dirs(tmp_path / "run")]
    np.testing.assert_array_equal(run.counts, np.concatenate([fold.counts for fold in folds]))
    scores = [fold.test["dsc"] for fold in folds]
    assert run.test["dsc"] == pytest.approx(np.mean(scores))  # the folds have equally many cases
    assert run.test["folds"]["mean"]["dsc"] == pytest.approx(np.mean(scores))
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["dataset"]["num_cases"]["test"] == COUNT
    assert "mean ± standard deviation of the folds: DSC" in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Folds</h2>" in page and "training_curves" not in page
    with pytest.raises(Exception, match=r"expected classification|task"):
        read_run(tmp_path / "run")
