"""Reading of classification run folders; errors name the broken file."""

import json

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.run import read_run
from lmf_jax.runs.files import best_epoch
from tests.helpers.broken_files import (
    check_broken_files_are_named,
    check_incomplete_epoch_is_named,
)


def test_reads_the_contents_of_the_folder(run_dir):
    run = read_run(str(run_dir))
    assert run.config["model"] == "resnet50"
    assert run.dataset["class_counts"]["test"][0] == 1000
    assert run.git_commit is None
    assert run.device["count"] == 8
    assert [entry["epoch"] for entry in run.history] == [1, 2, 3, 4, 5, 6]
    assert len(run.timing) == 6
    assert run.logits.shape == (len(run.labels), 10)
    assert run.ids[0] == "image_0"
    assert run.test["per_class"]["<b>x & y</b>"]["support"] == 150
    assert run.weights == {"file": "resnet50.npz", "sha256": "89ab" * 16}


def test_a_run_without_a_record_of_weights_is_read(run_dir):
    path = run_dir / "config.json"
    record = json.loads(path.read_text())
    del record["weights"]
    path.write_text(json.dumps(record))
    assert read_run(run_dir).weights is None


def test_a_run_without_calibration_is_read_with_the_identity(run_dir):
    run = read_run(run_dir)
    assert run.validation is None and run.calibration is None
    assert run.calibrator.method == "none"
    np.testing.assert_array_equal(run.calibrator.calibrate(run.logits), run.logits)


def test_validation_predictions_and_calibration_are_read(calibrated_dir):
    run = read_run(calibrated_dir)
    assert run.validation.logits.shape == (len(run.validation.labels), 10)
    assert len(run.validation.labels) == sum(run.dataset["class_counts"]["validation"])
    assert run.validation.ids[0] == "validation_0" and run.validation.groups[1] == "lesion 0"
    assert run.calibration["method"] == run.calibrator.method == "temperature"
    assert run.calibrator.temperature == run.calibration["temperature"]
    expected = run.logits.astype(float) / run.calibrator.temperature
    np.testing.assert_array_equal(run.calibrator.calibrate(run.logits), expected)


@pytest.mark.parametrize("name", ["calibration.json", "validation_predictions.npz"])
def test_truncated_calibration_is_named(calibrated_dir, name):
    path = calibrated_dir / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=f"{name} is (broken|damaged)"):
        read_run(calibrated_dir)


def test_calibration_of_other_classes_is_refused(calibrated_dir):
    path = calibrated_dir / "calibration.json"
    changed = json.loads(path.read_text())
    changed["class_names"].reverse()
    path.write_text(json.dumps(changed))
    with pytest.raises(UserError, match=r"its classes are not those of config\.json"):
        read_run(calibrated_dir)


def test_best_epoch_is_the_first_of_equal_ones():
    history = [{"epoch": i, "val_macro_f1": f1} for i, f1 in enumerate([0.1, 0.4, 0.4], start=1)]
    assert best_epoch(history)["epoch"] == 2


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no run in .*nowhere"):
        read_run(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "timing.jsonl", "predictions.npz", "test.json"]
)
def test_missing_or_truncated_file_is_named(run_dir, name):
    check_broken_files_are_named(read_run, run_dir / name)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda record: record.pop("device"), "it lacks device"),
        ("config.json", lambda record: record["dataset"].pop("fingerprint"), "lacks fingerprint"),
        ("config.json", lambda record: record["config"].pop("model"), "its config lacks model"),
        ("config.json", lambda record: record["device"].pop("kind"), "its device lacks kind"),
        ("config.json", lambda record: record["weights"].pop("sha256"), "its weights lacks sha256"),
        (
            "config.json",
            lambda record: record["dataset"]["class_counts"].pop("test"),
            "its class_counts lacks test",
        ),
        (
            "config.json",
            lambda record: record["dataset"]["class_counts"]["train"].pop(),
            "counts of the train part do not match its class names",
        ),
        ("test.json", lambda test: test.pop("macro_f1"), "it lacks macro_f1"),
        ("test.json", lambda test: test.pop("intervals"), "it lacks intervals"),
        ("test.json", lambda test: test["intervals"].pop("ece"), "its intervals lacks ece"),
        (
            "test.json",
            lambda test: test["per_class"]["class 9"].pop("f1"),
            "its class class 9 lacks f1",
        ),
        (
            "test.json",
            lambda test: test["intervals"]["per_class"]["class 9"].pop("auroc"),
            "the intervals of class class 9 lacks auroc",
        ),
        (
            "test.json",
            lambda test: test["per_class"].pop("class 9"),
            "its classes are not those of config.json",
        ),
        (
            "config.json",
            lambda r: r["dataset"].update(name=3),
            "it has a name that is not a string",
        ),
        (
            "config.json",
            lambda r: r["dataset"].update(class_names="abcdefghij"),
            "are not a list of names",
        ),
        (
            "config.json",
            lambda r: r["dataset"]["class_names"].__setitem__(2, "\x1b[2J"),
            "it has a class name that is not printable",
        ),
        (
            "config.json",
            lambda r: r["dataset"]["class_names"].__setitem__(2, "class 9"),
            "its class names are not unique",
        ),
        (
            "config.json",
            lambda r: r["dataset"]["class_counts"]["train"].__setitem__(2, -1),
            "its counts of the train part are not integers",
        ),
        (
            "config.json",
            lambda r: r["dataset"]["class_counts"].update(more=[1] * 10),
            "its class_counts are not train, validation, test",
        ),
        (
            "config.json",
            lambda r: r["dataset"].update(intensity_range=[9, 4]),
            "its intensity_range is not a pair",
        ),
        ("config.json", lambda r: r["config"].update(seed=True), "its seed is not a whole number"),
        ("config.json", lambda r: r["config"].update(max_margin=0), "max_margin is not a positive"),
        ("config.json", lambda r: r["config"].update(tau=[[1]]), "its tau is neither a number nor"),
        ("config.json", lambda r: r["config"].update({"\x1b[2J": 1}), "2J is not printable"),
        ("config.json", lambda r: r["device"].update(count="8"), "its device counts are not posi"),
        ("config.json", lambda r: r.update(versions=["1.0"]), "its versions are not strings"),
        ("config.json", lambda r: r.update(git_commit="\ud800"), "it is not JSON"),
        ("test.json", lambda t: t.update(macro_f1="1"), "it has an impossible value of macro_f1"),
        ("test.json", lambda t: t.update(macro_f1=None), "it has an impossible value of macro_f1"),
        ("test.json", lambda t: t.update(ece=float("nan")), "it has an impossible value of ece"),
        ("test.json", lambda t: t.update(mcc=10**400), "it has an impossible value of mcc"),
        (
            "test.json",
            lambda t: t["intervals"].update(mcc=None),
            "no pair of possible values of mcc",
        ),
        (
            "test.json",
            lambda t: t["intervals"].update(mcc=[0.1]),
            "no pair of possible values of mcc",
        ),
        ("test.json", lambda t: t["intervals"].update(level="95"), "the settings of its intervals"),
        ("test.json", lambda t: t["intervals"].update(units=3), "the settings of its intervals"),
        (
            "test.json",
            lambda t: t["intervals"].update(units={"a": -1}),
            "the settings of its intervals",
        ),
        ("test.json", lambda t: t.update(per_class=3), "its classes are not those of config.json"),
        (
            "test.json",
            lambda t: t["per_class"]["class 9"].update(support=5),
            "its class class 9 has another support than in predictions.npz",
        ),
    ],
)
def test_incomplete_files_are_refused(run_dir, name, change, message):
    path = run_dir / name
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"{name} is broken: .*{message}"):
        read_run(run_dir)


def test_a_metric_may_pass_1_by_rounding(run_dir):
    test = json.loads((run_dir / "test.json").read_text())
    test["auroc"], test["intervals"]["auroc"] = 1.0000002, [0.9, 1.0000001]
    (run_dir / "test.json").write_text(json.dumps(test))
    assert read_run(run_dir).test["auroc"] == 1.0000002


def test_incomplete_epoch_is_named_by_its_line(run_dir):
    check_incomplete_epoch_is_named(read_run, run_dir, {"epoch": 7}, lacks="train_loss")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays | {"logits": arrays["logits"][:, :9]}, "do not match"),
        (lambda arrays: arrays | {"labels": arrays["labels"][1:]}, "do not match"),
        (lambda arrays: arrays | {"ids": arrays["ids"][1:]}, "do not match"),
        (lambda arrays: arrays | {"labels": arrays["labels"] + 1}, "class ids from 0 to 9"),
        (lambda arrays: arrays | {"logits": arrays["logits"] * np.nan}, "its logits contain NaN"),
        (lambda arrays: arrays | {"logits": arrays["logits"] + np.inf}, "NaN or infinity"),
        (lambda arrays: arrays | {"logits": arrays["logits"].astype(str)}, "wrong types"),
        (lambda arrays: arrays | {"labels": arrays["labels"] + 0.5}, "wrong types"),
        (lambda arrays: arrays | {"ids": arrays["labels"]}, "wrong types"),
        (lambda arrays: arrays | {"ids": arrays["ids"].astype(object)}, "as pickled"),
        (lambda arrays: {"labels": arrays["labels"]}, "has no (ids|logits)"),
        (lambda arrays: {name: array[:0] for name, array in arrays.items()}, "no image"),
    ],
)
def test_inconsistent_predictions_are_refused(run_dir, change, message):
    path = run_dir / "predictions.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **change(arrays))
    with pytest.raises(UserError, match=rf"predictions\.npz .*{message}"):
        read_run(run_dir)


@pytest.mark.parametrize("content", ["[" * 100_000, "9" * 5000, "3", "null", '"\\ud800"'])
@pytest.mark.parametrize("name", ["config.json", "test.json", "metrics.jsonl", "timing.jsonl"])
def test_any_json_in_place_of_a_file_is_refused(run_dir, name, content):
    (run_dir / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} is broken"):
        read_run(run_dir)


@pytest.mark.parametrize("value", ["null", '"x"', "[]", "true", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize(
    ("name", "key"), [("metrics.jsonl", "val_loss"), ("timing.jsonl", "seconds")]
)
def test_lines_must_contain_numbers(run_dir, name, key, value):
    path = run_dir / name
    first, *lines = path.read_text().splitlines()
    changed = json.dumps(json.loads(first) | {key: "@"}).replace('"@"', value)
    path.write_text("\n".join([changed, *lines]))
    with pytest.raises(
        UserError, match=f"{name} is broken: its line 1 has a value that is not a finite number"
    ):
        read_run(run_dir)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays | {"places": arrays["places"] + 10**6},
        lambda arrays: arrays | {"places": arrays["places"] / 2},
        lambda arrays: arrays | {"images": arrays["images"][1:]},
        lambda arrays: arrays | {"images": arrays["images"][..., :2]},
        lambda arrays: arrays | {"images": arrays["images"] / 255},
        lambda arrays: arrays | {"images": arrays["images"][:, :0]},
        lambda arrays: arrays | {"heat_of_true": arrays["heat_of_true"] * np.nan},
        lambda arrays: arrays | {"heat_of_true": arrays["heat_of_true"][:, 1:]},
        lambda arrays: {name: np.repeat(array, 99, axis=0) for name, array in arrays.items()},
        lambda arrays: {name: array[0] for name, array in arrays.items()},
    ],
)
def test_invalid_mistakes_are_refused(run_dir, change):
    path = run_dir / "mistakes.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **change(arrays))
    with pytest.raises(
        UserError, match=r"mistakes\.npz is broken: its arrays heat_of_predicted \("
    ):
        read_run(run_dir)
