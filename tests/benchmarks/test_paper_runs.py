"""Workers that train the runs of a table: each run once, or again after a worker died."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.paper import runs
from benchmarks.paper.recipe import RELEASED_RECIPE
from benchmarks.paper.runs import Recipe, Run, claim, train_missing
from lmf_jax.errors import Interrupted, UserError

ROOT = Path(__file__).parents[2]

# In place of train.py. It writes down every start; what a file named as the loss says, it does.
TRAINER = """
import json, os, pathlib, sys, time
words = sys.argv[1:]
run, top = pathlib.Path(words[words.index("--run-dir") + 1]), pathlib.Path(__file__).parent
loss = words[words.index("--loss") + 1]
with open(top / "starts.jsonl", "a") as file:
    file.write(json.dumps({"run": str(run), "words": words, "worker": os.getppid()}) + "\\n")
if "--resume" not in words:
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
plan = top / loss
while plan.exists():
    order = plan.read_text()
    if order.isdigit():
        sys.exit(int(order))
    if order == "until both workers train":
        workers = {json.loads(line)["worker"] for line in open(top / "starts.jsonl")}
        if len(workers) == 2:
            break
    time.sleep(0.02)
(run / "test.json").write_text("{}")
"""

WORKER = """
import sys
from pathlib import Path
from benchmarks.paper import runs
runs.POLL_SECONDS = 0.05
folder, losses = Path(sys.argv[1]), sys.argv[2:]
recipe = runs.Recipe("ham10000", "resnet50", (), folder, "data")
runs.train_missing(
    [recipe.run(loss, None, 0) for loss in losses], (sys.executable, str(folder / "trainer.py"))
)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.05)
    (tmp_path / "trainer.py").write_text(TRAINER)
    return tmp_path


def make_run(folder, loss="ce"):
    return Recipe("ham10000", "resnet50", (), folder, "data").run(loss, None, 0)


def train_here(folder, *losses):
    command = (sys.executable, str(folder / "trainer.py"))
    return train_missing([make_run(folder, loss) for loss in losses], command)


def start_worker(folder, *losses):
    """Start a worker in a process group of its own."""
    command = [sys.executable, "-c", WORKER, str(folder), *losses]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)


def starts(folder):
    path = folder / "starts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_two_workers_train_side_by_side_and_each_run_once(folder):
    losses = ["ce", "focal", "ldam", "bwcce"]
    for loss in losses:
        (folder / loss).write_text("until both workers train")
    workers = [start_worker(folder, *losses) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert all(make_run(folder, loss).is_finished for loss in losses)
    trained = [start["run"] for start in starts(folder)]
    assert sorted(trained) == sorted(str(make_run(folder, loss).folder) for loss in losses)
    assert {start["worker"] for start in starts(folder)} == {worker.pid for worker in workers}


def test_the_run_of_a_killed_worker_is_resumed_by_the_next(folder):
    (folder / "ce").write_text("wait")
    worker = start_worker(folder, "ce")
    wait_for(make_run(folder).folder.joinpath("config.json").exists)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    (folder / "ce").unlink()
    assert train_here(folder, "ce") == []
    assert ["--resume" in start["words"] for start in starts(folder)] == [False, True]


def test_a_training_that_outlives_its_worker_keeps_the_run(folder):
    (folder / "ce").write_text("wait")
    worker = start_worker(folder, "ce")
    run = make_run(folder)
    wait_for(run.folder.joinpath("config.json").exists)
    worker.kill()
    worker.wait()
    with claim(run.folder) as lock:
        assert lock is None
    (folder / "ce").unlink()
    assert train_here(folder, "ce") == []
    assert len(starts(folder)) == 1


def test_a_finished_run_is_left_alone(folder):
    assert train_here(folder, "ce") == []
    assert train_here(folder, "ce", "focal") == []
    assert len(starts(folder)) == 2


def test_a_run_that_fails_is_named_and_the_others_are_trained(folder, capfd):
    (folder / "ce").write_text("1")
    assert [run.name for run in train_here(folder, "ce", "focal")] == ["ce, seed 0"]
    assert make_run(folder, "focal").is_finished
    assert "ce, seed 0 failed with exit code 1" in capfd.readouterr().err


def test_a_person_who_stops_a_run_stops_the_worker(folder):
    (folder / "ce").write_text("130")
    with pytest.raises(Interrupted, match="ce, seed 0 was stopped"):
        train_here(folder, "ce", "focal")
    assert len(starts(folder)) == 1


def test_a_folder_that_was_made_and_not_begun_is_begun_anew(folder):
    make_run(folder).folder.mkdir(parents=True)
    assert train_here(folder, "ce") == []
    assert "--resume" not in starts(folder)[0]["words"]


def test_a_disk_without_locks_is_one_sentence(folder, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(runs.fcntl, "flock", no_locks)
    with pytest.raises(UserError, match=r"disk without locks.*--runs-dir"):
        train_here(folder, "ce")


def test_folders_and_flags_say_what_is_trained(tmp_path):
    settings = (*RELEASED_RECIPE, "--pretrained", "/weights/a b.npz", "--remat")
    run = Recipe("odir5k", "densenet121", settings, tmp_path, "data").run("lmf", (1.0, 0.5), 2)
    name = "augment-none_normalization-unit_optimizer-adam-l2_pretrained-a-b.npz_remat"
    expected = tmp_path / "odir5k" / "densenet121" / name / "lmf-alpha-1-beta-0.5" / "seed-2"
    assert run == Run(
        name="lmf 1,0.5, seed 2",
        folder=expected,
        flags=(
            *("--dataset", "odir5k", "--model", "densenet121", "--split", "paper"),
            *settings,
            *("--loss", "lmf", "--alpha", "1", "--beta", "0.5", "--seed", "2"),
        ),
        places=("--data-dir", "data"),
    )
