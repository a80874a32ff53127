"""Folders of finished classification runs with ten classes."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from matplotlib.text import Text

from lmf_jax.evaluation.calibration import fit_calibrator
from lmf_jax.evaluation.classification.mistakes import Mistakes, confident_mistakes, write_mistakes
from lmf_jax.evaluation.classification.run import write_test_calibration
from lmf_jax.evaluation.classification.summary import summarize_test
from lmf_jax.evaluation.predictions import Predictions, write_validation
from lmf_jax.evaluation.report import write_report
from tests.helpers.page import Page


@pytest.fixture(scope="module", autouse=True)
def fast_programs():
    """Enable XLA optimizations: thousands of resamples take longer than compilation."""
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


CLASS_NAMES = [
    "Melanocytic nevi",
    "<b>x & y</b>",
    "cost of $a_b$ in {x}",
    "Actinic keratoses and intraepithelial carcinoma (Bowen's disease)",
    *(f"class {i}" for i in range(4, 10)),
]
CLASS_COUNTS = {
    "train": [5000, 700, 500, 300, 200, 150, 100, 60, 40, 20],
    "validation": [1000, 150, 100, 60, 43, 32, 21, 13, 9, 4],
    "test": [1000, 150, 100, 60, 43, 32, 21, 13, 9, 4],
}
EPOCHS = 6


def make_record() -> dict[str, Any]:
    return {
        "config": {
            "dataset": "made-up",
            "model": "resnet50",
            "loss": "lmf",
            "alpha": 1.0,
            "epochs": EPOCHS,
            "learning_rate": 1e-4,
            "max_margin": 0.5,
            "pretrained": "/weights/resnet50.npz",
            "resume": False,
            "scale": None,
            "seed": 3,
        },
        "dataset": {
            "name": "made-up",
            "fingerprint": "sha256:0123abcd",
            "class_names": CLASS_NAMES,
            "class_counts": CLASS_COUNTS,
        },
        "weights": {"file": "resnet50.npz", "sha256": "89ab" * 16},
        "versions": {"lmf_jax": "0.1.0", "python": "3.11.7", "jax": "0.10.2"},
        "git_commit": None,
        "device": {"platform": "tpu", "kind": "TPU v5e", "count": 8, "process_count": 2},
    }


def make_history() -> list[dict[str, Any]]:
    """Return six epochs; the fourth is the best, and the learning rate drops before it."""
    macro_f1 = [0.31, 0.42, 0.55, 0.84, 0.81, 0.83]
    return [
        {
            "epoch": i + 1,
            "train_loss": 5.0 / (i + 1),
            "val_loss": 6.0 / (i + 1),
            "val_accuracy": 0.5 + 0.05 * i,
            "val_macro_f1": macro_f1[i],
            "learning_rate": 1e-4 if i < 3 else 1e-5,
        }
        for i in range(EPOCHS)
    ]


def make_predictions(noise_seed: int = 0, signal: float = 2) -> dict[str, np.ndarray]:
    """Return predictions of a model whose accuracy grows with the signal."""
    rng = np.random.default_rng(noise_seed)
    labels = np.repeat(np.arange(len(CLASS_NAMES)), CLASS_COUNTS["test"])
    logits = rng.normal(size=(len(labels), len(CLASS_NAMES))).astype(np.float32)
    logits[np.arange(len(labels)), labels] += signal
    return {
        "ids": np.array([f"image_{i}" for i in range(len(labels))]),
        "labels": labels,
        "logits": logits,
    }


@functools.cache
def make_test(**predictions: float) -> dict[str, Any]:
    made = make_predictions(**predictions)
    return summarize_test(made["labels"], made["logits"], CLASS_NAMES)


def make_mistakes(labels: np.ndarray, logits: np.ndarray) -> Mistakes:
    """Return mistakes with noise as images and heat in the middle or at an edge."""
    places = confident_mistakes(labels, logits)
    images = np.random.default_rng(0).integers(0, 256, (len(places), 32, 32, 3), np.uint8)
    heat = np.zeros((2, len(places), 4, 4), np.float32)
    heat[0, :, 1:3, 1:3], heat[1, :, :, 0] = 1, 1
    return Mistakes(places, images, *heat)


def make_validation(seed: int = 7, signal: float = 2) -> Predictions:
    """Return predictions of the validation images, some of which belong to one lesion."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(CLASS_NAMES)), CLASS_COUNTS["validation"])
    logits = rng.normal(size=(len(labels), len(CLASS_NAMES))).astype(np.float32)
    logits[np.arange(len(labels)), labels] += signal
    return Predictions(
        ids=np.array([f"validation_{i}" for i in range(len(labels))]),
        labels=labels,
        logits=logits,
        groups=np.array([f"lesion {i // 2}" if i % 3 else "" for i in range(len(labels))]),
    )


def write_calibrated_run(folder: Path, **settings: Any) -> Path:
    """Write a run with the predictions of its validation images and its calibration."""
    write_run(folder, **settings)
    validation = make_validation()
    calibrator = fit_calibrator(validation.labels, validation.logits)
    write_validation(folder, validation)
    write_test_calibration(folder, CLASS_NAMES, calibrator, Predictions(**make_predictions()))
    return folder


def write_run(folder: Path, config: dict[str, Any] | None = None, **predictions: Any) -> Path:
    """Write a run with the given changes of the settings and predictions."""
    record = make_record()
    record["config"] |= config or {}
    timing = [{"epoch": i + 1, "seconds": 700.0, "images_per_second": 10.1} for i in range(EPOCHS)]
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in make_history()))
    (folder / "timing.jsonl").write_text("".join(json.dumps(e) + "\n" for e in timing))
    (folder / "test.json").write_text(json.dumps(make_test(**predictions)))
    made = make_predictions(**predictions)
    np.savez(folder / "predictions.npz", **made)
    write_mistakes(folder, make_mistakes(made["labels"], made["logits"]))
    return folder


@pytest.fixture(name="write_run", scope="session")
def give_write_run() -> Callable[..., Path]:
    """Return the function that writes a run."""
    return write_run


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Write a run without a report, for tests that change it."""
    return write_run(tmp_path)


@pytest.fixture
def calibrated_dir(tmp_path: Path) -> Path:
    """Write a run with its calibration, for tests that change it."""
    return write_calibrated_run(tmp_path)


@pytest.fixture(scope="module")
def several_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write runs of a good, a medium and a poor loss with seeds 0, 1, 2; 1, 2, 3; and 0."""
    folder = tmp_path_factory.mktemp("runs")
    settings = [("lmf", seed, 2.0) for seed in (0, 1, 2)]
    settings += [("ce", seed, 1.8) for seed in (1, 2, 3)] + [("focal", 0, 0.5)]
    return {
        f"{loss}-{seed}": write_run(
            folder / f"{loss}-{seed}",
            {"loss": loss, "seed": seed, "run_dir": f"{loss}-{seed}"},
            noise_seed=number,
            signal=signal,
        )
        for number, (loss, seed, signal) in enumerate(settings)
    }


@pytest.fixture(scope="session")
def reported_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run with its report, for tests that only read it."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    """Parse the report that the module's fixture ``html`` reads."""
    return Page(html)


@pytest.fixture(scope="module")
def drawn():
    """Lay out figures without rasterizing them; collect their texts by file."""
    texts = {}

    def lay_out(figure, path):
        figure.draw_without_rendering()
        texts[path] = [text.get_text() for text in figure.findobj(Text) if text.get_visible()]
        path.write_bytes(b"PNG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lmf_jax.evaluation.figures.save_figure", lay_out)
        yield texts
