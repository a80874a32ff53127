"""``train.py --folds``: every image is tested once, by one process or several, and read back."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import train as training
from lmf_jax.cli import cross_validation
from lmf_jax.cli.command_line import parse_config
from lmf_jax.config import Config
from lmf_jax.errors import UserError
from lmf_jax.evaluation import read_run, write_report
from lmf_jax.evaluation.classification.comparison import compare_runs, format_comparison
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.inference import image_model
from lmf_jax.runs.folds import fold_dirs, try_lock
from lmf_jax.training import classification
from tests.helpers.colored_images import draw_images
from tests.helpers.tiny_commands import run_lmf_jax
from tests.helpers.tiny_training import tiny_model, tiny_models

pytestmark = pytest.mark.slow  # trains many models, by whole commands

ROOT = Path(__file__).parents[2]
COUNTS = (40, 20, 12)
NUM_IMAGES = sum(COUNTS)


tiny = tiny_models(tiny_model, classification, image_model)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images of lesions, two images of each."""
    root = tmp_path_factory.mktemp("folds")
    draw_images(root / "images", COUNTS)
    lines = ["path,label,group"]
    for path in sorted((root / "images").glob("*/*.png")):
        name = path.relative_to(root)
        lines.append(f"{name},{path.parent.name},{path.parent.name} {int(path.stem) // 2}")
    (root / "images.csv").write_text("\n".join(lines) + "\n")
    return root


def words_of(root, run_dir, *words):
    return [
        *("--dataset", f"manifest:{root}/images.csv", "--data-dir", f"{root}/data"),
        *("--image-size", "32", "--epochs", "2", "--batch-size", "8", "--learning-rate", "0.01"),
        *("--normalization", "unit", "--pretrained", "none", "--run-dir", f"{run_dir}", *words),
    ]


def train(root, run_dir, *words):
    return training.train(parse_config(words_of(root, run_dir, *words)))


@pytest.fixture(scope="module")
def whole(root):
    """Return the folder of three folds that one process trained."""
    run = train(root, root / "whole", "--folds", "3")
    assert run.folder == root / "whole" and run.model is None
    assert run.results.test == json.loads((run.folder / "test.json").read_text())
    return run.folder


def arrays_of(run_dir):
    with np.load(run_dir / "predictions.npz") as arrays:
        return dict(arrays)


def same_predictions(one, other):
    first, second = arrays_of(one), arrays_of(other)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert (one / "test.json").read_bytes() == (other / "test.json").read_bytes()


def test_every_image_is_tested_once_by_the_fold_that_did_not_train_on_its_lesion(whole):
    joint, folds = read_run(whole), [read_run(folder) for folder in fold_dirs(whole)]
    assert len(set(joint.ids)) == len(joint.ids) == NUM_IMAGES
    fold_of = arrays_of(whole)["fold"]
    for number, run in enumerate(folds, start=1):
        mine = fold_of == number
        np.testing.assert_array_equal(joint.ids[mine], run.ids)
        np.testing.assert_array_equal(joint.logits[mine].argmax(1), run.logits.argmax(1))
        assert not set(joint.groups[mine]) & set(joint.groups[~mine])
        assert not set(run.validation.groups) & set(run.groups)
        probabilities = run.calibrator.probabilities(run.logits)
        np.testing.assert_allclose(np.exp(joint.logits[mine]), probabilities, atol=1e-12)
        assert (run.config["folds"], run.config["fold"], run.config["split"]) == (
            *(3, number),
            "grouped",
        )
    assert (joint.config["folds"], joint.config["fold"]) == (3, None)
    assert joint.dataset["class_counts"]["test"] == [COUNTS[2], COUNTS[1], COUNTS[0]]


def test_the_joint_results_are_over_all_images_with_each_fold_beside_them(whole, capsys):
    joint = read_run(whole)
    predictions = joint.logits.argmax(1)
    assert joint.test["accuracy"] == pytest.approx(np.mean(predictions == joint.labels))
    assert joint.test["intervals"]["drawn"] == "groups"
    folds = joint.test["folds"]
    tests = [json.loads((folder / "test.json").read_text()) for folder in fold_dirs(whole)]
    for fold, test in zip(folds["each"], tests, strict=True):
        assert (fold["macro_f1"], fold["accuracy"]) == (test["macro_f1"], test["accuracy"])
    scores = [test["macro_f1"] for test in tests]
    assert folds["mean"]["macro_f1"] == pytest.approx(np.mean(scores))
    assert folds["standard_deviation"]["macro_f1"] == pytest.approx(np.std(scores, ddof=1))
    assert sum(fold["size"] for fold in folds["each"]) == NUM_IMAGES


def test_the_report_of_the_whole_shows_every_fold_and_no_curve_of_one(whole):
    page = write_report(whole).read_text()
    assert "<h2>Folds</h2>" in page and "Standard deviation" in page
    assert page.count('<th scope="row">1</th>') == 1
    assert "training_curves" not in page and "Epochs trained" not in page
    assert f"{NUM_IMAGES} test images" in page
    assert ">nan" not in page and ">None" not in page
    page = (whole / "fold-2" / "report.html").read_text()
    assert "<h2>Folds</h2>" not in page and "Epochs trained" in page


@pytest.mark.slow
def test_one_fold_alone_and_then_the_others_give_the_same_results(root, whole, tmp_path, capsys):
    run = train(root, tmp_path / "run", "--folds", "3", "--fold", "2")
    assert run.folder == tmp_path / "run" / "fold-2" and run.model is not None
    assert not (tmp_path / "run" / "test.json").exists()
    assert "folds that are not finished: 1, 3" in capsys.readouterr().out
    same_predictions(run.folder, whole / "fold-2")
    with pytest.raises(UserError, match="fold-2 exists"):  # its results are not replaced
        train(root, tmp_path / "run", "--folds", "3", "--fold", "2")
    train(root, tmp_path / "run", "--folds", "3", "--fold", "1")
    capsys.readouterr()
    assert train(root, tmp_path / "run", "--folds", "3", "--resume").folder == tmp_path / "run"
    printed = capsys.readouterr().out.splitlines()
    assert next(line for line in printed if line.startswith("fold ")) == "fold 3 of 3"
    assert next(line for line in printed if line.startswith("fold 1")).startswith(
        "fold 1: macro F1"
    )
    same_predictions(tmp_path / "run", whole)


def test_a_finished_cross_validation_is_not_trained_again(root, whole, tmp_path, monkeypatch):
    run = shutil.copytree(whole, tmp_path / "run")
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume", "--run-dir", str(run)])
    training.main()
    (run / "report.html").unlink()  # as if killed before the joint results
    (run / "test.json").unlink()
    training.main()
    same_predictions(run, whole)
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume", "--run-dir", f"{run}/fold-2"])
    training.main()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--folds", "3"), "exists; give another --run-dir, or --resume"),
        (("--folds", "3", "--resume", "--alpha", "0.1"), r"other settings: .*alpha"),
        (("--folds", "3", "--resume", "--split-seed", "1"), "split_seed 0 .now 1"),
        (("--folds", "3", "--resume", "--split", "paper"), "split grouped .now paper"),
        (("--folds", "4", "--resume"), "folds 3 .now 4"),
        (("--folds", "4", "--fold", "4"), "folds 3 .now 4"),
        (("--folds", "3", "--resume", "--epochs", "1"), "finished 2 epochs, more than --epochs 1"),
        (("--resume",), "folds 3 .now None"),
    ],
)
def test_other_settings_than_those_of_the_folds_are_refused(root, whole, words, message):
    before = sorted(path.name for path in whole.iterdir())
    record = (whole / "config.json").read_text()
    with pytest.raises(UserError, match=message):
        train(root, whole, *words)
    assert sorted(path.name for path in whole.iterdir()) == before
    assert (whole / "config.json").read_text() == record


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 1}, "--folds is 1; expected a whole number from 2"),
        ({"fold": 1}, "--fold 1 is one of several folds; give their number with --folds"),
        (
            {"folds": 3, "fold": 4, "run_dir": "x"},
            "--fold is 4 of --folds 3; expected a number from",
        ),
        ({"folds": 3, "fold": 1}, "--fold 1 needs --run-dir"),
        ({"folds": 3, "split": "official"}, "choose grouped or paper"),
        ({"folds": 3, "distributed": "auto"}, "start independent processes"),
    ],
)
def test_settings_that_do_not_go_with_folds_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Config.of(**settings)


@pytest.mark.slow
def test_more_epochs_go_on_in_every_fold(root, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    train(root, run, "--folds", "3", "--resume", "--epochs", "3")
    for folder in (run, *fold_dirs(run)):
        assert json.loads((folder / "config.json").read_text())["config"]["epochs"] == 3
    assert len((run / "fold-1" / "metrics.jsonl").read_text().splitlines()) == 3
    assert not np.array_equal(arrays_of(run)["logits"], arrays_of(whole)["logits"])


def test_a_fold_that_another_process_trains_is_waited_for_and_taken_over(
    root, whole, tmp_path, monkeypatch, capsys
):
    """The other process is played by a lock in this one, which ends while this one waits."""
    run = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(run / "fold-2")
    other = try_lock(run, "fold-2")
    assert other.__enter__()
    seconds = iter(range(3))

    def sleep(_):
        if next(seconds) == 2:
            other.__exit__(None, None, None)  # killed, with nothing done

    monkeypatch.setattr(cross_validation.time, "sleep", sleep)
    train(root, run, "--folds", "3", "--resume")
    printed = capsys.readouterr().out
    assert printed.count("waits for fold 2, which others train") == 1
    same_predictions(run, whole)


def test_evaluating_the_whole_tests_every_fold_again(whole, monkeypatch, capsys, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    for folder in (run, *fold_dirs(run)):
        (folder / "predictions.npz").unlink()
        (folder / "report.html").unlink()
    assert run_lmf_jax(monkeypatch, "evaluate", run) == 0
    same_predictions(run, whole)
    assert (run / "fold-3" / "report.html").exists() and (run / "report.html").exists()
    assert "mean ± standard deviation of the folds: macro F1" in capsys.readouterr().out
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--part", "validation") == 2
    assert f"give one of them, such as {run}/fold-1" in capsys.readouterr().err
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--where", "sex=female") == 2
    assert f"--where sex=female selects other images in each fold of {run}" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["sets", "card"])
def test_commands_that_need_one_model_name_a_fold(whole, command, monkeypatch, capsys):
    assert run_lmf_jax(monkeypatch, command, whole) == 2
    message = "cross-validation of 3 folds, each with its own model; give one of them, such as "
    assert message + f"{whole}/fold-1" in capsys.readouterr().err


def with_other_logits(whole, run, seed, **config):
    """Write a cross-validation with other predictions of the same images, in another order."""
    run.mkdir()
    record = json.loads((whole / "config.json").read_text())
    record["config"] |= config
    if "folds" in config:
        record["dataset"]["fingerprint"] = "other folds"
    (run / "config.json").write_text(json.dumps(record))
    rng, arrays = np.random.default_rng(seed), arrays_of(whole)
    order = rng.permutation(NUM_IMAGES)
    arrays = {name: values[order] for name, values in arrays.items()}
    arrays["logits"] += rng.normal(0, 3, arrays["logits"].shape)
    np.savez(run / "predictions.npz", **arrays)
    names = record["dataset"]["class_names"]
    test = summarize_test(arrays["labels"], arrays["logits"], names, arrays["groups"])
    test["folds"] = json.loads((whole / "test.json").read_text())["folds"]
    (run / "test.json").write_text(json.dumps(test))
    return run


def test_cross_validations_are_compared_image_by_image(whole, tmp_path):
    ce = with_other_logits(whole, tmp_path / "ce", 0, loss="ce")
    comparison = compare_runs([whole, ce])
    assert comparison.num_images == NUM_IMAGES and comparison.drawn == "groups"
    scores = [read_run(run).test["macro_f1"] for run in (whole, ce)]
    assert comparison.pairs[0].macro_f1.difference == pytest.approx(scores[0] - scores[1])
    assert f"{NUM_IMAGES} test images" in format_comparison(comparison)
    two = with_other_logits(whole, tmp_path / "two", 1, folds=2)
    assert compare_runs([whole, two]).num_images == NUM_IMAGES
    with pytest.raises(UserError, match="one is a cross-validation, which tested every image"):
        compare_runs([whole, whole / "fold-1"])
    with pytest.raises(UserError, match="different images, labels or splits"):
        compare_runs([whole / "fold-2", whole / "fold-1"])
    arrays = arrays_of(two)
    first, second = (np.flatnonzero(arrays["labels"] == name)[0] for name in (0, 1))
    arrays["labels"][[first, second]] = 1, 0
    np.savez(two / "predictions.npz", **arrays)
    with pytest.raises(UserError, match="other labels of the same images"):
        compare_runs([whole, two])


def test_a_record_without_folds_is_an_ordinary_run(whole, tmp_path):
    run = shutil.copytree(whole / "fold-1", tmp_path / "run")
    record = json.loads((run / "config.json").read_text())
    for key in ("folds", "fold"):
        del record["config"][key]
    (run / "config.json").write_text(json.dumps(record))
    assert read_run(run).config.get("folds") is None
    assert read_run(run).history


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda test: test.pop("folds"), "it lacks folds"),
        (lambda test: test["folds"].pop("mean"), "its folds lacks mean"),
        (lambda test: test["folds"]["each"].pop(), "other sizes in total"),
        (lambda test: test["folds"]["each"][0].update(macro_f1=7), "impossible value"),
        (lambda test: test["folds"]["each"][0].update(fold=2), "another number"),
        (lambda test: test["folds"].update(each=[]), "not a list of two"),
    ],
)
def test_broken_results_of_the_folds_are_refused(whole, tmp_path, change, message):
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.json", "predictions.npz", "test.json"):
        shutil.copy(whole / name, run)
    test = json.loads((run / "test.json").read_text())
    change(test)
    (run / "test.json").write_text(json.dumps(test))
    with pytest.raises(UserError, match=message):
        read_run(run)
