"""The sweep of alpha and beta: its grid, its study with several workers, and what it chooses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import paper_sweep, record
from benchmarks.paper import printed, runs
from benchmarks.paper.runs import Recipe
from benchmarks.paper_sweep import SETTINGS, Options, grid, setting_rows
from lmf_jax.errors import Interrupted, TrainingStopped
from tests.helpers.paper_runs import write_run

optuna = pytest.importorskip("optuna", reason="needs the paper extra")

from benchmarks.paper.study import Sweep  # noqa: E402

ROOT = Path(__file__).parents[2]

POINTS = [(1.0, 0.5), (1.0, 2.0), (0.5, 1.0)]

# In place of train.py: it takes the run that lies ready under the same name in the folder "made".
TRAINER = """
import os, pathlib, shutil, sys, time
words, top = sys.argv[1:], pathlib.Path(__file__).parent
run = pathlib.Path(words[words.index("--run-dir") + 1])
with open(top / "starts", "a") as file:
    file.write(f"{run.parent.name} {os.getppid()} {'--resume' in words}\\n")
run.mkdir(parents=True, exist_ok=True)
(run / "config.json").write_text("{}")
while (top / "wait").exists():
    time.sleep(0.02)
if (top / "fail").exists():
    sys.exit(int((top / "fail").read_text()))
shutil.copytree(top / "made" / run.relative_to(top / "runs"), run, dirs_exist_ok=True)
"""

WORKER = """
import sys
from pathlib import Path
from benchmarks.paper import runs
from benchmarks.paper.study import Sweep
runs.POLL_SECONDS = 0.05
top, storage = Path(sys.argv[1]), sys.argv[2]
recipe = runs.Recipe("ham10000", "resnet50", (), top / "runs", "data")
sweep = Sweep(storage, recipe, 0, [(1.0, 0.5), (1.0, 2.0), (0.5, 1.0)])
sweep.work((sys.executable, str(top / "trainer.py")))
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return the runs of the fake training, the second with the best validation."""
    folder = tmp_path_factory.mktemp("made")
    recipe = Recipe("ham10000", "resnet50", (), folder, "data")
    for weights, validation in zip(POINTS, (0.5, 0.7, 0.6), strict=True):
        write_run(recipe.run("lmf", weights, 0), validation=validation)
    return folder


@pytest.fixture
def folder(tmp_path, made, monkeypatch):
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.05)
    (tmp_path / "trainer.py").write_text(TRAINER)
    (tmp_path / "made").symlink_to(made)
    return tmp_path


@pytest.fixture(params=["a journal", "a database"])
def storage(request, tmp_path):
    paths = {"a journal": f"{tmp_path}/study.journal", "a database": f"sqlite:///{tmp_path}/s.db"}
    return paths[request.param]


def open_sweep(folder, storage):
    recipe = Recipe("ham10000", "resnet50", (), folder / "runs", "data")
    return Sweep(storage, recipe, 0, POINTS)


def command(folder):
    return (sys.executable, str(folder / "trainer.py"))


def starts(folder):
    path = folder / "starts"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_the_grid_is_that_of_the_paper():
    assert [len(points) for points in SETTINGS.values()] == [11, 11, 11]
    assert len(grid()) == 31  # alpha = beta = 1 is in every setting
    assert set(printed.best_weights().values()) <= set(grid())
    assert (Options().model, Options().epochs) == ("efficientnet_v2_s", 60)


def test_every_pair_is_trained_once_and_told(folder, storage):
    sweep = open_sweep(folder, storage)
    sweep.work(command(folder))
    expected = dict(zip(POINTS, (0.5, 0.7, 0.6), strict=True))
    assert sweep.scores() == pytest.approx(expected)
    assert list(sweep.scores()) == POINTS
    open_sweep(folder, storage).work(command(folder))
    assert len(starts(folder)) == 3
    assert sweep.study.best_params == {"alpha": 1.0, "beta": 2.0}
    assert len(sweep.study.trials) == 3


def test_workers_share_a_study_and_take_up_the_trial_of_a_dead_one(folder, storage):
    (folder / "wait").touch()
    arguments = [sys.executable, "-c", WORKER, str(folder), storage]
    workers = [
        subprocess.Popen(arguments, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    deadline = time.monotonic() + 100
    while len(starts(folder)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    dead, alive = workers
    os.killpg(dead.pid, signal.SIGKILL)
    dead.wait()
    (folder / "wait").unlink()
    assert alive.wait(100) == 0
    trained = sorted(starts(folder))
    assert len(trained) == 4
    (lost,) = [run for run, worker, _ in trained if int(worker) == dead.pid]
    assert [
        int(worker) for run, worker, resumed in trained if (run, resumed) == (lost, "True")
    ] == [alive.pid]
    assert len(open_sweep(folder, storage).scores()) == 3


def test_a_failed_run_is_tried_again_by_the_next_command(folder, storage):
    (folder / "fail").write_text("1")
    sweep = open_sweep(folder, storage)
    sweep.work(command(folder))
    assert sweep.scores() == {}
    assert len(starts(folder)) == 3
    (folder / "fail").unlink()
    sweep.work(command(folder))
    assert len(sweep.scores()) == 3


def test_a_stopped_run_comes_back(folder, storage):
    (folder / "fail").write_text("130")
    with pytest.raises(Interrupted):
        open_sweep(folder, storage).work(command(folder))
    (folder / "fail").unlink()
    sweep = open_sweep(folder, storage)
    sweep.work(command(folder))
    assert len(sweep.scores()) == 3
    assert [resumed for _, _, resumed in starts(folder)].count("True") == 1


def test_a_setting_is_summed_up_by_mean_and_average_deviation():
    scores = {(0.5, 0.5): 0.7, (1.0, 1.0): 0.8, (1.0, 0.5): 0.5}
    one, two, three = setting_rows(scores)
    assert one == {
        "setting": "1: alpha = beta",
        "runs": "2",
        "mean macro F1": "75.00",
        "average deviation": "5.00",
        "best": "80.00",
        "of alpha, beta": "1, 1",
    }
    assert (two["mean macro F1"], two["average deviation"]) == ("65.00", "15.00")
    assert (three["runs"], three["average deviation"]) == ("1", "0.00")


def test_the_command_writes_what_validation_chose(tmp_path, made, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(paper_sweep, "grid", lambda: [*POINTS, (2.0, 2.0)])
    (tmp_path / "runs").symlink_to(made)
    # There is no trainer for the pair that is missing.
    monkeypatch.setattr(Sweep.work, "__defaults__", (("false",),))
    words = ["paper_sweep", "--model", "resnet50", "--runs-dir", f"{tmp_path}/runs"]
    words += ["--no-released-recipe"]
    words += ["--storage", f"{tmp_path}/journal", "--pretrained", "none", "--epochs", "None"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(TrainingStopped, match=r"1 of 4 runs failed"):
        paper_sweep.main()
    (path,) = (tmp_path / "results").glob("*.json")
    result = json.loads(path.read_text())
    assert [row["validation macro F1"] for row in result["rows"]] == [0.5, 0.7, 0.6]
    ours, theirs = result["chosen"]
    assert (ours["alpha"], ours["beta"]) == ("1.0", "2.0")
    assert (theirs["alpha"], theirs["beta"]) == ("0.5", "1.0")  # Table 6
    assert result["settings"]["2: beta varies, alpha = 1"] == pytest.approx([50, 70])
    assert path.with_suffix(".png").stat().st_size > 10_000
    output = capsys.readouterr().out
    assert "| 2: beta varies, alpha = 1 | 2 | 60.00 | 10.00 |" in output
    assert "- epochs: 100 (paper: 60)." in output
    assert "optimizer: adamw (paper: Adam, coupled L2)." in result["differences_from_paper"]
