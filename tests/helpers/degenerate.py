"""Runs whose tests are degenerate, written by the functions that train.py calls.

A model is replaced by its answers; all else, from the logits to the report, is the program's.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lmf_jax.config import Config
from lmf_jax.evaluation.calibration import fit_calibrator
from lmf_jax.evaluation.classification.report import format_test_table
from lmf_jax.evaluation.classification.run import (
    write_test,
    write_test_calibration,
)
from lmf_jax.evaluation.predictions import Predictions, write_validation
from lmf_jax.evaluation.report import write_report
from lmf_jax.inference.classifier import TrainedClassifier, explain_mistakes
from lmf_jax.models.normalization import NORMALIZATIONS
from lmf_jax.runs.atomic_files import write_json_lines
from lmf_jax.runs.folder import open_run
from tests.helpers.page import Page
from tests.helpers.tiny_training import tiny_model

SIDE = 16
NONSENSE = re.compile(r"[-\N{MINUS SIGN}]0(?:\.0+)?(?![.\d])|\b(?i:nan|inf|infinity)\b|\bNone\b")
"""Texts that no report, figure or terminal may show, such as a negative zero."""

LONG_NAMES = (
    "Actinic keratoses and intraepithelial carcinoma (Bowen's disease), also of the lower lip",
    "Benign_keratosis-like_lesions_without_a_single_space_in_a_name_of_more_than_eighty_letters",
    "x",
)


@dataclass(frozen=True)
class ClassifierTest:
    """Answers of a classifier to a test, and the test.

    Attributes:
        labels: Class ids ``[n]``.
        logits: Scores ``[n, C]``.
        groups: Lesion or patient of each image.
        names: Of the classes; numbered by default.
        train: Training images of each class; 40 by default.
    """

    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    train: tuple[int, ...] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.names or tuple(f"class {number}" for number in range(self.logits.shape[1]))

    @property
    def train_counts(self) -> list[int]:
        return list(self.train or [40] * self.logits.shape[1])


def answers(predictions: Sequence[int], classes: int = 3, score: float = 2.0) -> np.ndarray:
    """Return logits that predict these classes, all with the same probability."""
    return np.float32(score) * np.eye(classes, dtype=np.float32)[np.asarray(predictions)]


def classifier_tests() -> dict[str, ClassifierTest]:
    """Return the degenerate tests by their names.

    Most are of 45 images and three classes, so that they share their compiled functions.
    """
    labels = np.repeat([0, 1, 2], [27, 4, 14])
    pairs = np.array([f"lesion {number // 2}" for number in range(45)])
    constant = np.tile(np.float32([2.0, 0.0, -1.0]), (45, 1))
    no_third = np.repeat([0, 1], [31, 14])
    one_of_third = np.repeat([0, 1, 2], [30, 14, 1])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(45, 3)).astype(np.float32)
    thirty = np.repeat(np.arange(30), 3)
    thirty_logits = answers(thirty, 30) + rng.normal(size=(90, 30)).astype(np.float32)
    return {
        "constant": ClassifierTest(labels, constant, pairs),
        "perfect": ClassifierTest(labels, answers(labels, score=100)),
        "all_wrong": ClassifierTest(labels, answers((labels + 1) % 3, score=100), pairs),
        "absent_class": ClassifierTest(no_third, noise, train=(400, 20, 3)),
        "absent_everywhere": ClassifierTest(no_third, noise, train=(400, 20, 0)),
        "one_image_in_a_class": ClassifierTest(one_of_third, noise),
        "one_group": ClassifierTest(labels, noise, np.full(45, "patient")),
        "long_names": ClassifierTest(labels, noise, names=LONG_NAMES),
        "one_class": ClassifierTest(np.zeros(45, int), noise),
        "one_image": ClassifierTest(np.array([1]), np.float32([[0.5, 0.2, 0.1]])),
        "one_image_right": ClassifierTest(np.array([1]), np.float32([[0, 90, 0]]), np.array([""])),
        "two_classes": ClassifierTest(np.repeat([0, 1], [16, 4]), noise[:20, :2]),
        "thirty_classes": ClassifierTest(thirty, thirty_logits),
    }


class Answering(TrainedClassifier):
    """A trained classifier without a model: of its heat there is none anywhere."""

    def heat(
        self, images: np.ndarray, class_ids: np.ndarray, metadata: np.ndarray | None = None
    ) -> np.ndarray:
        return np.zeros((len(images), 4, 4), np.float32)


def write_classifier_run(folder: Path, test: ClassifierTest, loss: str = "lmf") -> str:
    """Write the run of a test as train.py does, but for its report; return the terminal's table."""
    config = Config.of(loss=loss, run_dir=str(folder), epochs=1).resolve({})
    description = {
        "name": "made-up",
        "fingerprint": "sha256:0123abcd",
        "class_names": list(test.class_names),
        "class_counts": {
            "train": test.train_counts,
            "validation": test.train_counts,
            "test": np.bincount(test.labels, minlength=len(test.class_names)).tolist(),
        },
    }
    run_dir = open_run(config, description)
    score = {"train_loss": 0.7, "val_loss": 0.9, "val_accuracy": 0.5, "val_macro_f1": 0.0}
    write_json_lines(run_dir / "metrics.jsonl", [{"epoch": 1, **score, "learning_rate": 1e-4}])
    write_json_lines(
        run_dir / "timing.jsonl", [{"epoch": 1, "seconds": 0.4, "images_per_second": None}]
    )
    rows = np.arange(len(test.labels))
    ids = np.array([f"{number}.png" for number in rows])
    part = Predictions(ids=ids, labels=test.labels, logits=test.logits, groups=test.groups)
    results = write_test(run_dir, part, test.class_names)
    write_validation(run_dir, part)
    calibrator = fit_calibrator(test.labels, test.logits)
    calibration = write_test_calibration(run_dir, test.class_names, calibrator, part)
    images = np.random.default_rng(0).integers(0, 256, (len(rows), SIDE, SIDE, 3), np.uint8)
    trained = Answering(
        config, description, tiny_model(), {}, NORMALIZATIONS["imagenet"], calibrator=calibrator
    )
    explain_mistakes(run_dir, trained, images, rows, test.labels, test.logits)
    return format_test_table(results, test.train_counts, calibration=calibration)


def runs_written_once(write_run: Callable[[Path, Any], str], tests: Mapping[str, Any]) -> Any:
    """Return a fixture: a function from a test's name to its run folder and the printed text.

    Each run is written once, on first use.
    """

    @pytest.fixture(scope="module")
    def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
        root, printed = tmp_path_factory.mktemp("runs"), {}

        def write(name: str) -> tuple[Path, str]:
            if name not in printed:
                printed[name] = write_run(root / name, tests[name])
            return root / name, printed[name]

        return write

    return runs


def numbers_of(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of test.json with its path, the ends of an interval one by one."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from numbers_of(value, f"{path}/{key}")
    elif isinstance(values, list):
        for value in values:
            yield from numbers_of(value, path)
    else:
        yield path, values


def check_test_file(path: Path, unbounded: Sequence[str] = ()) -> None:
    """Check that every number of test.json is finite and in its range, and each interval sorted.

    Args:
        path: The file.
        unbounded: Metrics without an upper bound.
    """

    def refuse(constant: str) -> None:
        raise AssertionError(f"{path} holds {constant}")

    test = json.loads(path.read_text(), parse_constant=refuse)
    whole = ("support", "resamples", "seed")
    for place, value in numbers_of(test):
        *_, parent, name = place.split("/")
        if value is None or isinstance(value, str) or name in whole or parent == "units":
            continue
        low, high = (-1 if name == "mcc" else 0), (math.inf if name in unbounded else 1)
        assert low <= value <= high, f"{place} is {value}"
        assert value != 0 or math.copysign(1, value) > 0, f"{place} is a negative zero"
    for place, ends in _intervals(test["intervals"]):
        assert ends is None or ends[0] <= ends[1], f"{place} is {ends}"


def _intervals(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _intervals(value, f"{path}/{key}")
        elif isinstance(value, list):
            yield f"{path}/{key}", value


def nulls_of(test: dict[str, Any]) -> set[str]:
    """Return the names of what test.json says to be undefined."""
    return {place.rsplit("/", 1)[-1] for place, value in numbers_of(test) if value is None}


def nonsense_in(text: str) -> list[str]:
    """Return each NaN, infinity, None and negative zero of a text with what stands around it."""
    return [text[max(0, m.start() - 40) : m.end() + 20] for m in NONSENSE.finditer(text)]


def check_report(run_dir: Path, printed: str, drawn: dict[Path, list[str]]) -> str:
    """Write the report and check every text of it; return what a reader sees of the page."""
    path = write_report(run_dir)
    page = Page(path.read_text())
    of_figures = [
        text for place, texts in drawn.items() if run_dir in place.parents for text in texts
    ]
    assert path == run_dir / "report.html" and len(of_figures) > 20
    for text in (printed, page.text, "\n".join(of_figures)):
        assert nonsense_in(text) == []
    assert re.findall(r"[a-z][.,;:][A-Z][a-z]+ ", page.text) == []  # a space is missing
    assert max(map(len, printed.split("\n"))) <= 80
    return page.text
