"""``train.py --task multilabel --folds``: every image is tested once; the whole is read back."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import train as training
from lmf_jax.cli.command_line import parse_config
from lmf_jax.errors import UserError
from lmf_jax.evaluation.multilabel.comparison import compare_runs
from lmf_jax.evaluation.multilabel.metrics import label_f1
from lmf_jax.evaluation.multilabel.run import read_run
from lmf_jax.evaluation.multilabel.scores import score_labels, sigmoid
from lmf_jax.evaluation.multilabel.summary import summarize_test
from lmf_jax.inference import image_model
from lmf_jax.runs.folds import fold_dirs
from lmf_jax.training import classification
from tests.helpers.labeled_images import NUM_IMAGES, draw_labeled_images, vector_of
from tests.helpers.tiny_commands import run_lmf_jax
from tests.helpers.tiny_training import tiny_model, tiny_models

pytestmark = pytest.mark.slow  # trains many models, by whole commands

tiny = tiny_models(tiny_model, classification, image_model)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two folds of images of patients."""
    root = tmp_path_factory.mktemp("folds")
    manifest = draw_labeled_images(root / "listed")
    words = [
        *("--task", "multilabel", "--dataset", f"manifest:{manifest}", "--folds", "2"),
        *("--image-size", "32", "--epochs", "1", "--batch-size", "16", "--learning-rate", "0.01"),
        *("--pretrained", "none", "--data-dir", f"{root}/data", "--run-dir", f"{root}/whole"),
    ]
    run = training.train(parse_config(words))
    assert run.results.test == json.loads((run.folder / "test.json").read_text())
    return run.folder


def arrays_of(run_dir: Path) -> dict[str, np.ndarray]:
    with np.load(run_dir / "predictions.npz") as arrays:
        return dict(arrays)


def same_results(one: Path, other: Path) -> None:
    first, second = arrays_of(one), arrays_of(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert (one / "test.json").read_bytes() == (other / "test.json").read_bytes()


def test_every_image_is_tested_once_by_the_fold_that_did_not_train_on_its_patient(whole) -> None:
    joint, folds = read_run(whole), [read_run(folder) for folder in fold_dirs(whole)]
    assert len(set(joint.ids)) == len(joint.ids) == NUM_IMAGES
    fold_of = arrays_of(whole)["fold"]
    for number, run in enumerate(folds, start=1):
        mine = fold_of == number
        np.testing.assert_array_equal(joint.ids[mine], run.ids)
        assert run.labels.tolist() == [vector_of(int(name[:2])) for name in run.ids]
        assert not set(joint.groups[mine]) & set(joint.groups[~mine])
        assert not set(run.validation.groups) & set(run.groups)
        probabilities = run.calibrator.probabilities(run.logits)
        np.testing.assert_allclose(sigmoid(joint.logits[mine]), probabilities, atol=1e-12)
        assert (run.config["fold"], run.config["split"]) == (number, "grouped")
    vectors = np.array([vector_of(number) for number in range(NUM_IMAGES)])
    assert joint.dataset["class_counts"]["test"] == (vectors == 1).sum(axis=0).tolist()
    assert joint.dataset["negative_counts"]["test"] == (vectors == 0).sum(axis=0).tolist()


def test_the_joint_results_use_the_thresholds_of_each_fold(whole: Path) -> None:
    joint, folds = read_run(whole), [read_run(folder) for folder in fold_dirs(whole)]
    scores = score_labels(joint.labels, joint.logits)
    assert joint.test["mean_average_precision"] == pytest.approx(scores.mean_average_precision)
    predicted = [run.calibrator.probabilities(run.logits) >= run.thresholds for run in folds]
    f1 = label_f1(joint.labels, np.concatenate(predicted))
    assert joint.test["macro_f1"] == pytest.approx(f1.macro)
    assert joint.test["per_label"]["red"]["threshold"] is None
    assert joint.test["intervals"]["drawn"] == "groups"
    each = [fold["mean_average_precision"] for fold in joint.test["folds"]["each"]]
    assert each == [run.test["mean_average_precision"] for run in folds]
    assert joint.test["folds"]["mean"]["mean_average_precision"] == pytest.approx(np.mean(each))


def test_the_report_of_the_whole_shows_every_fold_and_no_curve_of_one(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    assert "<h2>Folds</h2>" in page and "by fold" in page
    assert "Epochs trained" not in page and ">nan" not in page and ">None" not in page
    assert f"{NUM_IMAGES} test images" in page
    page = (whole / "fold-2" / "report.html").read_text()
    assert "<h2>Folds</h2>" not in page and "Epochs trained" in page


def test_a_finished_cross_validation_is_not_trained_again(whole, tmp_path, monkeypatch) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume", "--run-dir", str(run)])
    (run / "report.html").unlink()  # as if killed before the joint results
    (run / "test.json").unlink()
    training.main()
    same_results(run, whole)


def test_evaluating_the_whole_tests_every_fold_again(whole, tmp_path, monkeypatch, capsys) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    for folder in (run, *fold_dirs(run)):
        (folder / "predictions.npz").unlink()
    assert run_lmf_jax(monkeypatch, "evaluate", run) == 0
    same_results(run, whole)
    printed = capsys.readouterr().out
    assert "mean ± standard deviation of the folds: mAP" in printed
    assert "fold 2: mAP" in printed


def test_cross_validations_are_compared_image_by_image(whole, tmp_path, monkeypatch, capsys):
    other = Path(shutil.copytree(whole, tmp_path / "other"))
    record = json.loads((other / "config.json").read_text())
    record["config"]["loss"] = "bce"
    (other / "config.json").write_text(json.dumps(record))
    arrays, test = arrays_of(other), json.loads((other / "test.json").read_text())
    arrays["logits"] += np.random.default_rng(0).normal(0, 3, arrays["logits"].shape)
    np.savez(other / "predictions.npz", **arrays)
    names, half = ["red", "rare"], np.array([0.5, 0.5])
    changed = summarize_test(arrays["labels"], arrays["logits"], names, half, arrays["groups"])
    (other / "test.json").write_text(json.dumps({**changed, "folds": test["folds"]}))
    means = [read_run(run).test["mean_average_precision"] for run in (whole, other)]
    difference = compare_runs([whole, other]).pairs[0].mean_average_precision.difference
    assert difference == pytest.approx(means[0] - means[1])
    assert run_lmf_jax(monkeypatch, "compare", whole, other) == 0
    assert f"{NUM_IMAGES} test images" in capsys.readouterr().out
    with pytest.raises(UserError, match="one is a cross-validation, which tested every image"):
        compare_runs([whole, whole / "fold-1"])


def test_a_broken_entry_of_the_folds_is_named(whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    test = json.loads((run / "test.json").read_text())
    for change, message in (
        ({"mean_auroc": 2}, "its folds have an impossible value"),
        ({"mean_auroc": None}, None),  # undefined in this fold
    ):
        test["folds"]["each"][0] |= change
        (run / "test.json").write_text(json.dumps(test))
        if message is None:
            read_run(run)
        else:
            with pytest.raises(UserError, match=message):
                read_run(run)
    del test["folds"]
    (run / "test.json").write_text(json.dumps(test))
    with pytest.raises(UserError, match=r"test\.json is broken: it lacks folds"):
        read_run(run)
