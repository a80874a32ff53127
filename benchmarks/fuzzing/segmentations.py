"""Fuzzing targets: readers of the folder of a segmentation run."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis.strategies import SearchStrategy

from benchmarks.fuzzing.harness import Files, Target
from benchmarks.fuzzing.runs import changed_run, check_report, good_record, run_files, written
from lmf_jax.evaluation.segmentation.comparison import (
    compare_runs,
    format_comparison,
)
from lmf_jax.evaluation.segmentation.report import format_test_table
from lmf_jax.evaluation.segmentation.run import read_run
from lmf_jax.evaluation.segmentation.summary import summarize_test

CASES = 5


def _record() -> dict[str, Any]:
    """Return the record of a run of three classes."""
    record = good_record()
    record["config"] |= {"task": "segmentation", "model": "unet"}
    record["dataset"]["num_cases"] = {"train": 9, "validation": 3, "test": CASES}
    return record


def _history() -> list[dict[str, Any]]:
    metrics = {"learning_rate": 1e-3, "train_loss": 0.5, "val_loss": 0.6, "val_iou": 0.3}
    return [{"epoch": i, "step": 3 * i, "val_dsc": 0.2 * i, **metrics} for i in (1, 2, 3)]


@functools.cache
def _cases() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = np.array([f"case-{i}" for i in range(CASES)])
    counts = rng.integers(0, 40, (CASES, 3, 3))
    return {"ids": ids, "counts": counts, "hd95": rng.random((CASES, 3)), "groups": ids}


@functools.cache
def _test() -> dict[str, Any]:
    cases, names = _cases(), _record()["dataset"]["class_names"]
    return summarize_test(cases["ids"], cases["counts"], cases["hd95"], names, cases["groups"])


@functools.cache
def _overlays() -> dict[str, np.ndarray]:
    maps = np.random.default_rng(0).integers(0, 3, (2, 2, 8, 8), np.uint8)
    images = np.zeros((2, 8, 8, 3), np.uint8)
    places = np.array([3, 0])
    return {"places": places, "images": images, "labels": maps[0], "predictions": maps[1]}


@functools.cache
def _good() -> Files:
    arrays = {"cases.npz": _cases(), "overlays.npz": _overlays()}
    return run_files(_record(), _history(), _test(), arrays)


def _bad() -> SearchStrategy[Files]:
    return changed_run(_good())


def _read(folder: Path) -> None:
    """Check the invariants of the reader that pages and tables rely on."""
    run = read_run(folder)
    n, names = len(run.ids), run.dataset["class_names"]
    assert run.counts.shape == (n, len(names), 3)
    assert run.hd95.shape == (n, len(names))
    assert run.ids.dtype.kind == "U"
    assert list(run.test["per_class"]) == names
    assert list(run.test["per_case"]) == run.ids.tolist()
    assert len(format_test_table(run.test).splitlines()) >= len(names)
    if run.overlays is not None:
        assert len(run.overlays.images) == len(run.ids[run.overlays.indices])


def _compare(folder: Path) -> None:
    """Compare with a valid run."""
    with written(_good()) as other:
        assert format_comparison(compare_runs([folder, other]))


TARGETS = (
    Target("segmentation", _bad, _read),
    Target("segmentation-report", _bad, check_report, cost=40),
    Target("segmentation-comparison", _bad, _compare, cost=10),
)
