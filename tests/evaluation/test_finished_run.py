"""A good run folder is read whole; a bad one is refused in one sentence that names the file."""

import json

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation.finished_run import best_epoch, read_run


def test_reads_what_the_folder_holds(run_dir):
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
    path = run_dir / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) - len(content) // 20 - 10])
    with pytest.raises(UserError, match=f"{name} is (broken|damaged)"):
        read_run(run_dir)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=f"{name} is (broken|damaged)"):
        read_run(run_dir)
    path.unlink()
    if name == "timing.jsonl":  # a run that was killed while it ended may lack it
        assert read_run(run_dir).timing == []
        return
    message = "There is no run in" if name == "config.json" else f"{name} is missing"
    with pytest.raises(UserError, match=message):
        read_run(run_dir)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda record: record.pop("device"), "it lacks device"),
        ("config.json", lambda record: record["dataset"].pop("fingerprint"), "lacks fingerprint"),
        ("config.json", lambda record: record["config"].pop("model"), "its config lacks model"),
        ("config.json", lambda record: record["device"].pop("kind"), "its device lacks kind"),
        (
            "config.json",
            lambda record: record["dataset"]["class_counts"].pop("test"),
            "its class_counts lacks test",
        ),
        (
            "config.json",
            lambda record: record["dataset"]["class_counts"]["train"].pop(),
            "counts of the train part do not fit its class names",
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
            "its class class 9 lacks auroc",
        ),
        (
            "test.json",
            lambda test: test["per_class"].pop("class 9"),
            "its classes are not those of config.json",
        ),
    ],
)
def test_incomplete_record_says_what_is_missing(run_dir, name, change, message):
    path = run_dir / name
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"{name} is broken: .*{message}"):
        read_run(run_dir)


def test_incomplete_epoch_is_named_by_its_line(run_dir):
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 7}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl is broken: its line 7 lacks train_loss"):
        read_run(run_dir)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays | {"logits": arrays["logits"][:, :9]}, "do not fit"),
        (lambda arrays: arrays | {"labels": arrays["labels"][1:]}, "do not fit"),
        (lambda arrays: arrays | {"ids": arrays["ids"][1:]}, "do not fit"),
        (lambda arrays: arrays | {"labels": arrays["labels"] + 1}, "class ids from 0 to 9"),
        (lambda arrays: arrays | {"logits": arrays["logits"] * np.nan}, "its logits hold NaN"),
        (lambda arrays: arrays | {"logits": arrays["logits"] + np.inf}, "NaN or infinity"),
        (lambda arrays: arrays | {"logits": arrays["logits"].astype(str)}, "of other types"),
        (lambda arrays: arrays | {"labels": arrays["labels"] + 0.5}, "of other types"),
        (lambda arrays: arrays | {"ids": arrays["labels"]}, "of other types"),
        (lambda arrays: arrays | {"ids": arrays["ids"].astype(object)}, "as pickled"),
        (lambda arrays: {"labels": arrays["labels"]}, "has no (ids|logits)"),
        (lambda arrays: {name: array[:0] for name, array in arrays.items()}, "class ids"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(run_dir, change, message):
    path = run_dir / "predictions.npz"
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **change(arrays))
    with pytest.raises(UserError, match=rf"predictions\.npz .*{message}"):
        read_run(run_dir)
