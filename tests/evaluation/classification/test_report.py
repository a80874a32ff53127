"""The report is complete, self-contained and safe; the terminal's table is aligned."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lmf_jax.errors import UserError
from lmf_jax.evaluation import read_run
from lmf_jax.evaluation.classification.mistakes import Mistakes, read_mistakes, write_mistakes
from lmf_jax.evaluation.classification.report import format_test_table
from lmf_jax.evaluation.formatting import (
    format_count,
    format_difference,
    format_distance_difference,
    format_duration,
    format_fraction,
    format_interval,
    format_percent,
    format_ratio,
    format_setting,
)
from lmf_jax.evaluation.report import write_report
from tests.helpers.browser import CHROMIUM, WITHOUT_CHROMIUM
from tests.helpers.page import Page

FIGURES = [
    "class_distribution",
    "confusion_matrix",
    "decision_curve",
    "mistakes",
    "per_class_f1",
    "precision_recall",
    "reliability",
    "roc",
    "training_curves",
]
OVERALL_TILES = {
    "Macro F1": "macro_f1",
    "Accuracy": "accuracy",
    "Balanced accuracy": "balanced_accuracy",
    "Macro AUROC": "auroc",
    "MCC": "mcc",
    "Calibration error": "ece",
}


@pytest.fixture(scope="module")
def html(reported_run):
    return (reported_run / "report.html").read_text(encoding="utf-8")


def test_report_and_figures_are_written_into_the_run_folder(reported_run):
    assert sorted(path.stem for path in (reported_run / "figures").iterdir()) == FIGURES


def test_report_can_be_written_again(reported_run, html):
    assert write_report(str(reported_run)) == reported_run / "report.html"
    assert (reported_run / "report.html").read_text(encoding="utf-8") == html


def test_figures_are_embedded_pictures(reported_run, page):
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    prefix = "data:image/png;base64,"
    assert all(image["src"].startswith(prefix) and image["alt"] for image in images)
    embedded = {base64.b64decode(image["src"].removeprefix(prefix)) for image in images}
    files = {path.read_bytes() for path in (reported_run / "figures").glob("*.png")}
    assert embedded == files and len(files) == len(FIGURES)
    assert all(png.startswith(b"\x89PNG") and len(png) > 10_000 for png in files)


def test_report_loads_nothing_from_elsewhere(html, page):
    assert "http://" not in html and "https://" not in html
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "iframe", "a"}
        assert attributes.get("src", "data:").startswith("data:")
    assert not re.search(r"url\(|@import", html)


def test_class_names_stay_text(html, page):
    assert "<b>" not in html
    assert "b" not in {tag for tag, _ in page.elements}
    assert "<b>x & y</b>" in page.text
    assert "cost of $a_b$ in {x}" in page.text


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_no_text_of_a_run_becomes_a_part_of_the_page(write_run, tmp_path):
    evil = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    run_dir = write_run(tmp_path / "run", {"model": evil, "loss": evil, "run_dir": evil, evil: 1})
    for name in ("config.json", "test.json"):
        path = run_dir / name
        path.write_text(path.read_text().replace("class 9", evil.replace('"', '\\"')))
    record = json.loads((run_dir / "config.json").read_text())
    record["dataset"] |= {"name": evil, "fingerprint": evil, "split_notes": [evil]}
    record |= {"git_commit": evil, "versions": {evil: evil}}
    record["device"] |= {"kind": evil, "platform": evil}
    (run_dir / "config.json").write_text(json.dumps(record))
    with np.load(run_dir / "predictions.npz") as file:
        arrays = dict(file)
    arrays["ids"] = np.array([f"{number}{evil}" for number in range(len(arrays["ids"]))])
    np.savez(run_dir / "predictions.npz", **arrays)
    page = Page(write_report(run_dir).read_text())
    assert page.text.count(evil) >= 10
    assert not {tag for tag, _ in page.elements} & {"script", "b"}
    assert not any("onerror" in attributes for _, attributes in page.elements)


@pytest.mark.usefixtures("without_pictures")
def test_a_report_is_written_into_the_folder_and_nowhere_else(run_dir, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_text("precious")
    (run_dir / "figures").mkdir()
    for name in ("report.tmp.html", "report.html", "figures/reliability.png", "mistakes.tmp.npz"):
        (run_dir / name).symlink_to(elsewhere / "precious")
    write_report(run_dir)
    write_mistakes(run_dir, read_mistakes(run_dir, 1668))
    assert (elsewhere / "precious").read_text() == "precious"
    shutil.rmtree(run_dir / "figures")
    (run_dir / "figures").symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"figures is not a folder; remove it"):
        write_report(run_dir)
    assert [path.name for path in elsewhere.iterdir()] == ["precious"]


def test_result_comes_first(reported_run, page):
    test = read_run(reported_run).test
    first_screen = page.text.split("Classes", 1)[0]
    for expected in (
        "made-up",
        "resnet50",
        "lmf",
        *(
            f"{title} {test[name]:.3f} {test['intervals'][name][0]:.3f} to "
            f"{test['intervals'][name][1]:.3f}"
            for title, name in OVERALL_TILES.items()
        ),
        "1,432 test images of 10 classes",
        "250 times the size of the rarest",
    ):
        assert expected in first_screen


def test_every_class_has_its_metrics_and_counts(reported_run, page):
    run = read_run(reported_run)
    for name, train_count in zip(
        run.dataset["class_names"], run.dataset["class_counts"]["train"], strict=True
    ):
        metrics = run.test["per_class"][name]
        intervals = run.test["intervals"]["per_class"][name]
        figures = [
            f"{metrics[metric]:.3f} {intervals[metric][0]:.3f} to {intervals[metric][1]:.3f}"
            for metric in ("precision", "recall", "f1", "auroc", "average_precision")
        ]
        row = " ".join([name, *figures, f"{metrics['support']:,}", f"{train_count:,}"])
        assert row in page.text


def test_provenance_and_settings_are_all_there(page):
    for expected in (
        "learning_rate 0.0001",
        f"pretrained /weights/resnet50.npz pretrained SHA-256 {'89ab' * 16}",
        "resume no",
        "scale none",
        "Dataset fingerprint sha256:0123abcd",
        "Git commit not in a git checkout",
        "Device 8 \N{MULTIPLICATION SIGN} TPU v5e (tpu)",
        "Processes 2",
        "Time in training steps 1 h 10 min",
        "Speed 10 images/s",
        "jax 0.10.2",
        "Best validation macro F1 0.840 in epoch 4 of 6",
    ):
        assert expected in page.text


@pytest.mark.skipif(CHROMIUM is None, reason=WITHOUT_CHROMIUM)
@pytest.mark.parametrize("width", [390, 1200], ids=["phone", "screen"])
def test_a_browser_shows_all_parts(reported_run, tmp_path, width):
    picture = tmp_path / "report.png"
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}/profile", f"--window-size={width},2000"]
    command += [f"--screenshot={picture}", f"file://{reported_run / 'report.html'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    shown = Page(re.sub("^<!doctype.*?>", "", done.stdout, flags=re.IGNORECASE))
    headings = re.findall("<h2>(.*?)</h2>", done.stdout)
    expected = ["Classes", "Curves", "Calibration", "Most confident mistakes", "Training"]
    assert headings == [*expected, "Configuration", "Provenance"]
    assert len([tag for tag, _ in shown.elements if tag == "img"]) == len(FIGURES)
    with Image.open(picture) as image:
        assert image.width == width
        assert len(np.unique(np.asarray(image.convert("L")))) > 100, "text, bars and figures"


@pytest.mark.usefixtures("without_pictures")
def test_a_run_without_mistakes_has_no_such_section(run_dir):
    (run_dir / "mistakes.npz").unlink()
    assert "Most confident mistakes" not in Page(write_report(run_dir).read_text()).text


def predict(run_dir, predictions):
    """Replace the predictions of the run, with the true classes [0, 0, 1, 2, ..., 8]."""
    labels = np.array([0, 0, *range(1, 9)])
    (run_dir / "mistakes.npz").unlink()  # Mistakes of the old predictions.
    path = run_dir / "predictions.npz"
    np.savez(path, ids=labels.astype(str), labels=labels, logits=np.eye(10)[predictions])
    test = json.loads((run_dir / "test.json").read_text())
    for class_id, metrics in enumerate(test["per_class"].values()):
        metrics["support"] = int((labels == class_id).sum())
    (run_dir / "test.json").write_text(json.dumps(test))


def report_of(run_dir, predictions):
    """Return the text of the report on these predictions."""
    predict(run_dir, predictions)
    return Page(write_report(run_dir).read_text()).text


@pytest.mark.usefixtures("without_pictures")
def test_largest_errors_are_ranked_by_their_fraction_of_the_true_class(run_dir):
    text = report_of(run_dir, [1, 0, 1, 2, 3, 5, 5, 6, 7, 8])
    assert "true class: class 4 taken for class 5 (1 of 1); Melanocytic nevi taken for" in text
    assert "(1 of 2)." in text


@pytest.mark.usefixtures("without_pictures")
def test_perfect_tests_and_absent_classes_are_mentioned(run_dir):
    text = report_of(run_dir, [0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert "Every test image was classified correctly." in text
    assert "No test images of class 9: n/a, counted as 0 in macro precision" in text
    assert "class 9 n/a " in text


@pytest.mark.usefixtures("without_pictures")
def test_notes_of_the_split_are_shown(run_dir):
    record = json.loads((run_dir / "config.json").read_text())
    note = "No image of the class df is in the validation part: 2 patients or lesions have it."
    record["dataset"]["split_notes"] = [note]
    (run_dir / "config.json").write_text(json.dumps(record))
    assert note in Page(write_report(run_dir).read_text()).text
    for wrong in (note, [3], ["two\nlines"]):
        record["dataset"]["split_notes"] = wrong
        (run_dir / "config.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match=r"config\.json is broken: its split_notes are"):
            write_report(run_dir)


@pytest.mark.usefixtures("without_pictures")
def test_class_without_training_images_has_no_margins(run_dir):
    record = json.loads((run_dir / "config.json").read_text())
    record["dataset"]["class_counts"]["train"][-1] = 0
    (run_dir / "config.json").write_text(json.dumps(record))
    assert "times the size" not in Page(write_report(run_dir).read_text()).text


def test_report_of_an_incomplete_run_names_the_file(run_dir):
    (run_dir / "test.json").unlink()
    with pytest.raises(UserError, match=r"test\.json is missing"):
        write_report(run_dir)
    assert not (run_dir / "report.html").exists()


PER_CLASS = {
    "Melanocytic nevi": {"precision": 0.99, "recall": 0.985, "f1": 0.9873, "support": 1006},
    "Actinic keratoses and intraepithelial carcinoma (Bowen's disease)": {
        "precision": 0.0,
        "recall": 1.0,
        "f1": 0.0,
        "support": 49,
    },
}
OVERALL = {
    "accuracy": 0.9,
    "balanced_accuracy": 0.91,
    "mcc": -0.12,
    "auroc": 0.95,
    "average_precision": 0.8,
    "ece": 0.05,
    "macro_f1": 0.49365,
}
TEST = {
    **OVERALL,
    "macro_precision": 0.495,
    "macro_recall": 0.9925,
    "per_class": PER_CLASS,
    "intervals": {
        "level": 0.95,
        "resamples": 2000,
        "drawn": "images",
        **{name: [value - 0.04, value + 0.04] for name, value in OVERALL.items()},
    },
}


def test_table_is_aligned_and_fits_80_columns():
    lines = format_test_table(TEST, [12345, 229]).split("\n")
    assert lines[0].split() == ["class", "precision", "recall", "f1", "test", "train"]
    assert " ".join(lines[2].split()) == "Melanocytic nevi 0.990 0.985 0.987 1,006 12,345"
    assert lines[3].startswith("Actinic keratoses and") and "…  " in lines[3]
    assert " ".join(lines[5].split()) == "macro mean 0.495 0.993 0.494 1,055 12,574"
    rows = [line for line in lines[:6] if not line.startswith("-")]
    assert {len(row) for row in rows} == {80}
    assert max(map(len, lines)) == 80


def test_table_shows_the_interval_of_each_overall_metric():
    lines = format_test_table(TEST, [12345, 229]).split("\n")[6:]
    assert lines[1:-1] == [
        "macro F1                 0.494  [0.454, 0.534]",
        "accuracy                 0.900  [0.860, 0.940]",
        "balanced accuracy        0.910  [0.870, 0.950]",
        "MCC                     -0.120  [-0.160, -0.080]",
        "macro AUROC              0.950  [0.910, 0.990]",
        "macro average precision  0.800  [0.760, 0.840]",
        "calibration error (ECE)  0.050  [0.010, 0.090]",
    ]
    of_images = "[ ]: 95 % interval for the choice of test images"
    assert lines[-1] == of_images
    of_groups = TEST | {"intervals": TEST["intervals"] | {"drawn": "groups"}}
    line = format_test_table(of_groups, [12345, 229]).split("\n")[-1]
    assert line == of_images.replace("images", "lesions or patients") and len(line) <= 80


def test_classes_with_few_lesions_are_named():
    units = {"melanoma": 9, "nevus": 10, "scar": 0}
    found = TEST | {"intervals": TEST["intervals"] | {"drawn": "groups", "units": units}}
    text = format_test_table(found, [12345, 229])
    assert max(map(len, text.split("\n"))) <= 80
    assert "fewer than 10 test lesions or patients: melanoma (9). Their scores" in " ".join(
        text.split()
    )
    many = TEST | {"intervals": TEST["intervals"] | {"units": {f"c{i}": i for i in range(1, 10)}}}
    words = " ".join(format_test_table(many, [12345, 229]).split())
    assert "c1 (1), c2 (2), c3 (3), c4 (4), c5 (5), c6 (6) and 3 more" in words


def test_the_table_explains_undefined_metrics():
    intervals = TEST["intervals"] | {"auroc": None}
    table = format_test_table(TEST | {"auroc": None, "intervals": intervals}, [1, 2], "validation")
    assert "macro AUROC                n/a\n" in table
    reason = "All validation images are of one class: AUROC and average precision are n/a."
    assert table.endswith(reason)


def test_class_without_test_images_is_not_scored_in_the_table():
    per_class = dict(zip("ab", PER_CLASS.values(), strict=True))
    per_class["b"] = per_class["b"] | {"support": 0, "recall": 0.0}
    lines = format_test_table(TEST | {"per_class": per_class}, [1, 2]).split("\n")
    assert lines[3].split() == ["b", "n/a", "n/a", "n/a", "0", "2"]
    assert " ".join(lines[-2:]) == (
        "No test images of b: n/a, counted as 0 in macro precision, recall and F1, and left out of "
        "the other macro means."
    )


def test_table_of_short_names_is_narrow():
    per_class = dict(zip("ab", PER_CLASS.values(), strict=True))
    table = format_test_table(TEST | {"per_class": per_class}, [1, 2])
    assert max(map(len, table.split("\n")[:6])) < 60


def test_name_cannot_break_the_table():
    per_class = dict(zip(["a\nb", "c"], PER_CLASS.values(), strict=True))
    lines = format_test_table(TEST | {"per_class": per_class}, [1, 2]).split("\n")
    assert len(lines) == 15 and lines[2].startswith("a b ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (format_fraction(0.8734), "0.873"),
        (format_fraction(1), "1.000"),
        (format_fraction(-0.0004), "0.000"),
        (format_difference(-0.0004), "+0.000"),
        (format_difference(-0.0006), "-0.001"),
        (format_distance_difference(-0.04), "+0.0"),
        (format_interval([0.8734, 0.9]), "[0.873, 0.900]"),
        (format_count(10015), "10,015"),
        (format_percent(0.0823), "8.2"),
        (format_percent(0.9987), "99.87"),
        (format_percent(1), "100"),
        (format_ratio(12.345), "12.3"),
        (format_ratio(12345.6), "12,346"),
        (format_duration(59.4), "59 s"),
        (format_duration(60), "1 min 0 s"),
        (format_duration(3599.6), "1 h 0 min"),
        (format_duration(4210), "1 h 10 min"),
        (format_setting(None), "none"),
        (format_setting(True), "yes"),
        (format_setting(1e-4), "0.0001"),
        (format_setting(0.9999), "0.9999"),
        (format_setting(["a", 2]), "a, 2"),
    ],
)
def test_numbers_are_formatted(text, expected):
    assert text == expected


def test_matplotlib_and_jinja2_load_only_for_a_report():
    code = (
        "import sys, lmf_jax.evaluation;"
        "print(sorted({'matplotlib', 'jinja2', 'flax', 'data'} & set(sys.modules)))"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("without_pictures")
def test_the_report_shows_calibration_before_and_after(calibrated_dir):
    text = " ".join(Page(write_report(calibrated_dir).read_text()).text.split())
    run = read_run(calibrated_dir)
    before, after = run.calibration["metrics"]["none"], run.calibration["metrics"]["temperature"]
    for metrics in (before, after):
        assert f"{metrics['brier']:.3f} {metrics['log_loss']:.3f}" in text
        assert f"{metrics['ece']:.3f}" in text
    assert f"temperature scaling, T = {run.calibrator.temperature:.3f} (used)" in text
    assert "As risks, the probabilities hold for images like these" in text
    assert "Do not read" not in text and "are not calibrated" not in text
    assert f"Calibration error {after['ece']:.3f}" in text


@pytest.mark.parametrize("method", ["none", "temperature"])
@pytest.mark.usefixtures("without_pictures")
def test_the_report_warns_of_a_calibration_error_that_remains(calibrated_dir, method):
    path = calibrated_dir / "calibration.json"
    changed = json.loads(path.read_text())
    changed["method"] = method
    changed["metrics"]["temperature"].update(ece=0.08, ece_interval=[0.05, 0.11])
    path.write_text(json.dumps(changed))
    text = " ".join(Page(write_report(calibrated_dir).read_text()).text.split())
    expected = {
        "none": "Do not read the probabilities as risks: they differ",
        "temperature": "Do not read the probabilities as risks: even after calibration, they "
        "differ from the accuracy on the test part by 0.080 in the mean (0.050 to 0.110)",
    }
    assert expected[method] in text and "As risks, the" not in text


@pytest.mark.usefixtures("without_pictures")
def test_the_report_of_a_run_without_calibration_says_so(run_dir):
    text = " ".join(Page(write_report(run_dir).read_text()).text.split())
    assert "The probabilities of this run are not calibrated: do not read them as risks" in text
    assert "Brier score" not in text


@pytest.mark.usefixtures("without_pictures")
def test_a_feature_map_of_one_cell_locates_nothing(run_dir):
    mistakes = read_mistakes(run_dir, 1668)
    one_cell = np.ones((len(mistakes.indices), 1, 1), np.float32)
    write_mistakes(run_dir, Mistakes(mistakes.indices, mistakes.images, one_cell, one_cell))
    text = Page(write_report(run_dir).read_text()).text
    assert "Grad-CAM cannot locate a region" in text and "4 by 4 cells" not in text


def test_the_size_of_the_feature_map_is_shown(page):
    assert "4 by 4 cells" in page.text
