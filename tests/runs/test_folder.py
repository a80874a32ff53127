import hashlib
import json

import numpy as np
import pytest

from lmf_jax.config import Config
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.run import write_test
from lmf_jax.evaluation.predictions import Predictions
from lmf_jax.runs.atomic_files import read_json_lines, write_json_lines
from lmf_jax.runs.folder import open_run, read_config

DATASET = {
    "name": "digits_lt",
    "fingerprint": "abc",
    "class_names": ["zero", "one"],
    "class_counts": {"train": [9, 3], "validation": [2, 1], "test": [2, 1]},
}
CONFIG = Config.of(
    epochs=3, batch_size=32, learning_rate=1e-3, image_size=32, augment="none"
).resolve({})


def new_run(folder, **changes):
    return open_run(CONFIG.replace(run_dir=str(folder), **changes), DATASET)


def test_the_record_holds_settings_data_versions_and_device(tmp_path):
    folder = new_run(tmp_path / "run", alpha=2.0)
    record = json.loads((folder / "config.json").read_text())
    assert record["config"]["alpha"] == 2.0
    assert record["dataset"] == DATASET
    assert record["weights"] is None
    assert {"python", "jax", "flax", "optax"} <= set(record["versions"])
    assert record["device"]["count"] == 4
    assert read_config(folder) == CONFIG.replace(run_dir=str(folder), alpha=2.0)


def test_the_record_knows_the_weights_by_their_content(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_bytes(b"made-up weights")
    folder = new_run(tmp_path / "run", pretrained=str(path))
    record = json.loads((folder / "config.json").read_text())
    assert record["config"]["pretrained"] == str(path)
    sha256 = hashlib.sha256(b"made-up weights").hexdigest()
    assert record["weights"] == {"file": "weights.npz", "sha256": sha256}
    path.unlink()  # its checkpoints stand for it
    assert new_run(folder, resume=True, pretrained=str(path)) == folder


def test_a_taken_default_name_gets_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [str(open_run(CONFIG, DATASET)) for _ in range(3)]
    first = "runs/digits_lt-resnet50-lmf-0"
    assert names == [first, f"{first}-2", f"{first}-3"]


def test_a_given_folder_that_exists_is_refused(tmp_path):
    with pytest.raises(UserError, match=rf"{tmp_path} exists; give another --run-dir"):
        new_run(tmp_path)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made"):
        new_run(tmp_path / "file" / "run")


def test_a_run_is_resumed_with_its_own_settings(tmp_path):
    folder = new_run(tmp_path / "run")
    assert new_run(folder, resume=True) == folder
    assert new_run(folder, resume=True, data_dir="elsewhere") == folder


def test_resuming_with_other_settings_names_them(tmp_path):
    folder = new_run(tmp_path / "run")
    with pytest.raises(UserError, match=r"model resnet50 \(now densenet121\), alpha 1.0 \(now 2"):
        new_run(folder, resume=True, model="densenet121", alpha=2.0)
    other = DATASET | {"fingerprint": "xyz"}
    with pytest.raises(UserError, match="the images, labels or split"):
        open_run(CONFIG.replace(run_dir=str(folder), resume=True), other)


def finish_epochs(folder, number):
    write_json_lines(folder / "metrics.jsonl", [{"epoch": i + 1} for i in range(number)])


@pytest.mark.parametrize("schedule", ["step", "plateau"])
def test_a_run_may_be_resumed_for_more_epochs_and_records_them(tmp_path, schedule):
    folder = new_run(tmp_path / "run", schedule=schedule)
    before = json.loads((folder / "config.json").read_text())
    finish_epochs(folder, 3)
    assert new_run(folder, resume=True, epochs=5, schedule=schedule) == folder
    assert read_config(folder).training.epochs == 5
    after = json.loads((folder / "config.json").read_text())
    assert after == before | {"config": before["config"] | {"epochs": 5}}
    assert new_run(folder, resume=True, epochs=3, schedule=schedule) == folder  # as many as done


def test_fewer_epochs_than_are_done_are_refused(tmp_path):
    folder = new_run(tmp_path / "run")
    finish_epochs(folder, 2)
    with pytest.raises(UserError) as error:
        new_run(folder, resume=True, epochs=1)
    assert str(error.value) == (
        f"The run in {folder} has finished 2 epochs, more than --epochs 1; resume with --epochs 2 "
        "or more, or start a new run."
    )
    assert read_config(folder).training.epochs == 3


@pytest.mark.parametrize("epochs", [2, 4])
def test_other_epochs_are_refused_where_the_past_depends_on_them(tmp_path, epochs):
    folder = new_run(tmp_path / "run", loss="ldam-drw")
    with pytest.raises(UserError) as error:
        new_run(folder, resume=True, loss="ldam-drw", epochs=epochs)
    assert str(error.value) == (
        f"The run in {folder} was started with --epochs 3, and ldam-drw re-weights after a "
        "fraction of them (--drw-start 0.8), so its first epochs would differ with --epochs "
        f"{epochs}; resume with --epochs 3, or start a new run."
    )
    assert read_config(folder).training.epochs == 3


@pytest.mark.parametrize("start", [0.0, 1.0])
def test_weights_that_hold_always_or_never_depend_on_no_number_of_epochs(tmp_path, start):
    folder = new_run(tmp_path / "run", loss="ldam-drw", drw_start=start)
    new_run(folder, resume=True, loss="ldam-drw", drw_start=start, epochs=4)
    assert read_config(folder).training.epochs == 4


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(UserError, match=f"There is no run in {tmp_path / 'none'}"):
        read_config(tmp_path / "none")
    (tmp_path / "config.json").write_text('{"config": {"flavour": 1}}')
    with pytest.raises(UserError, match=r"config.json is broken: it lacks dataset"):
        read_config(tmp_path)
    record = json.loads((new_run(tmp_path / "run") / "config.json").read_text())
    record["config"]["flavour"] = 1
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"another version .*flavour"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text('{"config": ')
    with pytest.raises(UserError, match=r"config.json is broken: it is not JSON"):
        read_config(tmp_path)


def test_test_results_are_written_and_can_be_read_back(tmp_path):
    ids, labels = np.array(["a", "b", "c"]), np.array([0, 0, 1])
    logits = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 1.0]], np.float32)
    predictions = Predictions(ids=ids, labels=labels, logits=logits)
    results = write_test(tmp_path, predictions, ["zero", "one"])
    assert results["accuracy"] == pytest.approx(2 / 3)
    assert json.loads((tmp_path / "test.json").read_text()) == results
    with np.load(tmp_path / "predictions.npz") as saved:
        assert saved["ids"].tolist() == ["a", "b", "c"]
        np.testing.assert_array_equal(saved["labels"], labels)
        np.testing.assert_array_equal(saved["logits"], logits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.npz", "test.json"]


def test_known_groups_are_drawn_and_kept(tmp_path):
    ids, labels, groups = np.array(["a", "b", "c"]), np.array([0, 0, 1]), np.array(["x", "x", ""])
    logits = np.eye(2)[labels]
    predictions = Predictions(ids=ids, labels=labels, logits=logits, groups=groups)
    results = write_test(tmp_path, predictions, ["zero", "one"])
    assert results["intervals"]["drawn"] == "groups"
    with np.load(tmp_path / "predictions.npz") as saved:
        assert saved["groups"].tolist() == ["x", "x", ""]


@pytest.mark.parametrize("content", [b"{", b"[1]\n", b"\xff", b'{"a": ' + b"[" * 10_000])
def test_lines_that_are_no_rows_are_said_in_one_sentence(tmp_path, content):
    (tmp_path / "timing.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"timing.jsonl is broken \(.*\); remove it and try again"):
        read_json_lines(tmp_path / "timing.jsonl")
