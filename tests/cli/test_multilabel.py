"""``train.py --task multilabel`` to the report, and every command on its runs."""

import csv
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lmf_jax.config import Config
from lmf_jax.errors import UserError
from lmf_jax.evaluation import write_report
from lmf_jax.evaluation.formatting import format_difference
from lmf_jax.evaluation.multilabel.run import read_run
from lmf_jax.evaluation.multilabel.scores import score_labels, sigmoid
from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.labeled_images import NUM_IMAGES, draw_labeled_images, vector_of
from tests.helpers.tiny_commands import TRAIN, run_lmf_jax
from tests.helpers.tiny_training import tiny_model, tiny_models

tiny = tiny_models(tiny_model, classification, image_model)

QUICK = ("--image-size", "32", "--batch-size", "16", "--learning-rate", "0.01")
NAMES = [str(digit) for digit in range(10)]


def train(root: Path, run: str, *words: object) -> str | int | None:
    """Run ``train.py --task multilabel`` in this process; return the code that it ends with."""
    arguments = ["--task", "multilabel", "--data-dir", root / "data", "--run-dir", root / run]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, [*arguments, *words])])
        try:
            runpy.run_path(TRAIN, run_name="__main__")
        except SystemExit as stop:
            return stop.code
    return 0


def type_in(*words: object) -> str | int | None:
    """Run ``python -m lmf_jax`` with these words in this process; return the exit code."""
    with pytest.MonkeyPatch.context() as patch:
        return run_lmf_jax(patch, *words)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of the loss lmf and one of bce with mixup."""
    root = tmp_path_factory.mktemp("multilabel")
    assert train(root, "lmf", *QUICK, "--epochs", "2") == 0
    assert train(root, "bce", *QUICK, "--epochs", "1", "--loss", "bce", "--mixup", "0.2") == 0
    return root


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def test_a_run_has_the_files_and_figures_of_its_predictions(root: Path) -> None:
    run = root / "lmf"
    assert {path.name for path in run.iterdir()} >= {
        *("config.json", "metrics.jsonl", "test.json", "predictions.npz", "calibration.json"),
        *("validation_predictions.npz", "thresholds.json", "report.html"),
    }
    found = arrays(run / "predictions.npz")
    assert set(found) == {"ids", "labels", "logits"}
    assert found["labels"].shape == found["logits"].shape == (len(found["ids"]), 10)
    test = json.loads((run / "test.json").read_text())
    scores = score_labels(found["labels"], found["logits"])
    assert test["mean_average_precision"] == pytest.approx(float(scores.mean_average_precision))
    assert list(test["per_label"]) == NAMES
    calibration = json.loads((run / "calibration.json").read_text())
    thresholds = json.loads((run / "thresholds.json").read_text())["thresholds"]
    probabilities = sigmoid(found["logits"] / calibration["temperature"])
    predicted = probabilities >= np.array([thresholds[name] for name in NAMES])
    is_seven = found["labels"][:, 7] == 1
    recall = (predicted[:, 7] & is_seven).sum() / is_seven.sum()
    assert test["per_label"]["7"]["recall"] == pytest.approx(recall)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    validation = arrays(run / "validation_predictions.npz")
    best = score_labels(validation["labels"], validation["logits"]).mean_average_precision
    assert max(row["val_map"] for row in rows) == pytest.approx(float(best), abs=1e-6)


def test_the_report_answers_first_and_has_a_row_for_each_label(root: Path) -> None:
    text = (root / "lmf" / "report.html").read_text()
    test = json.loads((root / "lmf" / "test.json").read_text())
    assert f"mAP {test['mean_average_precision']:.3f}</title>" in text
    assert text.index("The weakest label is") < text.index("<h2>Labels</h2>")
    for name, found in test["per_label"].items():
        assert f'<th scope="row">{name}</th>' in text
        assert f"{found['threshold']:.3f}" in text
    for figure in ("precision_recall", "reliability", "training_curves"):
        assert (root / "lmf" / "figures" / f"{figure}.png").exists()


def test_a_resumed_run_is_that_of_one_without_a_stop(root: Path) -> None:
    assert train(root, "resumed", *QUICK, "--epochs", "1") == 0
    assert train(root, "resumed", "--resume", "--epochs", "2") == 0
    for name in ("predictions.npz", "validation_predictions.npz"):
        first, second = (arrays(root / run / name) for run in ("lmf", "resumed"))
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])
    first, second = ((root / run / "test.json").read_text() for run in ("lmf", "resumed"))
    assert first == second


def test_evaluate_gives_the_same_results_again(root: Path, tmp_path: Path, capsys) -> None:
    run = Path(shutil.copytree(root / "lmf", tmp_path / "lmf"))
    for name in ("test.json", "predictions.npz", "thresholds.json", "report.html"):
        (run / name).unlink()
    assert type_in("evaluate", run) == 0
    table = capsys.readouterr().out
    assert "mAP " in table and "macro AUROC" in table and "report: " in table
    for name in ("test.json", "thresholds.json", "calibration.json"):
        assert (run / name).read_text() == (root / "lmf" / name).read_text()
    assert type_in("evaluate", run, "--part", "validation") == 0
    assert "validation is no test" in capsys.readouterr().out
    assert type_in("evaluate", run, "--calibration", "none") == 0
    assert json.loads((run / "calibration.json").read_text())["method"] == "none"


def test_compare_tests_the_difference_of_map(root: Path, capsys) -> None:
    assert type_in("compare", root / "lmf", root / "bce") == 0
    text = capsys.readouterr().out
    means = [
        json.loads((root / run / "test.json").read_text())["mean_average_precision"]
        for run in ("lmf", "bce")
    ]
    assert "mAP" in text and format_difference(means[0] - means[1]) in text and "Holm p" in text


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    return tmp_path / "images"


def test_predict_writes_a_probability_for_each_label(root, pictures, tmp_path) -> None:
    table = tmp_path / "labels.csv"
    assert type_in("predict", root / "lmf", pictures, "--output", table) == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "labels", *(f"p({name})" for name in NAMES)]
    thresholds = json.loads((root / "lmf/thresholds.json").read_text())["thresholds"]
    for row in rows:
        above = [name for name in NAMES if float(row[f"p({name})"]) >= thresholds[name]]
        assert row["labels"] == "|".join(above)


def test_explain_draws_every_predicted_label(root, pictures, tmp_path, capsys) -> None:
    table, output = tmp_path / "labels.csv", tmp_path / "maps"
    assert type_in("predict", root / "lmf", pictures, "--output", table) == 0
    assert type_in("explain", root / "lmf", pictures, "--output", output) == 0
    with table.open(newline="") as file:
        rows = {Path(row["path"]).stem: row["labels"].split("|") for row in csv.DictReader(file)}
    drawn = {path.stem for path in output.iterdir()}
    for stem, labels in rows.items():
        if labels != [""]:
            assert {f"{stem}-{label}" for label in labels} <= drawn
        assert any(name.startswith(f"{stem}-") for name in drawn)
    with Image.open(next(output.iterdir())) as picture:
        assert picture.size == (50, 40)


def change_json(name: str, change):
    """Return a function that changes a JSON file of a run."""

    def of_run(run: Path) -> None:
        content = json.loads((run / name).read_text())
        change(content)
        (run / name).write_text(json.dumps(content))

    return of_run


def test_f1_has_intervals_and_an_earlier_run_without_them_is_read(root, tmp_path) -> None:
    run = Path(shutil.copytree(root / "lmf", tmp_path / "lmf"))
    test = json.loads((run / "test.json").read_text())
    for name in ("macro_f1", "micro_f1", "samples_f1"):
        low, high = test["intervals"].pop(name)
        assert 0 <= low <= test[name] <= high <= 1
    for name, ends in test["intervals"]["per_label"].items():
        for metric in ("f1", "precision", "recall"):
            low, high = ends.pop(metric)
            assert 0 <= low <= test["per_label"][name][metric] <= high <= 1
    (run / "test.json").write_text(json.dumps(test))
    read_run(run)
    write_report(run)


def with_a_two(run: Path) -> None:
    changed = arrays(run / "predictions.npz")
    changed["labels"][0, 0] = 2
    np.savez(run / "predictions.npz", **changed)


BROKEN = {
    "no thresholds": (lambda run: (run / "thresholds.json").unlink(), "thresholds.json is missing"),
    "no validation": (
        lambda run: (run / "validation_predictions.npz").unlink(),
        "validation_predictions.npz is missing",
    ),
    "a label of 2": (with_a_two, "its labels are not 0, 1 or -1"),
    "a metric above 1": (
        change_json("test.json", lambda test: test.update(macro_f1=1.5)),
        "test.json is broken: its macro_f1 is not a fraction",
    ),
    "another support": (
        change_json("test.json", lambda test: test["per_label"]["3"].update(positives=0)),
        "label 3 has other images than in predictions.npz",
    ),
    "an interval of F1 of words": (
        change_json("test.json", lambda test: test["intervals"].update(macro_f1=["a", "b"])),
        "the interval of its macro_f1 is not a pair of fractions",
    ),
    "an interval of one end": (
        change_json("test.json", lambda test: test["intervals"].update(mean_auroc=[0.1])),
        "the interval of its mean_auroc is not a pair of fractions",
    ),
    "no counts of images without a label": (
        change_json("config.json", lambda record: record["dataset"].pop("negative_counts")),
        "its dataset lacks negative_counts",
    ),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_file_of_a_run_is_named(change, message, root: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(root / "lmf", tmp_path / "lmf"))
    change(run)
    with pytest.raises(UserError, match=message):
        read_run(run)


REFUSED = {
    "sets": ("sets {run}", "The command sets is for --task classification, and the task of the"),
    "card": ("card {run}", "The command card is for --task classification and segmentation, and"),
    "another dataset": ("evaluate {run} --dataset digits_lt", "do not have several labels; give"),
    "vector scaling": ("evaluate {run} --calibration vector", "--calibration vector is not avail"),
    "subgroups": ("evaluate {run} --subgroups sex", "the dataset has no metadata"),
    "sets of labels": ("predict {run} {images} --sets --output {out}.csv", "--sets is not avail"),
    "prevalence": (
        "predict {run} {images} --prevalence 3=0.1 --output {out}.csv",
        "--prevalence is not available for runs of --task multilabel; leave it out",
    ),
}


@pytest.mark.parametrize(("line", "message"), REFUSED.values(), ids=list(REFUSED))
def test_what_the_task_lacks_is_refused_in_one_line(
    line, message, root, pictures, tmp_path, capsys
) -> None:
    places = {"run": root / "lmf", "other": root / "bce", "images": pictures, "out": tmp_path / "o"}
    assert type_in(*line.format(**places).split()) not in (0, None)
    printed = capsys.readouterr().err.strip()
    assert "\n" not in printed
    assert message in printed


WRONG_SETTINGS = {
    "a loss of classes": ({"loss": "ce"}, "--loss is ce; expected one of"),
    "a model of pixels": ({"model": "unet"}, "--model unet is for --task segmentation; use one of"),
    "a long tail": ({"imbalance_ratio": 5.0}, "--imbalance-ratio is 5.0; expected no value with"),
}


@pytest.mark.parametrize(("settings", "message"), WRONG_SETTINGS.values(), ids=list(WRONG_SETTINGS))
def test_settings_that_the_task_lacks_are_refused(settings, message) -> None:
    with pytest.raises(UserError, match=message):
        Config.of(task="multilabel", **settings)


@pytest.mark.parametrize(
    "word",
    [["--cutmix", "1"], ["--loss", "asl", "--sampling", "class-balanced"], ["--loss", "ldam-drw"]],
)
def test_mixing_and_other_losses_train(word, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "data", tmp_path / "data")
    words = [*QUICK, *word, "--epochs", "1", "--accumulate", "2", "--augment", "flip"]
    assert train(tmp_path, "run", *words) == 0


@pytest.fixture(scope="module")
def grouped(root: Path) -> Path:
    """Return a run on a list of images, with each patient in one part."""
    manifest = draw_labeled_images(root / "listed")
    words = ["--dataset", f"manifest:{manifest}", "--split", "grouped", "--epochs", "2"]
    assert train(root, "grouped", *QUICK, *words, "--pretrained", "none") == 0
    return root / "grouped"


def test_missing_labels_and_patients_of_a_list_reach_the_results(grouped: Path) -> None:
    parts = [arrays(grouped / name) for name in ("predictions.npz", "validation_predictions.npz")]
    for found in parts:
        for name, vector, group in zip(found["ids"], found["labels"], found["groups"], strict=True):
            number = int(name.removesuffix(".png"))
            assert vector.tolist() == vector_of(number)
            assert group == f"patient 0-{number // 2}"
    assert not set(parts[0]["groups"]) & set(parts[1]["groups"])
    every = {f"{number:02d}.png" for number in range(NUM_IMAGES)}
    trained = every - {*parts[0]["ids"], *parts[1]["ids"]}
    tested = {*parts[0]["groups"], *parts[1]["groups"]}
    assert not {f"patient 0-{int(name[:2]) // 2}" for name in trained} & tested
    test = json.loads((grouped / "test.json").read_text())
    assert test["intervals"]["drawn"] == "groups"
    red = parts[0]["labels"][:, 0]
    counts = [test["per_label"]["red"][key] for key in ("positives", "negatives")]
    assert counts == [(red == 1).sum(), (red == 0).sum()]
    assert "lesions or patients" in (grouped / "report.html").read_text()
