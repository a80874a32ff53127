"""Segmentation runs with degenerate tests, written by the functions of train.py."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmf_jax.config import Config
from lmf_jax.evaluation.segmentation.report import format_test_table
from lmf_jax.inference.segmenter import TrainedSegmenter, evaluate_segmenter
from lmf_jax.models.normalization import NORMALIZATIONS
from lmf_jax.runs.atomic_files import write_json_lines
from lmf_jax.runs.folder import open_run
from tests.helpers.degenerate import LONG_NAMES
from tests.helpers.tiny_training import tiny_unet

SIDE = 32


@dataclass(frozen=True)
class SegmenterTest:
    """Answers of a segmenter to a test, and the test.

    Attributes:
        labels: True class of every pixel or voxel ``[n, ...]``.
        predictions: Its answers.
        names: Of the classes, the background first.
        groups: Patient of each case.
        ids: Of the cases; numbered by default.
    """

    labels: np.ndarray
    predictions: np.ndarray
    names: tuple[str, ...] = ("background", "tumor", "core")
    groups: np.ndarray | None = None
    ids: np.ndarray = field(default=None)

    def __post_init__(self) -> None:
        if self.ids is None:
            numbered = np.array([f"case_{number}" for number in range(len(self.labels))])
            object.__setattr__(self, "ids", numbered)

    @property
    def spacing(self) -> tuple[float, ...] | None:
        return (2.0, 1.0, 1.0) if self.labels.ndim == 4 else None

    def read(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Return an image that holds the answer, of which an image shows little, and the truth."""
        answer = self.predictions[place]
        if answer.ndim == 3:  # volumes are normalized
            return answer[..., None].astype(np.float32), self.labels[place]
        return np.repeat(answer[..., None], 3, axis=-1), self.labels[place]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        for place in range(len(self.labels)):
            image, labels = self.read(place)
            yield np.array([place, -1]), np.stack([image] * 2), np.stack([labels] * 2)


class Answering(TrainedSegmenter):
    """A trained segmenter without a model: images hold its answers."""

    def segment(self, images: np.ndarray) -> np.ndarray:
        return images[..., 0].astype(np.uint8)


def squares(number: int, classes: int = 3, shift: int = 0, volume: bool = False) -> np.ndarray:
    """Return label maps of a square for each class, side by side along the rows."""
    maps = np.zeros((number, SIDE, SIDE), np.uint8)
    height = max(SIDE // max(classes, 4), 1)
    for case in range(number):
        for class_id in range(1, classes):
            top = (class_id - 1) * height
            maps[case, top : top + height, shift + case % 4 : shift + case % 4 + 6] = class_id
    return np.repeat(maps[:, None], 3, axis=1) if volume else maps


def segmenter_tests() -> dict[str, SegmenterTest]:
    """Return the degenerate tests by their names."""
    truth, empty = squares(8), np.zeros((8, SIDE, SIDE), np.uint8)
    moved, elsewhere = squares(8, shift=2), squares(8, shift=12)
    only_tumor = np.where(truth == 2, 0, truth).astype(np.uint8)
    twos = np.full(8, "patient")
    long_ids = np.array([f"{number}_{'a_long_name_of_a_file_' * 6}" for number in range(8)])
    thirty = ("background", *(f"structure {number}" for number in range(1, 30)))
    volumes = squares(2, volume=True)
    return {
        "all_empty": SegmenterTest(empty, empty),
        "nothing_found": SegmenterTest(truth, empty),
        "found_in_vain": SegmenterTest(empty, truth),
        "one_case": SegmenterTest(truth[:1], moved[:1]),
        "one_empty_case": SegmenterTest(empty[:1], empty[:1]),
        "absent_class": SegmenterTest(only_tumor, np.where(moved == 2, 0, moved).astype(np.uint8)),
        "absent_class_found": SegmenterTest(only_tumor, moved),
        "perfect": SegmenterTest(truth, truth),
        "all_wrong": SegmenterTest(truth, elsewhere),
        "all_foreground": SegmenterTest(np.ones_like(truth), truth),
        "one_group": SegmenterTest(truth, moved, groups=twos),
        "one_class": SegmenterTest(only_tumor, (moved == 1).astype(np.uint8), names=LONG_NAMES[:2]),
        "thirty_classes": SegmenterTest(squares(8, 30), squares(8, 30, shift=1), names=thirty),
        "long_names": SegmenterTest(truth, moved, names=LONG_NAMES, ids=long_ids),
        "volumes": SegmenterTest(volumes, squares(2, shift=1, volume=True)),
        "empty_volumes": SegmenterTest(0 * volumes, 0 * volumes),
    }


def write_segmenter_run(folder: Path, test: SegmenterTest, loss: str = "mixed-focal") -> str:
    """Write the run of a test as train.py does, but for its report; return the terminal's table."""
    is_volume = test.labels.ndim == 4
    config = Config.of(
        task="segmentation",
        loss=loss,
        run_dir=str(folder),
        epochs=1,
        patch_size=(8, 8, 8) if is_volume else None,
    ).resolve({})
    places = np.bincount(test.labels.ravel(), minlength=len(test.names)).tolist()
    description = {
        "name": "made-up",
        "fingerprint": "sha256:0123abcd",
        "class_names": list(test.names),
        "class_counts": {part: places for part in ("train", "validation", "test")},
        "num_cases": {"train": 1, "validation": 1, "test": len(test.labels)},
        "padding": [0.0],
    }
    run_dir = open_run(config, description)
    score = {"train_loss": 0.7, "val_loss": 0.9, "val_dsc": 0.0, "val_iou": 0.0}
    epoch = {"epoch": 1, "step": 1, **score, "learning_rate": 1e-4}
    write_json_lines(run_dir / "metrics.jsonl", [epoch])
    trained = Answering(
        config,
        description,
        tiny_unet(spatial_dims=3 if is_volume else 2, num_classes=len(test.names)),
        {},
        None if is_volume else NORMALIZATIONS["imagenet"],
    )
    return format_test_table(evaluate_segmenter(trained, run_dir, test))
