"""The folder of a finished segmentation run on ellipses."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lmf_jax.evaluation.segmentation.metrics import case_counts, hausdorff_95
from lmf_jax.evaluation.segmentation.overlays import Overlays, shown_cases, write_overlays
from lmf_jax.evaluation.segmentation.run import write_test

NAMES = ["background", "<b>lesion & skin</b>"]
EPOCHS = 6


def ellipse(size: int, center: np.ndarray, radii: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return ((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 < 1


def make_cases(
    number: int = 36, size: int = 48, error: float = 1.0, classes: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of ellipses in each other, one a class, their label maps and predictions.

    The larger the error, the further off are the predictions.
    """
    rng = np.random.default_rng(seed)
    shapes = (number, size, size)
    labels, predictions = np.zeros((2, *shapes), np.uint8)
    images = np.empty((*shapes, 3), np.uint8)
    for case in range(number):
        center, radii = rng.uniform(0.35, 0.65, 2) * size, rng.uniform(0.08, 0.32, 2) * size
        off = np.random.default_rng([seed, case]).normal(size=4) * error * size / 24
        for class_id in range(1, classes):
            share = 1 / class_id
            inside = ellipse(size, center, radii * share)
            labels[case][inside] = class_id
            found = ellipse(size, center + off[:2], np.maximum(radii * share + off[2:], 0.5))
            predictions[case][found] = class_id
        shade = 200 - 60 * labels[case][..., None] * np.ones(3)
        images[case] = (shade + rng.normal(size=(size, size, 3)) * 12).clip(0, 255)
    return images, labels, predictions


def make_record(classes: int, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "config": {
            "task": "segmentation",
            "dataset": "made-up",
            "model": "unet",
            "loss": "mixed-focal",
            "learning_rate": 1e-2,
            "max_margin": 0.5,
            "split": "paper",
            "split_seed": 0,
            "seed": 3,
            **config,
        },
        "dataset": {
            "name": "made-up",
            "fingerprint": "sha256:0123abcd",
            "class_names": [*NAMES, "tumour", "core"][:classes],
            "class_counts": {
                part: [9_000_000, 800_000, 12_345, 17][:classes]
                for part in ("train", "validation", "test")
            },
            "num_cases": {"train": 120, "validation": 20, "test": 36},
        },
        "weights": None,
        "versions": {"lmf_jax": "0.1.0", "python": "3.11.7", "jax": "0.10.2"},
        "git_commit": None,
        "device": {"platform": "tpu", "kind": "TPU v5e", "count": 8, "process_count": 2},
    }


def make_history() -> list[dict[str, Any]]:
    """Six epochs: the fourth is the best."""
    dsc = [0.31, 0.42, 0.55, 0.84, 0.81, 0.83]
    return [
        {
            "epoch": i + 1,
            "step": 10 * (i + 1),
            "train_loss": 1.0 / (i + 1),
            "val_loss": 1.2 / (i + 1),
            "val_dsc": dsc[i],
            "val_iou": dsc[i] / (2 - dsc[i]),
            "learning_rate": 1e-2 if i < 3 else 1e-3,
        }
        for i in range(EPOCHS)
    ]


def write_run(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    classes: int = 2,
    groups: np.ndarray | None = None,
    unit: str = "pixels",
    overlays: bool = True,
    **cases: Any,
) -> Path:
    """Write a run with these settings beside the usual ones, and these cases."""
    images, labels, predictions = make_cases(classes=classes, **cases)
    record, n = make_record(classes, config or {}), len(images)
    timing = [{"epoch": i + 1, "seconds": 70.0, "images_per_second": 10.1} for i in range(EPOCHS)]
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(record))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(e) + "\n" for e in make_history()))
    (folder / "timing.jsonl").write_text("".join(json.dumps(e) + "\n" for e in timing))
    pairs = list(zip(labels, predictions, strict=True))
    test = write_test(
        folder,
        np.array([f"case_{number:05}" for number in range(n)]),
        np.stack([case_counts(*pair, classes) for pair in pairs]),
        np.stack([hausdorff_95(*pair, classes, (1.0, 1.0)) for pair in pairs]),
        record["dataset"]["class_names"],
        groups,
        unit,
    )
    if overlays:
        places = shown_cases(np.array([case["dsc"] for case in test["per_case"].values()]))
        kept = Overlays(places, images[places], labels[places], predictions[places])
        write_overlays(folder, kept)
    return folder
