"""Runs of every kind that documents are made from."""

import json

import numpy as np
import pytest

from lmf_jax.evaluation.classification.external import write_external
from lmf_jax.evaluation.classification.folds import join_folds
from lmf_jax.evaluation.classification.run import class_parts, read_run
from lmf_jax.evaluation.classification.subgroups import summarize_test_subgroups
from lmf_jax.evaluation.conformal.file import write_sets
from lmf_jax.evaluation.conformal.summary import Part, summarize_sets
from lmf_jax.evaluation.operating.file import write_point
from lmf_jax.evaluation.operating.point import operating_point
from lmf_jax.evaluation.operating.thresholds import Target
from lmf_jax.evaluation.predictions import Predictions
from lmf_jax.evaluation.segmentation.external import write_comparison
from lmf_jax.evaluation.segmentation.run import CaseResults
from lmf_jax.evaluation.segmentation.run import read_run as read_masks
from lmf_jax.evaluation.segmentation.run import write_test as write_masks_test
from lmf_jax.evaluation.subgroup_results import write_subgroups
from lmf_jax.runs.folds import joint_dataset
from tests.helpers.degenerate import ClassifierTest, write_classifier_run
from tests.helpers.degenerate_segmentation import SegmenterTest, squares, write_segmenter_run

HOSTILE = ("<script>alert(1)</script>", "a|b `c` **d** [e](http://f.org)", "_g_ \\ $h$ & ~~i~~")
"""Names of classes that mean something in Markdown and HTML."""


def _noise(n: int, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, classes)).astype(np.float32)


def _classifier(**more) -> ClassifierTest:
    labels = np.repeat([0, 1, 2], [27, 4, 14])
    return ClassifierTest(labels, _noise(45), train=(400, 30, 90), **more)


def _describe_volumes(run_dir) -> None:
    """Add what a dataset of volumes says of them."""
    path = run_dir / "config.json"
    record = json.loads(path.read_text())
    record["dataset"] |= {"modalities": ["T1", "T2"], "spacing": [2.0, 1.0, 1.0]}
    path.write_text(json.dumps(record))


def _test_elsewhere(run_dir) -> None:
    """Test a run on another dataset."""
    run = read_run(run_dir)
    other = Predictions(
        ids=np.array([f"other {number}" for number in range(12)]),
        labels=np.repeat([0, 1, 2], 4),
        logits=_noise(12),
    )
    leakage = {"checked": True, "images": 3}
    described = {"dataset": "folder:other", "where": "sex=male", "leakage": leakage}
    write_external(run_dir / "external" / "other", run, other, described)


def _test_masks_elsewhere(run_dir) -> None:
    """Test a segmentation run on another dataset: its own cases under other names."""
    run = read_masks(run_dir)
    folder = run_dir / "external" / "other"
    folder.mkdir(parents=True)
    ids = np.array([f"other {number}" for number in range(len(run.ids))])
    names = run.dataset["class_names"]
    test = write_masks_test(folder, ids, run.counts, run.hd95, names, unit="pixels")
    tested = CaseResults(ids=ids, counts=run.counts, hd95=run.hd95)
    leakage = {"checked": False, "images": 0, "reason": "the dataset of the run is missing"}
    described = {"dataset": "pairs:other", "where": None, "leakage": leakage}
    write_comparison(folder, run, tested, test, described)


def _make_sets(run_dir) -> None:
    """Write prediction sets of a run, whose second class has too few units for a promise."""
    run = read_run(run_dir)
    parts = (
        Part(part.labels, run.calibrator.probabilities(part.logits), part.groups)
        for part in (run.validation, run)
    )
    sets = summarize_sets(*parts, run.dataset["class_names"], level=0.8)
    write_sets(run_dir, sets, run.calibrator)


def _make_points(run_dir) -> None:
    """Write an operating point of each kind: with a guarantee, without, and of a ratio of costs."""
    run = read_run(run_dir)
    names = run.dataset["class_names"]
    for class_id, target in enumerate(
        (Target("sensitivity", 0.6), Target("ppv", 0.9), Target("cost_ratio", 5.0))
    ):
        validation, test = class_parts(run, class_id)
        point = operating_point(names[class_id], target, validation, test, prevalence=0.02)
        write_point(run_dir, f"{target.kind} {target.value}", point, names, run.calibrator)


def _make_subgroups(run_dir) -> None:
    """Write the subgroups of a run by two columns of metadata, and one with too many values."""
    run = read_run(run_dir)
    n = len(run.labels)
    metadata = {
        "sex": np.resize(["female", "male", "male", ""], n),
        "age": np.resize([str(age) for age in range(20, 90, 3)], n),
        "date": np.array([f"day {number}" for number in range(n)]),
    }
    write_subgroups(run_dir, summarize_test_subgroups(run.labels, run.logits, metadata, run.groups))


def _cross_validate(run_dir, groups) -> None:
    """Write a cross-validation of two folds."""
    records = []
    for number in (1, 2):
        folder = run_dir / f"fold-{number}"
        write_classifier_run(folder, _classifier(groups=np.char.add(f"{number} ", groups)))
        records.append(json.loads((folder / "config.json").read_text()))
        records[-1]["config"] |= {"folds": 2, "fold": number, "split": "grouped"}
        (folder / "config.json").write_text(json.dumps(records[-1]))
    whole = {**records[0], "dataset": joint_dataset([record["dataset"] for record in records])}
    whole["config"] = whole["config"] | {"fold": None}
    (run_dir / "config.json").write_text(json.dumps(whole))
    join_folds(run_dir)


@pytest.fixture(scope="package")
def runs(tmp_path_factory):
    """Return the folder of each run by its name."""
    root = tmp_path_factory.mktemp("runs")
    lesions = np.array([f"lesion {number // 2}" for number in range(45)])
    write_classifier_run(root / "lesions", _classifier(groups=lesions))
    write_classifier_run(root / "hostile", _classifier(names=HOSTILE), loss="ce")
    absent = ClassifierTest(np.repeat([0, 1], [31, 14]), _noise(45), train=(400, 20, 0))
    write_classifier_run(root / "absent class", absent, loss="focal")
    patients = np.array([f"patient {number // 2}" for number in range(8)])
    masks = SegmenterTest(squares(8), squares(8, shift=2), groups=patients)
    write_segmenter_run(root / "masks", masks)
    volumes = SegmenterTest(squares(2, volume=True), squares(2, shift=1, volume=True))
    write_segmenter_run(root / "volumes", volumes, loss="lmf")
    _test_masks_elsewhere(root / "masks")
    _describe_volumes(root / "volumes")
    _test_elsewhere(root / "lesions")
    _make_sets(root / "lesions")
    _make_points(root / "lesions")
    _make_subgroups(root / "lesions")
    _cross_validate(root / "folds", lesions)
    return {folder.name: folder for folder in sorted(root.iterdir())}
