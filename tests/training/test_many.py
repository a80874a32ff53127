"""Any number of devices and processes computes the same, and resumes runs of any other number.

``pytest -rP tests/training/test_many.py`` prints the largest differences.
"""

import json
import shutil

import numpy as np
import pytest

from lmf_jax.distributed.devices import pmap_step, shard_map_step
from tests.helpers.many_processes import TRAINING, Part, found, labels, run

pytestmark = pytest.mark.slow

SETUPS = {
    "4 devices": (1, 4),
    "2 processes": (2, 4),
    "1 device": (1, 1),
    "2 devices": (1, 2),
    "8 devices": (1, 8),
    "4 processes": (4, 4),
}
"""How many processes, and how many devices in all. The first two save what others go on with."""
GOING_ON = [("4 devices", name) for name in ("1 device", "2 devices", "8 devices", "2 processes")]
GOING_ON += [("2 processes", "1 device")]
"""Who stops after two steps of an epoch's five, and who goes on."""
COMPARED = ("loss", "batch_stats", "gradients", "params", "ema", "logits")


@pytest.mark.parametrize("map_step", [shard_map_step, pmap_step])
def test_any_devices_and_processes_train_alike_and_go_on_where_others_stopped(
    map_step, tmp_path, subtests
):
    """One test, so that what all processes found is there for all comparisons."""
    curves = {}
    for name in SETUPS:
        parts = parts_of(name, tmp_path)
        run(*SETUPS[name], list(parts.values()), tmp_path / f"{name}-output", map_step)
        curves |= {key: found(part) for key, part in parts.items()}
    one = curves["1 device", "float64"]

    with subtests.test("batches"):
        epochs = one["rows"].reshape(2, TRAINING)
        np.testing.assert_array_equal(np.sort(epochs), [range(TRAINING)] * 2)
        rare = (labels()[one["rows"]] == 2).sum(axis=1)
        assert (rare == 0).any(), "no batch without the rare class"
        assert (rare == 1).any(), "no batch with the rare class on one device only"
    for words, (actual, expected, steps, tolerance) in comparisons(curves).items():
        actual, expected = at(steps, actual), at(steps, expected)
        shares = largest_differences(actual, expected)
        print(f"{words:52}", *(f"{name} {share:.0e}" for name, share in shares.items()), sep="  ")
        with subtests.test(words):
            np.testing.assert_array_equal(actual["rows"], expected["rows"])
            assert all(share <= tolerance for share in shares.values()), shares

    for name in SETUPS:
        with subtests.test("validations", setup=name):
            rows = [metrics(tmp_path / f"{key}-float64") for key in (name, "1 device")]
            np.testing.assert_allclose(*rows, rtol=1e-6)

    with subtests.test("the same bits"):
        again = Part(tmp_path / "again", "float64")
        run(1, 2, [again], tmp_path / "again-output", map_step)
        for key, values in found(again).items():
            np.testing.assert_array_equal(values, curves["2 devices", "float64"][key], err_msg=key)
        folders = (tmp_path / "2 devices-float64", tmp_path / "again")
        texts = [(folder / "metrics.jsonl").read_text() for folder in folders]
        assert texts[0] == texts[1]


def parts_of(name, folder):
    """Return the runs of a setup: its own, those saved for others, and those of others."""
    parts = {
        (name, "float32"): Part(folder / f"{name}-float32", "float32", 3),
        (name, "float64"): Part(folder / f"{name}-float64", "float64"),
    }
    for precision, last_step in (("float32", 3), ("float64", None)):
        if any(name == saver for saver, _ in GOING_ON):
            saved = Part(folder / f"{name}-saved-{precision}", precision, 2)
            parts[name, "saved", precision] = saved
        for saver in (saver for saver, heir in GOING_ON if heir == name):
            run_dir = folder / f"{saver}-to-{name}-{precision}"
            shutil.copytree(folder / f"{saver}-saved-{precision}", run_dir)
            parts[saver, name, precision] = Part(run_dir, precision, last_step)
    return parts


def comparisons(curves):
    """Return the comparisons: two curves, the steps to compare, and the tolerance."""
    pairs = {}
    for name in sorted(SETUPS.keys() - {"1 device"}):
        first = (curves[name, "float32"], curves["1 device", "float32"], [1])
        pairs[f"{name}, step 1, float32"] = (*first, 1e-5)
        all_ten = (curves[name, "float64"], curves["1 device", "float64"], range(1, 11))
        pairs[f"{name}, steps 1 to 10, float64"] = (*all_ten, 1e-6)
    for saver, name in GOING_ON:
        next_one = (curves[saver, name, "float32"], curves[saver, "float32"], [3])
        pairs[f"{name} after {saver}, step 3, float32"] = (*next_one, 1e-5)
        next_eight = (curves[saver, name, "float64"], curves[saver, "float64"], range(3, 11))
        pairs[f"{name} after {saver}, steps 3 to 10, float64"] = (*next_eight, 1e-6)
    return pairs


def at(steps, curve):
    """Return the values at these steps."""
    chosen = {name: values[np.isin(curve["step"], steps)] for name, values in curve.items()}
    np.testing.assert_array_equal(chosen["step"], steps)
    return chosen


def largest_differences(actual, expected):
    """How far two curves part, as shares of the largest entry of a step."""
    shares = {}
    for name in COMPARED:
        axes = tuple(range(1, expected[name].ndim))
        difference = np.abs(actual[name] - expected[name]).max(axes)
        shares[name] = (difference / np.abs(expected[name]).max(axes)).max()
    return shares


def metrics(run_dir):
    """Return the metrics of both validations."""
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [list(json.loads(line).values()) for line in lines]
