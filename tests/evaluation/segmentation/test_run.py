"""Reading of segmentation run folders; errors name the broken file."""

import json

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation import classification
from lmf_jax.evaluation.segmentation.overlays import (
    Overlays,
    read_overlays,
    shown_cases,
    write_overlays,
)
from lmf_jax.evaluation.segmentation.run import read_run
from lmf_jax.runs.files import best_epoch
from tests.helpers.broken_files import (
    check_broken_files_are_named,
    check_incomplete_epoch_is_named,
)
from tests.helpers.segmentation_run import write_run

N = 8


@pytest.fixture
def run_dir(tmp_path):
    return write_run(tmp_path, number=N, classes=3)


def change_json(path, change):
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def change_arrays(path, change):
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **change(arrays))


def test_reads_the_contents_of_the_folder(run_dir):
    run = read_run(str(run_dir))
    assert run.config["loss"] == "mixed-focal"
    assert run.dataset["num_cases"]["train"] == 120
    assert best_epoch(run.history, "val_dsc")["epoch"] == 4
    assert len(run.timing) == 6
    assert run.ids.tolist() == list(run.test["per_case"])
    assert run.counts.shape == (N, 3, 3) and run.counts.dtype == np.int64
    assert run.hd95.shape == (N, 3) and run.groups is None
    assert run.test["hd95_unit"] == "pixels"
    assert len(run.overlays.images) == 6


def test_optional_files_and_groups(tmp_path):
    groups = np.array([f"patient {i // 2}" for i in range(N)])
    run = read_run(write_run(tmp_path, number=N, groups=groups, overlays=False))
    assert run.overlays is None
    assert run.groups.tolist() == groups.tolist()
    assert run.test["intervals"]["drawn"] == "groups"


def test_narrow_counts_do_not_overflow(run_dir):
    path = run_dir / "cases.npz"
    before = read_run(run_dir).counts
    change_arrays(path, lambda a: a | {"counts": a["counts"].astype(np.uint16)})
    run = read_run(run_dir)
    assert run.counts.dtype == np.int64
    np.testing.assert_array_equal(run.counts, before)


def test_a_reader_refuses_the_run_of_another_task(run_dir):
    with pytest.raises(UserError, match="is segmentation; expected classification"):
        classification.read_run(run_dir)
    change_json(run_dir / "config.json", lambda record: record["config"].pop("task"))
    with pytest.raises(UserError, match="is classification; expected segmentation"):
        read_run(run_dir)


@pytest.mark.parametrize(
    "name", ["config.json", "metrics.jsonl", "timing.jsonl", "cases.npz", "test.json"]
)
def test_missing_or_truncated_file_is_named(run_dir, name):
    check_broken_files_are_named(read_run, run_dir / name)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", lambda r: r["config"].update(task="detection"), "its task is not one of"),
        ("config.json", lambda r: r["dataset"].pop("num_cases"), "its dataset lacks num_cases"),
        ("config.json", lambda r: r["dataset"]["num_cases"].pop("test"), "num_cases lacks test"),
        ("config.json", lambda r: r["dataset"]["num_cases"].update(test=1.5), "are not whole"),
        (
            "config.json",
            lambda r: r["dataset"].update(
                class_names=["a"], class_counts={"train": [1], "validation": [1], "test": [1]}
            ),
            "no class but the background",
        ),
        ("test.json", lambda t: t.pop("per_case"), "it lacks per_case"),
        ("test.json", lambda t: t.update(dsc=1.2), "it has an impossible value of dsc"),
        ("test.json", lambda t: t.update(recall=None), "it has an impossible value of recall"),
        ("test.json", lambda t: t.update(hd95=-1), "it has an impossible value of hd95"),
        ("test.json", lambda t: t.update(hd95_unit="inches"), "neither mm nor pixels"),
        ("test.json", lambda t: t.update(hd95_unit=[]), "neither mm nor pixels"),
        (
            "test.json",
            lambda t: t["intervals"].update(iou=[0.1]),
            "no pair of possible values of iou",
        ),
        (
            "test.json",
            lambda t: t["intervals"].update(hd95=[-1, 1]),
            "no pair of possible values of hd95",
        ),
        ("test.json", lambda t: t["intervals"].pop("precision"), "its intervals lacks precision"),
        ("test.json", lambda t: t["intervals"].update(level="95"), "settings of its intervals"),
        ("test.json", lambda t: t["intervals"].update(units=3), "settings of its intervals"),
        (
            "test.json",
            lambda t: t["intervals"].update(units={"a": -1}),
            "settings of its intervals",
        ),
        ("test.json", lambda t: t["per_class"].pop("tumour"), "classes are not those of config"),
        ("test.json", lambda t: t["per_class"]["tumour"].pop("dsc"), "its class tumour lacks dsc"),
        (
            "test.json",
            lambda t: t["intervals"]["per_class"].update(tumour=3),
            "the intervals of class tumour lacks dsc",
        ),
        (
            "test.json",
            lambda t: t["per_class"]["tumour"].update(support=N + 1),
            "its class tumour has another support than in cases.npz",
        ),
        ("test.json", lambda t: t["per_case"].pop("case_00003"), "cases are not those of cases.np"),
        ("test.json", lambda t: t["per_case"].update(case_00003=3), "a case of it lacks dsc"),
    ],
)
def test_incomplete_files_are_refused(run_dir, name, change, message):
    change_json(run_dir / name, change)
    with pytest.raises(UserError, match=f"{name} is broken: .*{message}"):
        read_run(run_dir)


def test_incomplete_epoch_is_named_by_its_line(run_dir):
    epoch = {"epoch": 7, "train_loss": 1, "val_loss": 1, "val_macro_f1": 1}
    check_incomplete_epoch_is_named(read_run, run_dir, epoch, lacks="val_dsc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a | {"counts": a["counts"][:, :2]}, "do not match each other and 3 classes"),
        (lambda a: a | {"counts": a["counts"][1:]}, "do not match"),
        (lambda a: a | {"hd95": a["hd95"][:, 0]}, "do not match"),
        (lambda a: a | {"ids": a["ids"][:, None]}, "do not match"),
        (lambda a: a | {"groups": a["ids"][1:]}, "do not match"),
        (lambda a: a | {"groups": np.arange(N)}, "wrong types"),
        (lambda a: a | {"counts": a["counts"] / 2}, "wrong types"),
        (lambda a: a | {"hd95": a["hd95"].astype(int)}, "wrong types"),
        (lambda a: a | {"ids": a["ids"].astype(object)}, "as pickled"),
        (lambda a: a | {"ids": np.full(N, "same")}, "not unique names of cases"),
        (lambda a: {name: array[:0] for name, array in a.items()}, "not unique names of cases"),
        (lambda a: a | {"counts": -a["counts"]}, "counts are not numbers"),
        (lambda a: a | {"hd95": a["hd95"] * np.nan}, "hd95 are not distances"),
        (lambda a: a | {"hd95": a["hd95"] - 1e6}, "hd95 are not distances"),
        (lambda a: {"ids": a["ids"]}, "has no (counts|hd95)"),
    ],
)
def test_inconsistent_cases_are_refused(run_dir, change, message):
    change_arrays(run_dir / "cases.npz", change)
    with pytest.raises(UserError, match=rf"cases\.npz .*{message}"):
        read_run(run_dir)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a | {"places": a["places"] + N},
        lambda a: a | {"places": a["places"] / 2},
        lambda a: a | {"images": a["images"][1:]},
        lambda a: a | {"images": a["images"][..., :2]},
        lambda a: a | {"images": a["images"] / 255},
        lambda a: a | {"labels": a["labels"][:, 1:]},
        lambda a: a | {"labels": a["labels"].astype(int)},
        lambda a: a | {"predictions": a["predictions"] + np.uint8(3)},
        lambda a: {name: np.repeat(array, 9, axis=0) for name, array in a.items()},
        lambda a: {name: array[:0] for name, array in a.items()},
        lambda a: {name: array[0] for name, array in a.items()},
    ],
)
def test_invalid_overlays_are_refused(run_dir, change):
    change_arrays(run_dir / "overlays.npz", change)
    with pytest.raises(UserError, match=r"overlays\.npz is broken: its arrays images \("):
        read_run(run_dir)


def test_overlays_are_read_as_they_were_written(tmp_path):
    assert read_overlays(tmp_path, 3, 2) is None
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    maps = images[..., 0] % 2
    write_overlays(tmp_path, Overlays(np.array([2, 0]), images, maps, 1 - maps))
    found = read_overlays(tmp_path, 3, 2)
    assert found.indices.tolist() == [2, 0]
    np.testing.assert_array_equal(found.images, images)
    np.testing.assert_array_equal(found.labels, maps)
    np.testing.assert_array_equal(found.predictions, 1 - maps)


def test_the_worst_the_middle_and_the_best_are_shown():
    dsc = np.array([0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6])
    assert dsc[shown_cases(dsc)].tolist() == [0.1, 0.2, 0.4, 0.5, 0.8, 0.9]
    assert dsc[shown_cases(dsc[:3])].tolist() == [0.1, 0.5, 0.9]
    assert len(set(shown_cases(np.ones(100)).tolist())) == 6
