"""Train tiny models with ``train.py`` and call commands on their runs, in this process."""

import runpy
import sys
from pathlib import Path

import pytest

TRAIN = str(Path(__file__).parents[2] / "train.py")
QUICK = (
    *("--image-size", "32", "--epochs", "3", "--batch-size", "8"),
    *("--learning-rate", "0.01", "--normalization", "unit", "--pretrained", "none"),
)
"""Flags with which a tiny model learns the colors of images in a few seconds."""


def train(patch: pytest.MonkeyPatch, *words: object) -> None:
    """Run ``train.py`` with these words after the flags that make it quick."""
    patch.setattr(sys, "argv", ["train.py", *QUICK, *map(str, words)])
    runpy.run_path(TRAIN, run_name="__main__")


def run_lmf_jax(patch: pytest.MonkeyPatch, *words: object) -> int | str | None:
    """Run ``python -m lmf_jax`` with these words and return its exit code."""
    patch.setattr(sys, "argv", ["lmf_jax", *map(str, words)])
    try:
        runpy.run_module("lmf_jax", run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0


def run_train(patch: pytest.MonkeyPatch, *words: object) -> int | str | None:
    """Run ``train.py`` with these words and return its exit code."""
    patch.setattr(sys, "argv", ["train.py", *map(str, words)])
    try:
        runpy.run_path(TRAIN, run_name="__main__")
    except SystemExit as stop:
        return stop.code
    return 0
