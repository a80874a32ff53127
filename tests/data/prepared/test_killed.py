"""Processes that are killed while they prepare a dataset and its cache, alone and beside others."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

KILLS = 10

# One program imports everything once and forks for every process that is killed. It opens no
# dataset itself: the threads of ArrayRecord would not live in the forks.
PROGRAM = """
import json, os, random, shutil, signal, sys, time, warnings
from pathlib import Path
import data.batches.decoded, data.datasets.folder.labels
from lmf_jax.config import ImageSpec
from data import cached_images, load_dataset
from data.prepared.prepare import prepare
from tests.helpers.killed_at import KilledAt

warnings.simplefilter("ignore")
name, data_dir = f"folder:{sys.argv[1]}", Path(sys.argv[2])
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir")


def use():
    prepare(name, None, data_dir, skip_broken=True)
    dataset = load_dataset(name, data_dir=data_dir)
    images = cached_images(dataset, ImageSpec(8, 8), data_dir)
    return {"fingerprint": dataset.fingerprint, "pixels": images[dataset.rows["train"]].tolist()}


def fork(work):
    process = os.fork()
    if process == 0:
        work()
        os._exit(0)
    return process


def use_until(moment):
    # Dies where it touches the data folder for the moment-th time; without one, says what it saw.
    accesses = KilledAt(moment, data_dir, EVENTS)
    result = use()
    if not moment:
        events = {"events": accesses.seen}
        (data_dir.parent / "result.json").write_text(json.dumps(result | events))


def result_of_a_whole_run():
    assert os.waitpid(fork(lambda: use_until(0)), 0)[1] == 0
    return json.loads((data_dir.parent / "result.json").read_text())


def get_killed(kills):
    reference = result_of_a_whole_run()
    shutil.rmtree(data_dir)
    moments = random.Random(0)
    killed, lists = 0, set()
    while killed < kills:
        process = fork(lambda: use_until(moments.randint(1, reference["events"])))
        if os.waitpid(process, 0)[1] == signal.SIGKILL:
            killed += 1
            lists |= {(path / "skipped.txt").exists() for path in data_dir.glob("own/*/*/1.0.0")}
        else:  # the kills before it left little to do
            shutil.rmtree(data_dir)
    return {"reference": reference, "afterwards": result_of_a_whole_run(), "lists": sorted(lists)}


def kill_one_of_two(owner, function):
    # The first stands still where it builds; the second waits for it until it is killed.
    stands = data_dir.parent / "stands"

    def stand_still(*_):
        stands.touch()
        time.sleep(100)

    first = fork(lambda: (setattr(owner, function, stand_still), use()))
    while not stands.exists():
        time.sleep(0.01)
    stands.unlink()
    second = fork(use)
    time.sleep(1)
    did_not_wait, status = os.waitpid(second, os.WNOHANG)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    return {"waits": not did_not_wait, "ends": status if did_not_wait else os.waitpid(second, 0)[1]}


results = get_killed(int(sys.argv[3]))
shutil.rmtree(data_dir / "images")
results["caching"] = kill_one_of_two(data.batches.decoded.DecodedImages, "__getitem__")
print(json.dumps(results | {"names": [path.name for path in data_dir.rglob("*")]}))
shutil.rmtree(data_dir)
print(json.dumps(kill_one_of_two(data.datasets.folder.labels, "image_path")))
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """Return the report of the program."""
    place = tmp_path_factory.mktemp("killed")
    for number in range(24):
        path = place / "raw" / ("rare" if number % 3 else "often") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    path.write_bytes(b"no image")
    (place / "program.py").write_text(PROGRAM)
    command = [sys.executable, place / "program.py", place / "raw", place / "data", str(KILLS)]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.fault(
    "SIGKILL at ten random moments while a dataset is prepared and cached",
    "made again, it was the same, and nothing half-built was taken for whole",
)
def test_a_dataset_is_the_same_after_any_number_of_kills(seen: list[dict]) -> None:
    killed = seen[0]
    assert killed["afterwards"]["fingerprint"] == killed["reference"]["fingerprint"]
    assert killed["afterwards"]["pixels"] == killed["reference"]["pixels"]


def test_no_kill_leaves_a_dataset_without_the_list_of_what_was_left_out(seen: list[dict]) -> None:
    assert seen[0]["lists"] == [True]


def test_what_killed_processes_began_is_cleared_away(seen: list[dict]) -> None:
    hidden = [name for name in seen[0]["names"] if name.startswith((".", "incomplete"))]
    assert hidden and all(name.endswith(".lock") for name in hidden)


@pytest.mark.fault(
    "SIGKILL to one of two processes that prepare or cache the same data",
    "the other took over and finished",
)
@pytest.mark.parametrize("what", ["caching", "preparing"])
def test_a_second_process_goes_on_when_the_first_is_killed(seen: list[dict], what: str) -> None:
    result = seen[0]["caching"] if what == "caching" else seen[1]
    assert result == {"waits": True, "ends": 0}
