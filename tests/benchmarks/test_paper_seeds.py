"""Joint tables of records with different seeds."""

import json
import sys

import pytest

from benchmarks import paper_seeds, record
from lmf_jax.errors import UserError
from lmf_jax.evaluation.statistics import mean_over_seeds

PRINTED_DIFFERENCE = 57.73 - 55.79
"""Macro F1 of LMF less that of cross-entropy: ODIR-5K, ResNet-50, Table 3 of the paper."""


def content(seed, *runs, flags="--epochs 20"):
    """Return a record; ``runs`` are the losses, with weights, and their macro F1."""
    rows = []
    for loss, macro_f1 in runs:
        name, *weights = loss.split(" ")
        words = [f"python train.py {flags} --loss {name}"]
        words += ["--alpha {} --beta {}".format(*each.split(",")) for each in weights]
        metrics = {"accuracy": 0.5, "macro_precision": 0.5, "macro_recall": 0.5}
        command = " ".join([*words, f"--seed {seed}"])
        run = f"{loss}, seed {seed}"
        rows.append({"run": run, "macro_f1": macro_f1, "command": command, **metrics})
    return {"dataset": "odir5k", "model": "resnet50", "rows": rows}


def join(monkeypatch, folder, *contents):
    paths = [folder / f"{number}.json" for number in range(len(contents))]
    for path, each in zip(paths, contents, strict=True):
        path.write_text(json.dumps(each))
    monkeypatch.setattr(record, "RESULTS", folder / "results")
    monkeypatch.setattr(sys, "argv", ["paper_seeds", *map(str, paths)])
    paper_seeds.main()
    (path,) = (folder / "results").glob("*.json")
    return json.loads(path.read_text())


def test_seeds_of_several_records_have_one_mean_and_one_interval(monkeypatch, tmp_path, capsys):
    values = {"ce": [0.50, 0.52, 0.51], "lmf 1,0.5": [0.53, 0.52, 0.56]}
    contents = [
        content(seed, *((loss, each[seed]) for loss, each in values.items())) for seed in range(3)
    ]
    found = join(monkeypatch, tmp_path, *contents)
    ce, lmf = found["rows"]
    assert ce["seeds"] == lmf["seeds"] == "0 1 2"
    over_seeds = mean_over_seeds(values["ce"])
    low, high = 100 * over_seeds.low, 100 * over_seeds.high
    assert ce["macro_f1"] == f"51.00 [{low:.1f}, {high:.1f}]"
    assert ce["macro_f1, printed"] == "55.79"
    (difference,) = found["differences"]
    gain = mean_over_seeds([0.03, 0.0, 0.05])
    low, high = 100 * gain.low, 100 * gain.high
    assert difference["macro F1"] == f"+2.67 [{low:+.1f}, {high:+.1f}]"
    assert difference["printed"] == f"{PRINTED_DIFFERENCE:+.2f}"
    assert "lmf 1,0.5 - ce" in capsys.readouterr().out


def test_only_shared_seeds_are_compared_and_one_seed_has_no_interval(monkeypatch, tmp_path):
    contents = (content(0, ("ce", 0.5), ("lmf 1,0.7", 0.6)), content(1, ("ce", 0.9)))
    found = join(monkeypatch, tmp_path, *contents)
    (difference,) = found["differences"]
    assert difference["seeds"] == "0"
    assert difference["macro F1"] == "+10.00"
    assert difference["printed"] == ""  # the paper has other weights
    assert found["rows"][1]["macro_f1, printed"] == ""


def test_records_of_another_recipe_are_refused(monkeypatch, tmp_path):
    contents = (content(0, ("ce", 0.5)), content(1, ("ce", 0.5), flags="--epochs 8"))
    with pytest.raises(UserError, match="other settings than loss and seed"):
        join(monkeypatch, tmp_path, *contents)


def test_a_run_in_two_records_is_refused(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="The run ce, seed 0 stands in two records"):
        join(monkeypatch, tmp_path, *[content(0, ("ce", 0.5))] * 2)
