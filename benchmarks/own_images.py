"""The defaults on own images: ``python -m benchmarks.own_images --images DIR --labels FILE.csv``.

Draws 200 nevi, 60 melanomas and 40 basal cell carcinomas of HAM10000, each of another lesion, links
them into a folder per class, and runs ``python train.py --dataset folder:DIR`` on it with a split
seed and no other setting. The macro F1 of the test part is compared with that of the constant
answer, the most frequent class for every image. CPU seconds over the number of cores are a lower
limit of the time on a quiet machine.

Runs that are finished in ``--work-dir`` are read and not trained again.
"""

import csv
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.record import record
from lmf_jax.errors import UserError, run_command

ROOT = Path(__file__).parents[1]
CLASSES = {"nv": 200, "mel": 60, "bcc": 40}
"""Images of each class."""


@dataclass(frozen=True)
class Options:
    """Train on a small folder of images with the default settings."""

    images: str
    """The folder of the images of HAM10000, <image_id>.jpg."""
    labels: str
    """HAM10000_metadata.csv, with the columns image_id, lesion_id and dx."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the split."""
    work_dir: str = "runs/own_images"
    """The folder of the drawn images and of the runs."""


def main() -> None:
    """Train with every split seed and print the table."""
    options = tyro.cli(Options)
    work_dir = Path(options.work_dir).absolute()
    folder = work_dir / "images"
    link_images(Path(options.images).absolute(), draw_images(Path(options.labels)), folder)
    rows = list(measure(folder, work_dir, options.seeds))
    median = statistics.median(row["gain"] for row in rows)
    record("own_images", rows, median_gain=median, classes=CLASSES)
    print(f"median gain over the constant answer: {median:.3f}")


def draw_images(labels: Path) -> dict[str, list[str]]:
    """Return the ids of the drawn images by class; no two are of one lesion.

    Args:
        labels: A CSV file with the columns ``image_id``, ``lesion_id`` and ``dx``.

    Raises:
        UserError: If the file cannot be read, or a class has too few lesions.
    """
    try:
        with labels.open(newline="") as file:
            lesion_of = {
                (row["dx"], row["image_id"]): row["lesion_id"] for row in csv.DictReader(file)
            }
    except (OSError, KeyError) as error:
        raise UserError(
            f"{labels} cannot be read ({error}); expected the columns image_id, lesion_id and dx."
        ) from error
    rng, seen = random.Random(0), set()
    drawn: dict[str, list[str]] = {}
    for name, count in CLASSES.items():
        ids = sorted(image for dx, image in lesion_of if dx == name)
        rng.shuffle(ids)
        chosen = drawn[name] = []
        for image in ids:
            lesion = lesion_of[name, image]
            if len(chosen) < count and lesion not in seen:
                seen.add(lesion)
                chosen.append(image)
        if len(chosen) < count:
            raise UserError(f"{labels} has {len(chosen)} lesions of {name}; expected {count}.")
    return drawn


def link_images(images: Path, drawn: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Make a folder with one subfolder of links per class.

    Raises:
        UserError: If an image is missing.
    """
    for name, ids in drawn.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for image in ids:
            source, link = images / f"{image}.jpg", folder / name / f"{image}.jpg"
            if not source.is_file():
                raise UserError(f"There is no image {source}; give the folder of HAM10000.")
            if not link.is_symlink():
                link.symlink_to(source)


def measure(folder: Path, work_dir: Path, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the row of each split seed; train the runs that are missing."""
    for seed in seeds:
        run_dir = work_dir / f"split-{seed}"
        cost_file = work_dir / f"split-{seed}.json"
        if not cost_file.exists():
            cost_file.write_text(json.dumps(train(folder, run_dir, seed)))
        test = json.loads((run_dir / "test.json").read_text())
        config = json.loads((run_dir / "config.json").read_text())["config"]
        constant = constant_macro_f1([row["support"] for row in test["per_class"].values()])
        yield {
            "split seed": seed,
            "macro F1": test["macro_f1"],
            "constant answer": constant,
            "gain": test["macro_f1"] - constant,
            "model": config["model"],
            "epochs": config["epochs"],
            "image size": config["image_size"],
            **json.loads(cost_file.read_text()),
        }


def train(folder: Path, run_dir: Path, seed: int) -> dict[str, float]:
    """Run ``train.py`` and return its time and the load of the machine before it."""
    command = [sys.executable, "train.py", "--dataset", f"folder:{folder}"]
    command += ["--split-seed", str(seed), "--run-dir", str(run_dir)]
    load, start, cpu = os.getloadavg()[0], time.perf_counter(), child_seconds()
    subprocess.run(command, cwd=ROOT, check=True)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "CPU seconds": child_seconds() - cpu, "load before": load}


def child_seconds() -> float:
    """Return the CPU time of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def constant_macro_f1(counts: Sequence[int]) -> float:
    """Return the macro F1 of answering the most frequent class for every image.

    Args:
        counts: Test images per class.
    """
    largest, total = max(counts), sum(counts)
    return 2 * largest / (largest + total) / len(counts)


if __name__ == "__main__":
    run_command("benchmarks.own_images", main)
