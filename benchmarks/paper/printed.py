"""The figures that the paper prints, table by table, from the CSV files in ``tables/``.

Scores are in percent, as printed. Datasets, models, losses and classes have the names that
``train.py`` and ``data`` give them. Source: Sadi et al., LMFLoss: a hybrid loss for imbalanced
medical image classification, arXiv 2212.12741, first and final version.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

TABLES = Path(__file__).parent / "tables"

Version = Literal["first", "final"]
Dataset = Literal["odir5k", "ham10000", "isic2019", "covid19_radiography"]
Model = Literal["efficientnet_v2_s", "resnet50", "densenet121"]

DATASETS: Mapping[str, str] = MappingProxyType(
    {
        "odir5k": "ODIR-5K",
        "ham10000": "HAM-10K",
        "isic2019": "ISIC-2019",
        "covid19_radiography": "COVID-19 Radiography",
    }
)
"""The datasets in the order of the tables, with their names in the paper."""

MODELS: Mapping[str, str] = MappingProxyType(
    {
        "efficientnet_v2_s": "EfficientNetV2",
        "resnet50": "ResNet-50",
        "densenet121": "DenseNet-121",
    }
)
"""The models in the order of Tables 2 to 4, with their names in the paper."""

LOSSES: Mapping[str, str] = MappingProxyType(
    {"ce": "CCE", "focal": "Focal", "ldam": "LDAM", "bwcce": "BWCCE", "lmf": "LMF"}
)
"""The losses in the order of the tables, with their names in the paper."""

CLASS_F1_MODEL = "efficientnet_v2_s"
"""The model whose class-wise F1 is printed."""

_RESULT_TABLES: Mapping[str, Mapping[str, str]] = {
    "final": {"2": "efficientnet_v2_s", "3": "resnet50", "4": "densenet121"},
    "first": {"1": ""},  # names its models in a column
}
_CLASS_TABLES: Mapping[str, str] = {"final": "5", "first": "2"}
_CLASS_NAMES = {"Covid": "COVID", "LO": "Lung_Opacity", "VP": "Viral Pneumonia"}


@dataclass(frozen=True)
class Scores:
    """The four figures of a run in Tables 2 to 4, in percent."""

    accuracy: float
    precision: float
    recall: float
    macro_f1: float


@dataclass(frozen=True)
class ClassRow:
    """A row of Table 5.

    Attributes:
        train: Training images of the class.
        f1: F1 in percent, by loss.
    """

    train: int
    f1: Mapping[str, float]


@dataclass(frozen=True)
class Discrepancy:
    """A printed figure that contradicts another, or that no number of images can give."""

    version: str
    table: str
    dataset: str
    model: str
    loss: str
    figure: str
    printed: str
    finding: str


@cache
def split_sizes() -> Mapping[str, Mapping[str, int]]:
    """Return Table 1: the images of "train", "validation" and "test" of each dataset."""
    return {
        row["dataset"]: {part: int(row[part]) for part in ("train", "validation", "test")}
        for row in _read("final", "1")
    }


@cache
def scores(version: Version = "final") -> Mapping[tuple[str, str, str], Scores]:
    """Return Tables 2 to 4, or Table 1 of the first version, by (dataset, model, loss).

    Args:
        version: The version of the paper; the first lacks DenseNet-121, BWCCE and COVID-19.
    """
    return {
        (row["dataset"], model or row["model"], row["loss"]): Scores(
            *(float(row[name]) for name in ("accuracy", "precision", "recall", "macro_f1"))
        )
        for number, model in _RESULT_TABLES[version].items()
        for row in _read(version, number)
    }


@cache
def class_f1(version: Version = "final") -> Mapping[str, Mapping[str, ClassRow]]:
    """Return Table 5, or Table 2 of the first version: by dataset and class, for EfficientNetV2.

    Args:
        version: The version of the paper; the first lacks BWCCE and COVID-19.
    """
    rows: dict[str, dict[str, ClassRow]] = {}
    for row in _read(version, _CLASS_TABLES[version]):
        name = _CLASS_NAMES.get(row["class"], row["class"])
        f1 = {loss: float(row[loss]) for loss in LOSSES if loss in row}
        rows.setdefault(row["dataset"], {})[name] = ClassRow(int(row["train"]), f1)
    return rows


@cache
def best_weights() -> Mapping[tuple[str, str], tuple[float, float]]:
    """Return Table 6: the (alpha, beta) of the printed LMF results, by (dataset, model)."""
    return {
        (row["dataset"], row["model"]): (float(row["alpha"]), float(row["beta"]))
        for row in _read("final", "6")
    }


@cache
def discrepancies() -> tuple[Discrepancy, ...]:
    """Return the contradictions in the printed figures."""
    return tuple(Discrepancy(**row) for row in _rows("discrepancies.csv"))


def _read(version: str, number: str) -> list[dict[str, str]]:
    return _rows(f"{version}_table_{number}.csv")


def _rows(name: str) -> list[dict[str, str]]:
    with open(TABLES / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
