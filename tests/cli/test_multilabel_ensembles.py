"""Ensembles, views, external tests and operating points of multi-label runs, by the commands."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.formats.images import decode_image
from lmf_jax.cli.members import load_ensemble
from lmf_jax.cli.tasks import TASKS
from lmf_jax.config import ImageSpec
from lmf_jax.errors import UserError
from lmf_jax.evaluation.multilabel.external import read_external
from lmf_jax.evaluation.multilabel.metrics import label_f1
from lmf_jax.evaluation.multilabel.run import read_run
from lmf_jax.evaluation.multilabel.scores import score_labels, sigmoid
from lmf_jax.inference import image_model
from lmf_jax.training import classification
from tests.helpers.labeled_images import NUM_IMAGES, draw_labeled_images, vector_of
from tests.helpers.tiny_commands import run_lmf_jax, train
from tests.helpers.tiny_training import tiny_model, tiny_models

pytestmark = pytest.mark.slow  # trains many models, by whole commands

NAMES = ["red", "rare"]
TASK = TASKS["multilabel"]

tiny = tiny_models(tiny_model, classification, image_model)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs that differ in the seed alone."""
    root = tmp_path_factory.mktemp("ensembles")
    manifest = draw_labeled_images(root / "listed")
    common = ("--task", "multilabel", "--dataset", f"manifest:{manifest}", "--split", "grouped")
    with pytest.MonkeyPatch.context() as patch:
        for seed, name in enumerate(("first", "second")):
            words = ("--data-dir", root / "data", "--run-dir", root / name, "--seed", seed)
            train(patch, *common, *words, "--epochs", "1", "--batch-size", "16")
    return root


def probabilities_of(root, names, tta, images):
    return load_ensemble(TASK, [root / name for name in names], tta).probabilities(images)


def test_the_probabilities_are_the_mean_over_models_and_views(root) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    mirrored = np.ascontiguousarray(images[:, :, ::-1])
    alone = [
        probabilities_of(root, [name], "none", x)
        for name in ("first", "second")
        for x in (images, mirrored)
    ]
    together = probabilities_of(root, ["first", "second"], "flip", images)
    np.testing.assert_allclose(together, np.mean(alone, axis=0), rtol=1e-6)


def test_an_ensemble_is_evaluated_and_compared_with_its_models(root, monkeypatch, capsys) -> None:
    before = (root / "first" / "test.json").read_bytes()
    words = ("--ensemble", root / "second", "--tta", "dihedral")
    assert run_lmf_jax(monkeypatch, "evaluate", root / "first", *words) == 0
    printed = capsys.readouterr().out
    assert "mean of 2 models and 8 views of each image: 16 predictions an image" in printed
    assert re.search(r"mAP of the models +\d\.\d{3}, \d\.\d{3}; mean \d\.\d{3}", printed)
    assert "ensemble less this mean" in printed and "macro AUROC" in printed
    assert (root / "first" / "test.json").read_bytes() == before


def test_one_view_of_one_model_gives_the_test_of_the_run(root) -> None:
    model = load_ensemble(TASK, [root / "first"], "none")
    found = TASK.summarize(model, TASK.inputs_of_run(model), "test")
    test = json.loads((root / "first" / "test.json").read_text())
    assert found["mean_average_precision"] == pytest.approx(test["mean_average_precision"])
    assert found["macro_f1"] == pytest.approx(test["macro_f1"])
    assert "members" not in found


def test_predict_decides_by_the_mean_probabilities_and_thresholds(
    root, monkeypatch, capsys, tmp_path
) -> None:
    words = (root / "listed" / "01.png", "--ensemble", root / "second", "--tta", "flip")
    output = tmp_path / "out.csv"
    assert run_lmf_jax(monkeypatch, "predict", root / "first", *words, "--output", output) == 0
    printed = capsys.readouterr().out
    assert "calibration: that of each run, before averaging" in printed
    assert "4 predictions an image" in printed
    with output.open(newline="") as file:
        row = next(csv.DictReader(file))
    image = decode_image(Path(row["path"]).read_bytes(), ImageSpec(32, 32))
    expected = probabilities_of(root, ["first", "second"], "flip", np.stack([image] * 4))[0]
    found = [float(row[f"p({name})"]) for name in NAMES]
    np.testing.assert_allclose(found, expected, atol=2e-5)
    texts = [(root / run / "thresholds.json").read_text() for run in ("first", "second")]
    thresholds = [json.loads(text)["thresholds"] for text in texts]
    means = [np.mean([of_run[name] for of_run in thresholds]) for name in NAMES]
    above = [name for name, p, low in zip(NAMES, expected, means, strict=True) if p >= low]
    assert row["labels"] == "|".join(above)


def test_explain_averages_the_maps_of_models_and_views(root, monkeypatch, tmp_path) -> None:
    words = ("--ensemble", root / "second", "--tta", "flip", "--output", tmp_path / "maps")
    images = root / "listed" / "01.png"
    assert run_lmf_jax(monkeypatch, "explain", root / "first", images, *words) == 0
    drawn = sorted(path.name for path in (tmp_path / "maps").iterdir())
    assert drawn and set(drawn) <= {"01-red.png", "01-rare.png"}
    with Image.open(tmp_path / "maps" / drawn[0]) as picture:
        assert picture.size == (32, 32)
    pixels = np.asarray(Image.open(images).convert("RGB"))[None]
    ensemble = load_ensemble(TASK, [root / "first", root / "second"], "flip")
    heat = ensemble.heat(pixels, np.zeros(1, np.int32))
    mirrored = ensemble.heat(np.ascontiguousarray(pixels[:, :, ::-1]), np.zeros(1, np.int32))
    np.testing.assert_allclose(heat, mirrored[:, :, ::-1], atol=1e-4)


def test_a_run_that_was_not_tested_is_evaluated_with_thresholds_of_one_half(
    root, tmp_path, monkeypatch, capsys
) -> None:
    run = Path(shutil.copytree(root / "first", tmp_path / "run"))
    for name in ("thresholds.json", "calibration.json"):
        (run / name).unlink()
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--part", "validation") == 0
    assert "0.500" in capsys.readouterr().out


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other images, whose label rare has another name, and with one label more."""
    manifest = draw_labeled_images(tmp_path_factory.mktemp("elsewhere"), seed=7)
    header, *lines = manifest.read_text().splitlines()
    lines = [f"{line},{number % 2}" for number, line in enumerate(lines)]
    header = header.replace("label:rare", "label:uncommon") + ",label:other"
    manifest.write_text("\n".join([header, *lines]) + "\n")
    return manifest


@pytest.fixture(scope="module")
def tested(root: Path, elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the first run that was tested on the other images."""
    run = Path(shutil.copytree(root / "first", tmp_path_factory.mktemp("tested") / "first"))
    words = ("--dataset", f"manifest:{elsewhere}", "--map", "uncommon=rare,other=")
    with pytest.MonkeyPatch.context() as patch:
        assert run_lmf_jax(patch, "evaluate", run, *words, "--subgroups", "sex") == 0
    return run


def test_a_test_on_another_dataset_is_stored_with_the_change_of_every_label(tested: Path) -> None:
    (external,) = read_external(tested, NAMES)
    folder = tested / "external" / external.name
    with np.load(folder / "predictions.npz") as file:
        labels, logits = file["labels"], file["logits"]
    assert labels.tolist() == [vector_of(number) for number in range(NUM_IMAGES)]
    scores = score_labels(labels, logits)
    assert external.test["mean_auroc"] == pytest.approx(scores.mean_auroc)
    thresholds = json.loads((tested / "thresholds.json").read_text())["thresholds"]
    predicted = sigmoid(logits) >= np.array([thresholds[name] for name in NAMES])
    assert external.test["macro_f1"] == pytest.approx(label_f1(labels, predicted).macro)
    own = read_run(tested)
    own_scores = score_labels(own.labels, own.logits)
    transfer = external.record["transfer"]
    for index, name in enumerate(NAMES):
        row = transfer["per_label"][name]
        assert row["auroc"]["own"] == pytest.approx(own_scores.auroc[index])
        assert row["auroc"]["other"] == pytest.approx(scores.auroc[index])
        assert row["auroc"]["low"] <= row["auroc"]["difference"] <= row["auroc"]["high"]
        known = labels[:, index] != -1
        assert row["other_prevalence"] == pytest.approx((labels[known, index] == 1).mean())
    assert external.record["leakage"]["images"] == 0


def test_the_report_and_the_table_show_the_other_dataset(
    tested, elsewhere, tmp_path, monkeypatch, capsys
) -> None:
    page = (tested / "report.html").read_text()
    assert "<h2>Test on manifest" in page and "AUROC, own test" in page
    assert ">nan" not in page and ">None" not in page
    run = Path(shutil.copytree(tested, tmp_path / "first"))
    words = ("--dataset", f"manifest:{elsewhere}", "--map", "uncommon=red,other=")
    assert run_lmf_jax(monkeypatch, "evaluate", run, *words, "--where", "sex=female") == 0
    printed = capsys.readouterr().out
    assert "change of AUROC" in printed and "n/a" in printed  # the label rare is missing here
    both = read_external(run, NAMES)
    assert [external.record["where"] for external in both] == [None, "sex=female"]
    assert both[1].record["transfer"]["per_label"]["rare"]["auroc"] is None
    with np.load(run / "external" / both[1].name / "predictions.npz") as file:
        found = {str(name): row for name, row in zip(file["ids"], file["labels"], strict=True)}
    assert found["00.png"].tolist() == [1, -1]  # red is missing, and uncommon is 1
    assert found["01.png"].tolist() == [1, -1]
    assert found["12.png"].tolist() == [0, -1]


def test_images_that_were_trained_on_are_left_out(root, tested, tmp_path, monkeypatch, capsys):
    run = Path(shutil.copytree(tested, tmp_path / "first"))
    words = ("--dataset", f"manifest:{root / 'listed' / 'list.csv'}", "--ensemble", root / "second")
    assert run_lmf_jax(monkeypatch, "evaluate", run, *words) == 0
    printed = capsys.readouterr().out
    assert "were seen in training and are left out" in printed and "mAP of the models" in printed
    (own,) = (external for external in read_external(run, NAMES) if "mean-of-2" in external.name)
    assert own.record["images"] == len(read_run(run).ids)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "The run has no label uncommon, other; its labels are red, rare. Give --map uncommo"),
        (("--map", "uncommon=,other="), None),
        (
            ("--map", "nothing=red"),
            "which manifest_multilabel:.* does not have; its labels are",
        ),
        (("--map", "red=,uncommon=,other="), "has a known label of the run; map at least one lab"),
    ],
)
def test_labels_that_do_not_fit_are_named(words, message, root, elsewhere, tmp_path) -> None:
    from data.inputs.external import parse_class_map

    label_map = parse_class_map(words[1] if words else "")
    model = load_ensemble(TASK, [root / "first"], "none")
    if message is None:
        inputs = TASK.open_external(model, f"manifest:{elsewhere}", label_map, str(tmp_path))
        assert (inputs.dataset.labels[:, 1] == -1).all()
        assert len(inputs.dataset.rows["test"]) == NUM_IMAGES - 9  # those with a known red
    else:
        with pytest.raises(UserError, match=message):
            TASK.open_external(model, f"manifest:{elsewhere}", label_map, str(tmp_path))


def test_subgroups_are_written_shown_and_printed(root, tmp_path, monkeypatch, capsys) -> None:
    run = Path(shutil.copytree(root / "first", tmp_path / "run"))
    before = (run / "subgroups.json").read_text()
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--subgroups", "sex") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "mean fraction of correct labels minus that of all other known values" in printed
    assert (run / "subgroups.json").read_text() == before
    content, of_run = json.loads(before), read_run(run)
    sexes = np.array([("female", "male", "")[int(name[:2]) // 2 % 3] for name in of_run.ids])
    rows = {row["value"]: row for row in content["columns"]["sex"]["subgroups"]}
    known = of_run.labels != -1
    predicted = of_run.calibrator.probabilities(of_run.logits) >= of_run.thresholds
    shares = (known & (predicted == (of_run.labels == 1))).sum(1) / known.sum(1)
    mean = {sex: shares[sexes == sex].mean() for sex in ("female", "male")}
    assert rows["female"]["images"] == (sexes == "female").sum()
    assert rows["female"]["difference"] == pytest.approx(mean["female"] - mean["male"])
    scores = score_labels(of_run.labels[sexes == "male"], of_run.logits[sexes == "male"])
    expected = None if np.isnan(scores.mean_auroc) else pytest.approx(float(scores.mean_auroc))
    assert rows["male"]["mean_auroc"] == expected
    assert "<h2>Subgroups</h2>" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("calibration"), "lacks calibration"),
        (lambda r: r["transfer"]["per_label"].pop("rare"), "its labels are not those of config"),
        (lambda r: r["transfer"]["mean_auroc"].update(low=9), "a change in it is impossible"),
        (
            lambda r: r["transfer"]["per_label"]["red"].update(own_prevalence=2),
            "a prevalence in it is not a fraction",
        ),
    ],
)
def test_a_broken_record_of_an_external_test_is_named(change, message, tested, tmp_path) -> None:
    run = Path(shutil.copytree(tested, tmp_path / "run"))
    (path,) = run.glob("external/*/external.json")
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(UserError, match=message):
        read_external(run, NAMES)


@pytest.fixture(scope="module")
def operated(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the first run with an operating point of the label red."""
    run = Path(shutil.copytree(root / "first", tmp_path_factory.mktemp("operated") / "first"))
    words = ("--class", "red", "--sensitivity", "0.9", "--prevalence", "0.02", "--name", "screen")
    with pytest.MonkeyPatch.context() as patch:
        assert run_lmf_jax(patch, "operate", run, *words) == 0
    return run


def point_of(run: Path) -> dict:
    return json.loads((run / "operating_points.json").read_text())["points"]["screen"]


def test_an_operating_point_of_a_label_leaves_out_images_where_it_is_missing(operated) -> None:
    run, point = read_run(operated), point_of(operated)
    for part, found in (("test", run), ("validation", run.validation)):
        known = found.labels[:, 0] != -1
        is_red = found.labels[known, 0] == 1
        is_called = run.calibrator.probabilities(found.logits)[known, 0] >= point["threshold"]
        counts = point[part]
        assert counts["true_positives"] == (is_red & is_called).sum()
        assert counts["false_positives"] == (~is_red & is_called).sum()
        assert (
            sum(counts[key] for key in counts if key != "class_units") == known.sum() < len(known)
        )
    assert point["drawn"] == "groups"
    assert point["estimate"] >= 0.9
    assert "<h2>Operating points</h2>" in (operated / "report.html").read_text()


def test_predict_decides_with_an_operating_point(
    root, operated, monkeypatch, tmp_path, capsys
) -> None:
    output = tmp_path / "out.csv"
    words = ("predict", operated, root / "listed", "--output", output)
    assert run_lmf_jax(monkeypatch, *words, "--operating-point", "screen") == 0
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    threshold = point_of(operated)["threshold"]
    assert len(rows) == NUM_IMAGES
    for row in rows:
        if abs(float(row["p(red)"]) - threshold) > 1e-6:
            is_positive = float(row["p(red)"]) >= threshold
            assert row["screen"] == ("positive" if is_positive else "negative")
    capsys.readouterr()
    words = (*words, "--overwrite", "--operating-point")
    assert run_lmf_jax(monkeypatch, *words, "screen", "--tta", "flip") == 2
    assert "chosen for the probabilities of one run" in capsys.readouterr().err
    assert run_lmf_jax(monkeypatch, *words, "other") == 2
    assert "has no operating point other; it has screen" in capsys.readouterr().err


def test_an_operating_point_of_another_calibration_is_outdated(
    operated, tmp_path, monkeypatch, capsys
) -> None:
    run = Path(shutil.copytree(operated, tmp_path / "run"))
    assert run_lmf_jax(monkeypatch, "evaluate", run, "--calibration", "none") == 0
    assert "screen: made with another calibrator" in (run / "report.html").read_text()
    words = ("--class", "nothing", "--sensitivity", "0.9")
    assert run_lmf_jax(monkeypatch, "operate", run, *words) == 2
    assert "has no class nothing; expected one of red, rare" in capsys.readouterr().err


def test_a_run_with_metadata_is_tested_where_a_column_is_missing(
    root, elsewhere, tmp_path, monkeypatch, capsys
) -> None:
    words = ("--task", "multilabel", "--dataset", f"manifest:{root / 'listed' / 'list.csv'}")
    words += ("--split", "grouped", "--data-dir", root / "data", "--run-dir", tmp_path / "run")
    words += ("--metadata", "sex", "--epochs", "1", "--batch-size", "16")
    train(monkeypatch, *words)
    other = tmp_path / "own" / "list.csv"
    shutil.copytree(elsewhere.parent, other.parent)
    lines = [line.split(",") for line in elsewhere.read_text().splitlines()]
    column = lines[0].index("sex")
    other.write_text("\n".join(",".join(x[:column] + x[column + 1 :]) for x in lines) + "\n")
    words = ("--dataset", f"manifest:{other}", "--map", "uncommon=rare,other=")
    capsys.readouterr()
    assert run_lmf_jax(monkeypatch, "evaluate", tmp_path / "run", *words) == 0
    assert "metadata unknown, of 60 images: sex of 60" in capsys.readouterr().out
    (external,) = read_external(tmp_path / "run", NAMES)
    assert external.record["images"] == NUM_IMAGES
