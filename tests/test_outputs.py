"""``predict`` and ``explain`` never replace an input, nor one result by another."""

import csv
import os
import runpy
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from lmf_jax.inference import image_model, segmenter
from lmf_jax.training import classification, segmentation
from tests.helpers.colored_images import draw_images
from tests.helpers.image_pairs import draw_pairs
from tests.helpers.tiny_training import tiny_model, tiny_unet

TRAIN = str(Path(__file__).parent.parent / "train.py")
LONG = "n" * 250


def run_script(*words):
    """Run ``train.py`` or ``lmf_jax`` in this process; return the exit code."""
    program, *arguments = map(str, words)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [program, *arguments])
        try:
            run = runpy.run_path if program == TRAIN else runpy.run_module
            run(program, run_name="__main__")
        except SystemExit as stop:
            return stop.code
    return 0


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Return a run with class names that look like file names, and one with masks."""
    root = tmp_path_factory.mktemp("outputs")
    draw_images(root / "images", (30, 20, 20))
    for name, new in {"red": "b-c", "green": "c", "blue": LONG}.items():
        (root / "images" / name).rename(root / "images" / new)
    common = ["--data-dir", root / "data", "--epochs", "3", "--batch-size", "8"]
    common += ["--image-size", "32", "--learning-rate", "0.01", "--normalization", "unit"]
    common += ["--pretrained", "none"]
    with pytest.MonkeyPatch.context() as patch:
        for module in (classification, image_model):
            patch.setattr(module, "create_model", lambda name, **kw: tiny_model(**kw))
        for module in (segmentation, segmenter):
            patch.setattr(module, "create_model", lambda name, **kw: tiny_unet(**kw))
        words = ["--dataset", f"folder:{root / 'images'}", "--run-dir", root / "classes"]
        assert run_script(TRAIN, *words, *common) == 0
        words = ["--dataset", draw_pairs(root / "pairs", 20), "--run-dir", root / "masks"]
        common[3] = "1"
        assert run_script(TRAIN, "--task", "segmentation", *words, *common) == 0
        yield root


@pytest.fixture
def folder(root, tmp_path):
    """Three images of the user."""
    (tmp_path / "own").mkdir()
    for name, image in {"one": "0", "two": "1", "three": "2"}.items():
        shutil.copy(root / "images" / "c" / f"{image}.png", tmp_path / "own" / f"{name}.png")
    return tmp_path / "own"


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(capsys, *words):
    """Check that a command is refused in one sentence; return it."""
    assert run_script("lmf_jax", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("extra", [(), ("--overwrite",)])
@pytest.mark.parametrize("kind", ["same", "link", "hard link"])
def test_masks_never_replace_the_images(kind, extra, root, folder, tmp_path, capsys):
    before, output = content(folder), tmp_path / "out"
    if kind == "same":
        output = folder
    elif kind == "link":
        output.symlink_to(folder)
    else:
        output.mkdir()
        os.link(folder / "two.png", output / "two.png")
    line = refused(capsys, "predict", root / "masks", folder, "--output", output, *extra)
    assert "would be replaced; give another --output" in line
    assert content(folder) == before


def test_existing_masks_are_replaced_on_request(root, folder, tmp_path, capsys):
    words = ["predict", root / "masks", folder, "--output", tmp_path / "out"]
    assert run_script("lmf_jax", *words) == 0
    masks = content(tmp_path / "out")
    (tmp_path / "out" / "one.png").write_bytes(b"edited by hand")
    (tmp_path / "out" / "two.png").unlink()
    assert "2 of 3 files to write exist" in refused(capsys, *words)
    assert (tmp_path / "out" / "one.png").read_bytes() == b"edited by hand"
    assert not (tmp_path / "out" / "two.png").exists()
    assert run_script("lmf_jax", *words, "--overwrite") == 0
    assert content(tmp_path / "out") == masks


def test_masks_of_names_that_differ_in_case_are_told_apart(root, folder, tmp_path, capsys):
    (folder / "one.png").rename(folder / "TWO.png")
    assert run_script("lmf_jax", "predict", root / "masks", folder, "--output", tmp_path / "o") == 0
    assert len({name.lower() for name in content(tmp_path / "o")}) == 3
    assert "two: written as two-2.png" in capsys.readouterr().out


def test_a_table_replaces_no_file_unless_told(root, folder, tmp_path, capsys):
    table = tmp_path / "table.csv"
    table.write_text("path,label\n")
    words = ["predict", root / "classes", folder, "--output", table]
    assert "exists already; give another --output" in refused(capsys, *words)
    assert table.read_text() == "path,label\n"
    assert run_script("lmf_jax", *words, "--overwrite") == 0
    assert len(table.read_text().splitlines()) == 4


def test_a_table_never_replaces_an_image(root, folder, tmp_path, capsys):
    os.link(folder / "one.png", tmp_path / "one.csv")
    before = content(folder)
    words = ["predict", root / "classes", folder, "--output", tmp_path / "one.csv", "--overwrite"]
    assert "would be replaced" in refused(capsys, *words)
    assert content(folder) == before


def test_what_predict_passes_over_is_named(root, folder, tmp_path, capsys):
    (folder / "more").mkdir()
    (folder / "scan.nii").write_bytes(b"")
    for command, run, output in (
        ("predict", "classes", "table.csv"),
        ("predict", "masks", "masks"),
        ("explain", "classes", "pictures"),
    ):
        words = [command, root / run, folder, "--output", tmp_path / output]
        assert run_script("lmf_jax", *words) == 0
        printed = capsys.readouterr().out
        assert f"1 .nii file in {folder} is not used: scan.nii; " in printed
        assert f"1 folder in {folder} is not used: more; " in printed


def test_train_prepare_and_audit_name_what_is_not_used(root, tmp_path, capsys):
    images = shutil.copytree(root / "images", tmp_path / "images")
    for number in range(30):
        (images / "c" / f"{number:02d}.nii").write_bytes(b"")
    line = f"30 .nii files in {images} are not used: c/00.nii, c/01.nii, c/02.nii and 27 more; "
    name, data = f"folder:{images}", ("--data-dir", tmp_path / "data")
    for words in (("prepare", name, *data), ("prepare", name, *data), ("audit", name, *data)):
        assert run_script("data", *words) == 0
        assert line in capsys.readouterr().out
    words = ["--dataset", name, *data, "--run-dir", tmp_path / "run", "--epochs", "1"]
    words += ["--image-size", "32", "--batch-size", "8", "--normalization", "unit"]
    words += ["--pretrained", "none"]
    assert run_script(TRAIN, *words) == 0
    assert line in capsys.readouterr().out


def image_of(root, tmp_path, class_name):
    """Return an image that the run takes for this class."""
    table = tmp_path / f"{len(class_name)}.csv"
    words = ["predict", root / "classes", root / "images" / class_name, "--output", table]
    words.append("--overwrite")
    assert run_script("lmf_jax", *words) == 0
    with table.open(newline="") as file:
        return next(r["path"] for r in csv.DictReader(file) if r["prediction"] == class_name)


def test_explanations_of_one_name_are_told_apart(root, tmp_path, capsys):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(image_of(root, tmp_path, "b-c"), own / "x.png")
    shutil.copy(image_of(root, tmp_path, "c"), own / "x-b.png")
    capsys.readouterr()
    output = tmp_path / "out"
    assert run_script("lmf_jax", "explain", root / "classes", own, "--output", output) == 0
    printed = dict(line.split(": ") for line in capsys.readouterr().out.splitlines())
    assert sorted(content(output)) == ["x-b-c-2.png", "x-b-c.png"]
    assert printed[str(own / "x.png")].endswith("x-b-c-2.png")
    assert printed[str(own / "x-b.png")].endswith("x-b-c.png")


def test_an_explanation_never_replaces_an_image(root, tmp_path, capsys):
    own = tmp_path / "own"
    own.mkdir()
    shutil.copy(image_of(root, tmp_path, "c"), own / "x.png")
    shutil.copy(own / "x.png", own / "x-c.png")
    before = content(own)
    for extra in ((), ("--overwrite",)):
        line = refused(capsys, "explain", root / "classes", own, "--output", own, *extra)
        assert "x-c.png would be replaced" in line
        assert content(own) == before


def test_existing_explanations_are_replaced_on_request(root, folder, tmp_path, capsys):
    words = ["explain", root / "classes", folder, "--output", tmp_path / "out"]
    assert run_script("lmf_jax", *words) == 0
    pictures = content(tmp_path / "out")
    assert "3 of 3 files to write exist" in refused(capsys, *words)
    assert run_script("lmf_jax", *words, "--overwrite") == 0
    assert content(tmp_path / "out") == pictures


@pytest.mark.parametrize("length", [1, 250, 251])
def test_names_of_250_characters_are_no_obstacle(length, root, tmp_path, capsys):
    own = tmp_path / "own"
    own.mkdir()
    for end in "ab" if length < 251 else "a":
        name = f"{'x' * (length - 1)}{end}.png"
        shutil.copy(image_of(root, tmp_path, LONG), own / name)
    capsys.readouterr()
    assert run_script("lmf_jax", "explain", root / "classes", own, "--output", tmp_path / "e") == 0
    assert len(content(tmp_path / "e")) == len(content(own))
    assert run_script("lmf_jax", "predict", root / "masks", own, "--output", tmp_path / "m") == 0
    assert content(tmp_path / "m").keys() == content(own).keys()
    for file in (tmp_path / "e").iterdir():
        Image.open(file).load()


def test_evaluate_and_report_take_a_class_of_250_characters(root, tmp_path):
    run = shutil.copytree(root / "classes", tmp_path / "run")
    assert run_script("lmf_jax", "evaluate", run) == 0
    assert LONG in (run / "report.html").read_text()


def test_a_data_folder_of_250_characters_names_a_run(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(root / "images", tmp_path / LONG)
    words = ["--dataset", f"folder:{LONG}", "--data-dir", "data", "--epochs", "1"]
    words += ["--image-size", "32", "--batch-size", "8", "--normalization", "unit"]
    words += ["--pretrained", "none"]
    assert run_script(TRAIN, *words) == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("folder-nnn") and (run / "report.html").exists()
