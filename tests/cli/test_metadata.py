"""``train.py --metadata`` to the report, and every command on its runs, with metadata that tell."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmf_jax.config import Config
from lmf_jax.errors import UserError
from lmf_jax.inference import image_model
from lmf_jax.inference.classifier import load_classifier
from lmf_jax.runs.files import read_record
from lmf_jax.training import classification
from tests.helpers.tiny_commands import run_lmf_jax, train
from tests.helpers.tiny_training import tiny_model, tiny_models

pytestmark = pytest.mark.slow  # trains many models, by whole commands

tiny = tiny_models(tiny_model, classification, image_model)

NUM_IMAGES = 96
PARTS = ("train", "train", "val", "test")


def write_manifest(folder: Path, columns: str = "age,site,clinic", seed: int = 0) -> Path:
    """Write images of noise, whose class follows from age and site in ten of eleven cases."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    lines = [f"path,label,group,split,{columns}"]
    for number in range(NUM_IMAGES):
        pixels = rng.integers(0, 200, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        label = number % 2
        shown = 1 - label if number % 11 == 0 else label
        age = "" if number % 12 == 0 else f"{rng.normal(40 + 20 * shown, 5):.0f}"
        values = {"age": age, "site": ("hand", "foot")[shown], "clinic": "ab"[number // 2 % 2]}
        metadata = ",".join(values[column] for column in columns.split(","))
        part, name = PARTS[number // 2 % 4], ("nevus", "melanoma")[label]
        lines.append(f"{number:02d}.png,{name},p{seed}-{number // 2},{part},{metadata}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return folder / "list.csv"


def type_in(*words: object) -> int | str | None:
    with pytest.MonkeyPatch.context() as patch:
        return run_lmf_jax(patch, *words)


def train_here(root: Path, run: str, *words: object) -> None:
    """Run ``train.py`` in this process, with flags that make it quick."""
    with pytest.MonkeyPatch.context() as patch:
        train(patch, "--data-dir", root / "data", "--run-dir", root / run, *words)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a manifest, and a run that gets age, site and clinic."""
    root = tmp_path_factory.mktemp("metadata")
    manifest = write_manifest(root / "images")
    words = ["--dataset", f"manifest:{manifest}", "--metadata", "age, site, clinic"]
    train_here(root, "run", *words, "--epochs", "12")
    return root


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def macro_f1(run: Path) -> float:
    return json.loads((run / "test.json").read_text())["macro_f1"]


def test_a_run_learns_from_the_metadata_and_records_their_encoding(root: Path) -> None:
    assert macro_f1(root / "run") > 0.75  # the images are noise
    record = read_record(root / "run")
    assert record["config"]["metadata"] == "age, site, clinic"
    age, site, clinic = record["dataset"]["metadata"]
    lines = list(csv.DictReader((root / "images/list.csv").read_text().splitlines()))
    ages = [float(row["age"]) for row in lines if row["split"] == "train" and row["age"]]
    assert age["mean"] == pytest.approx(np.mean(ages))
    assert (site["values"], clinic["values"]) == (["foot", "hand"], ["a", "b"])
    assert "metadata" in (root / "run" / "report.html").read_text()


def test_a_resumed_run_is_that_of_one_without_a_stop(root: Path, capsys) -> None:
    words = ["--dataset", f"manifest:{root / 'images/list.csv'}", "--metadata", "age, site, clinic"]
    train_here(root, "resumed", *words, "--epochs", "7")
    capsys.readouterr()
    train_here(root, "resumed", "--resume", "--epochs", "12")
    assert "metadata beside the image: age (" in capsys.readouterr().out
    for name in ("predictions.npz", "validation_predictions.npz"):
        first, second = (arrays(root / run / name) for run in ("run", "resumed"))
        np.testing.assert_array_equal(first["logits"], second["logits"])
    first, second = ((root / run / "metrics.jsonl").read_text() for run in ("run", "resumed"))
    assert first == second


def test_a_run_is_not_resumed_with_other_columns(root: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        train_here(root, "run", "--resume", "--metadata", "age")
    assert "metadata age, site, clinic (now age)" in capsys.readouterr().err


def test_evaluate_gives_the_same_results_again(root: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(root / "run", tmp_path / "run"))
    (run / "predictions.npz").unlink()
    assert type_in("evaluate", run) == 0
    first, second = (arrays(path / "predictions.npz") for path in (root / "run", run))
    np.testing.assert_array_equal(first["logits"], second["logits"])
    assert type_in("evaluate", run, "--tta", "flip") == 0


def change(root: Path, tmp_path: Path, edit) -> Path:
    """Return a copy of the run with another ``config.json``."""
    run = Path(shutil.copytree(root / "run", tmp_path / "run"))
    record = json.loads((run / "config.json").read_text())
    edit(record)
    (run / "config.json").write_text(json.dumps(record))
    return run


def test_changed_metadata_are_refused(root: Path, tmp_path: Path, capsys) -> None:
    """The fingerprint of the data leaves metadata out, so that they have their own."""
    manifest = Path(shutil.copytree(root / "images", tmp_path / "images")) / "list.csv"
    lines = manifest.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if ",test," in line)
    lines[number] = re.sub(r",test,\d*", ",test,99", lines[number])
    manifest.write_text("\n".join(lines) + "\n")
    name = f"manifest:{manifest}"
    run = change(root, tmp_path, lambda record: record["config"].update(dataset=name))
    assert type_in("evaluate", run) != 0
    assert "The values of age, site, clinic of manifest:" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train_here(root, str(run), "--resume", "--epochs", "13", "--dataset", name)
    assert "are not those that the run was trained with" in capsys.readouterr().err


def read_table(path: Path) -> dict[str, float]:
    with path.open(newline="") as file:
        return {Path(row["path"]).name: float(row["p(melanoma)"]) for row in csv.DictReader(file)}


def test_predict_takes_a_list_with_the_columns(root: Path, tmp_path: Path, capsys) -> None:
    table, image = tmp_path / "list.csv", root / "images/01.png"
    for name in ("young", "old", "unknown"):
        shutil.copy(image, tmp_path / f"{name}.png")
    rows = ["path,site,age,more", "young.png,hand,38,x", "old.png,foot,64,x", "unknown.png,knee,,x"]
    table.write_text("\n".join(rows) + "\n")
    capsys.readouterr()
    assert type_in("predict", root / "run", table, "--output", tmp_path / "out.csv") == 0
    found = read_table(tmp_path / "out.csv")
    assert found["old.png"] > 0.5 > found["young.png"]
    printed = capsys.readouterr().out
    assert (
        "metadata unknown, of 3 images: age of 1, site of 1 (1 with a value that no training image "
        "has), clinic of 3"
    ) in printed
    model = load_classifier(root / "run")
    pixels = np.asarray(Image.open(image).convert("RGB").resize((32, 32), Image.BILINEAR))
    assert model.probabilities(pixels[None]).shape == (1, 2)
    assert type_in("predict", root / "run", image, "--output", tmp_path / "alone.csv") == 0
    assert "metadata unknown, of 1 images: age of 1, site of 1" in capsys.readouterr().out
    assert read_table(tmp_path / "alone.csv")["01.png"] == pytest.approx(found["unknown.png"])

    assert type_in("predict", root / "run", table, "--output", table, "--overwrite") != 0
    assert "would be replaced" in capsys.readouterr().err
    assert table.read_text().splitlines()[0] == rows[0]


def test_the_list_of_the_training_gives_the_probabilities_of_the_test(root, tmp_path) -> None:
    out, run = tmp_path / "all.csv", root / "run"
    assert type_in("predict", run, root / "images/list.csv", "--output", out) == 0
    found, test = read_table(out), arrays(run / "predictions.npz")
    names = read_record(run)["dataset"]["class_names"]
    model = load_classifier(run)
    expected = model.calibrator.probabilities(test["logits"])[:, names.index("melanoma")]
    by_name = [found[name] for name in test["ids"].tolist()]
    np.testing.assert_allclose(by_name, expected, atol=2e-6)


def test_explain_takes_a_list_too(root: Path, tmp_path: Path, capsys) -> None:
    for name, site, age in (("young", "hand", 38), ("old", "foot", 64)):
        shutil.copy(root / "images/01.png", tmp_path / f"{name}.png")
        (tmp_path / f"{name}.csv").write_text(f"path,site,age\n{name}.png,{site},{age}\n")
    lists = tmp_path / "young.csv", tmp_path / "old.csv"
    assert type_in("explain", root / "run", *lists, "--output", tmp_path / "maps") == 0
    pictures = {path.name for path in (tmp_path / "maps").iterdir()}
    assert pictures == {"young-nevus.png", "old-melanoma.png"}
    assert "clinic of 2" in capsys.readouterr().out


def test_ablate_shows_which_column_the_model_depends_on(root: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in (root / "run").iterdir()}
    assert type_in("ablate", root / "run") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("24 test images; metadata: age, site, clinic")
    assert "for the choice of test lesions or patients" in printed
    assert max(map(len, printed.splitlines())) <= 100
    rows = {line[:14].strip(): re.findall(r"[-+]?\d\.\d{3}", line) for line in printed.splitlines()}
    assert float(rows["all columns"][0]) == pytest.approx(macro_f1(root / "run"), abs=5e-4)
    alone, clinic = (list(map(float, rows[name])) for name in ("image alone", "without clinic"))
    assert alone[0] < -0.2 and alone[2] < 0  # the upper end of the interval
    assert alone[3] < -0.2 and alone[6] < -0.2  # AUROC and balanced accuracy
    assert abs(clinic[0]) < 0.15
    assert "without age" in rows and "without site" in rows
    assert before == {path: path.stat().st_mtime_ns for path in (root / "run").iterdir()}


def test_a_test_on_other_data_says_what_is_unknown(root: Path, tmp_path: Path, capsys) -> None:
    other = write_manifest(tmp_path / "other", "site,age", seed=1)
    data = ["--dataset", f"manifest:{other}", "--data-dir", root / "data"]
    run = Path(shutil.copytree(root / "run", tmp_path / "run"))
    assert type_in("evaluate", run, *data) == 0
    printed = capsys.readouterr().out
    assert "metadata unknown, of 96 images: age of 8, clinic of 96" in printed
    (folder,) = (run / "external").iterdir()
    assert macro_f1(folder) > 0.7


@pytest.fixture(scope="module")
def alone(root: Path) -> Path:
    """Return a run that gets images alone."""
    train_here(root, "alone", "--dataset", f"manifest:{root / 'images/list.csv'}", "--epochs", "1")
    return root / "alone"


@pytest.fixture(scope="module")
def mixed(root: Path) -> Path:
    """Return a run with other columns, CutMix and a cosine head."""
    words = ["--dataset", f"manifest:{root / 'images/list.csv'}", "--metadata", "age,site"]
    train_here(root, "mixed", *words, "--epochs", "1", "--cutmix", "1", "--head", "cosine")
    return root / "mixed"


def test_a_run_without_metadata_is_as_before(root, alone, tmp_path, capsys) -> None:
    run = Path(shutil.copytree(alone, tmp_path / "alone"))
    record = json.loads((run / "config.json").read_text())
    assert "metadata" not in record["dataset"]
    assert set(load_classifier(run).variables["params"]) == {"backbone", "head"}
    capsys.readouterr()
    assert type_in("ablate", run) != 0
    assert "gets images alone; give one trained with --metadata" in capsys.readouterr().err
    del record["config"]["metadata"]  # a run of an earlier version
    (run / "config.json").write_text(json.dumps(record))
    assert type_in("evaluate", run) == 0
    out = tmp_path / "out.csv"
    assert type_in("predict", run, root / "images/list.csv", "--output", out) == 0
    assert "metadata unknown" not in capsys.readouterr().out
    train_here(root, str(run), "--resume", "--epochs", "2")


def test_runs_with_other_columns_are_averaged(root, mixed, alone, tmp_path, capsys) -> None:
    listed = root / "images/list.csv"
    tables = {}
    for name, words in {
        "run": [root / "run", listed],
        "mixed": [mixed, listed],
        "alone": [alone, listed],
        "mean": [root / "run", listed, "--ensemble", mixed, alone],
    }.items():
        assert type_in("predict", *words, "--output", tmp_path / f"{name}.csv") == 0
        tables[name] = read_table(tmp_path / f"{name}.csv")
    for image, found in tables["mean"].items():
        single = [tables[name][image] for name in ("run", "mixed", "alone")]
        assert found == pytest.approx(np.mean(single), abs=2e-6)
    capsys.readouterr()
    assert type_in("evaluate", alone, "--ensemble", root / "run") == 0
    assert "mean of 2 models" in capsys.readouterr().out
    words = [root / "images/01.png", "--ensemble", mixed, "--tta", "flip"]
    assert type_in("explain", root / "run", *words, "--output", tmp_path / "maps") == 0


BROKEN = {
    "no encoding": (lambda r: r["dataset"].pop("metadata"), "its dataset and its config differ"),
    "no columns": (lambda r: r["config"].pop("metadata"), "its dataset and its config differ"),
    "no fingerprint": (
        lambda r: r["dataset"].pop("metadata_fingerprint"),
        "its dataset lacks metadata_fingerprint",
    ),
    "a deviation of zero": (
        lambda r: r["dataset"]["metadata"][0].update(std=0),
        "of its metadata, the column age has no mean and positive standard deviation",
    ),
}


@pytest.mark.parametrize(("edit", "message"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_record_of_the_encoding_is_named(edit, message, root, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        read_record(change(root, tmp_path, edit))


def test_segmentation_takes_no_metadata() -> None:
    with pytest.raises(UserError, match="--metadata is age; expected no value with --task segment"):
        Config.of(task="segmentation", metadata="age")
