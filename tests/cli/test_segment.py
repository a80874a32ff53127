"""``train.py --task segmentation`` to the report, on images and volumes, with a tiny U-Net."""

import json
import runpy
import shutil
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from data.formats.images import decode_image
from data.formats.nifti import open_nifti
from data.prepared.prepare_volumes import bounding_box, prepare_volumes
from data.splits.volumes import load_volumes
from data.volume_spec import volume_spec
from lmf_jax.config import ImageSpec
from lmf_jax.inference import segmenter
from lmf_jax.inference.segmenter import load_segmenter
from lmf_jax.training import segmentation
from tests.helpers.tiny_commands import TRAIN, run_lmf_jax
from tests.helpers.tiny_training import stop_after, tiny_models, tiny_unet
from tests.helpers.volume_downloads import make_brats20, make_kits19

IMAGES = ["--dataset", "digits_masks", "--image-size", "32", "--batch-size", "16"]
VOLUMES = ["--patch-size", "8", "16", "16", "--batch-size", "4", "--augment", "mirror"]


tiny = tiny_models(tiny_unet, segmentation, segmenter)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Return the folder of prepared volumes; images are prepared on first use."""
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
    """Return a finished run on each dataset."""
    root = tmp_path_factory.mktemp("whole")
    for name, words in RUNS.items():
        assert train(root / name, data_dir, *words) == 0
    return root


def type_in(*words):
    """Run ``python -m lmf_jax`` with these words in this process; return the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        return run_lmf_jax(patch, *words)


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


@pytest.mark.slow
@pytest.mark.fault(
    "SIGTERM to a run that segments images or volumes, within an epoch",
    "it saved, exit code 143; resumed, the same metrics and test",
)
@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_stopped_within_an_epoch_ends_as_one_that_was_not(
    whole, name, data_dir, tmp_path, monkeypatch
):
    """The third step is in the middle of an epoch of every dataset."""
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert train(tmp_path / "run", data_dir, *RUNS[name]) == 143
    assert train(tmp_path / "run", data_dir, *RUNS[name], "--resume") == 0
    assert lines_of(tmp_path / "run") == lines_of(whole / name)
    assert results_of(tmp_path / "run") == results_of(whole / name)


@pytest.mark.parametrize("name", ["digits_masks", "brats20"])
def test_evaluating_a_run_again_gives_its_test(whole, name, tmp_path, capsys):
    run = shutil.copytree(whole / name, tmp_path / "run")
    for file in ("test.json", "cases.npz", "overlays.npz", "report.html"):
        (run / file).unlink()
    assert type_in("evaluate", run) == 0
    assert results_of(run) == results_of(whole / name)
    assert (run / "report.html").read_text() == (whole / name / "report.html").read_text()
    assert f"{results_of(run)['dsc']:.3f}" in capsys.readouterr().out


def test_evaluating_the_validation_part_gives_the_score_of_the_best_epoch(whole, capsys):
    """Of images; volumes are validated by patches side by side, and tested by windows."""
    before = (whole / "digits_masks" / "test.json").read_bytes()
    assert type_in("evaluate", whole / "digits_masks", "--part", "validation") == 0
    best = max(row["val_dsc"] for row in lines_of(whole / "digits_masks"))
    printed = capsys.readouterr().out
    assert f"DSC            {best:.3f}" in printed
    assert "validation is no test" in printed
    assert (whole / "digits_masks" / "test.json").read_bytes() == before


def test_masks_are_predicted_in_the_size_of_their_images(whole, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    (tmp_path / "images").mkdir()
    Image.fromarray(image).save(tmp_path / "images" / "one.png")
    code = type_in(
        "predict", whole / "digits_masks", tmp_path / "images", "--output", tmp_path / "masks"
    )
    assert code == 0
    (file,) = (tmp_path / "masks").iterdir()
    mask = np.asarray(Image.open(file))
    assert (file.name, mask.shape, mask.dtype) == ("one.png", (40, 56), np.uint8)
    trained = load_segmenter(whole / "digits_masks")
    resized = decode_image((tmp_path / "images" / "one.png").read_bytes(), ImageSpec(32, 32))
    prediction = trained.segment(np.stack([resized] * jax.local_device_count()))[0]
    np.testing.assert_array_equal(np.unique(mask), np.unique(prediction))


@pytest.mark.parametrize("name", ["kits19", "brats20"])
def test_label_maps_are_predicted_over_the_voxels_of_their_files(
    whole, data_dir, name, tmp_path, capsys
):
    """Nothing is resampled here: a label map holds what the model says of the prepared case."""
    make = {"kits19": make_kits19, "brats20": make_brats20}[name]
    raw = make(tmp_path / "raw", 3)
    broken, first, *_ = sorted(raw.iterdir())
    for file in [*raw.glob("*/*seg*"), *broken.iterdir()]:
        file.write_bytes(b"")  # labels are not looked at, and without images nothing is predicted
    assert type_in("predict", whole / name, raw, "--output", tmp_path / "out") == 2
    printed = capsys.readouterr()
    assert printed.out.startswith("2 of 3 cases segmented: ")
    assert printed.err.startswith(f"lmf_jax: Cannot segment {broken.name} (")
    assert len(list((tmp_path / "out").iterdir())) == 2

    spec, trained = volume_spec(name), load_segmenter(whole / name)
    dataset = load_volumes(name, data_dir=data_dir)
    row = dataset.ids.tolist().index(first.name)
    predicted = open_nifti(tmp_path / "out" / f"{first.name}.nii.gz")
    image = open_nifti(spec.case_of(first).image_paths()[0])
    assert (predicted.shape, predicted.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(predicted.orientation, image.orientation)
    np.testing.assert_allclose(predicted.affine, image.affine, atol=1e-4)
    classes = predicted.read_labels(spec.label_values)
    expected = trained.segment(dataset.read(row).image[None])[0]
    found = [ids[bounding_box(ids > 0)] for ids in (classes, expected)]  # what is cut off is 0
    np.testing.assert_array_equal(*found)


def test_label_maps_never_replace_the_files_of_a_case(whole, tmp_path, capsys):
    """A case may be called like one of its files, or have a name as long as the disk allows."""
    raw = make_kits19(tmp_path / "raw", 2)
    for case, name in zip(sorted(raw.iterdir()), ("segmentation", "n" * 250), strict=True):
        case.rename(raw / name)
    before = (raw / "segmentation" / "segmentation.nii.gz").read_bytes()
    words = ["predict", whole / "kits19", raw / "segmentation", "--output", raw / "segmentation"]
    assert type_in(*words, "--overwrite") == 2
    assert "segmentation.nii.gz would be replaced" in capsys.readouterr().err
    assert (raw / "segmentation" / "segmentation.nii.gz").read_bytes() == before
    words = ["predict", whole / "kits19", raw / ("n" * 250), "--output", tmp_path / "out"]
    assert type_in(*words) == 0
    (file,) = (tmp_path / "out").iterdir()
    assert file.name.startswith("n" * 200) and file.name.endswith(".nii.gz")
    assert "exists already; give another --output" in (type_in(*words), capsys.readouterr().err)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "{brats20}", "{images}", "--output", "{out}"], "has no case; expected"),
        (
            ["explain", "{digits_masks}", "{images}", "--output", "{out}"],
            "is segmentation, which has no Grad-CAM",
        ),
        (["compare", "{digits_masks}", "{kits19}"], "data"),
    ],
    ids=["no volumes", "no classifier", "other data"],
)
def test_what_cannot_be_done_is_said_in_one_sentence(whole, words, message, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "one.png")
    places = {name: whole / name for name in RUNS}
    places |= {"images": tmp_path / "images", "out": tmp_path / "out"}
    assert type_in(*(word.format(**places) for word in words)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_dataset_of_the_other_task_is_refused(data_dir, tmp_path, capsys):
    assert train(tmp_path / "a", data_dir, "--dataset", "digits_lt") == 2
    assert "have classes and no masks" in capsys.readouterr().err
    words = ["--dataset", "digits_masks", "--patch-size", "8", "8", "8"]
    assert train(tmp_path / "b", data_dir, *words) == 2
    assert "--patch-size is for volumes" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
