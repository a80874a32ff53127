"""Runs that are killed, starved or given broken files: ``python -m benchmarks.faults``.

First, ``train.py`` with a tiny model is killed by SIGKILL at a random moment and resumed; its
results must equal those of an uninterrupted run bit for bit. Then all tests marked ``fault`` are
run and counted. Both make the table of ``docs/reliability.md``.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tyro
from tqdm import tqdm

from benchmarks.record import record, table
from lmf_jax.errors import UserError, run_command
from tests.helpers.killed_training import difference, kill_at_a_random_moment, run_to_the_end, start

PAGE = Path(__file__).parent.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"
EPOCHS = ("--epochs", "2")


@dataclass(frozen=True)
class Options:
    """Try every fault that a run must survive, and record the outcomes."""

    pairs: int = 100
    """Runs that are killed once and resumed."""
    seed: int = 0
    """Seed of the moments of the kills."""

    def __post_init__(self) -> None:
        """Refuse a number of runs below 1."""
        if self.pairs < 1:
            raise UserError(f"--pairs is {self.pairs}; expected a whole number of at least 1.")


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Counter:
    """A pytest plugin that counts the passed and failed tests of every fault."""

    faults: dict[str, tuple[str, str]] = field(default_factory=dict)
    passed: dict[tuple[str, str], int] = field(default_factory=dict)
    failed: dict[tuple[str, str], int] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Record the fault of every marked test."""
        for item in items:
            marker = item.get_closest_marker("fault")
            if marker is not None:
                self.faults[item.nodeid] = marker.args

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a finished test."""
        fault = self.faults.get(report.nodeid)
        if fault is None:
            return
        if report.skipped:
            self.skipped.append(report.nodeid)
        elif report.failed:
            self.failed[fault] = self.failed.get(fault, 0) + 1
        elif report.when == "call":
            self.passed[fault] = self.passed.get(fault, 0) + 1

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for every fault, in the order of the tests."""
        return [
            {
                "fault": fault[0],
                "tried": self.passed.get(fault, 0) + self.failed.get(fault, 0),
                "what happened": fault[1],
                "as it should": self.passed.get(fault, 0),
            }
            for fault in dict.fromkeys(self.faults.values())
            if fault in self.passed or fault in self.failed
        ]


def main() -> None:
    """Try all faults and write the table."""
    options = tyro.cli(Options)
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "lmf-jax-faults")
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = killed_pairs(Path(folder), options.pairs, options.seed)
    counter = Counter()
    sys.stdout.flush()
    # pytest warns of modules imported before it; warnings within the tests are still errors.
    quietly = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    pytest.main(["-q", "-m", "fault", "-p", "no:cacheprovider", *quietly, "tests"], [counter])
    rows += counter.rows()
    record("faults", rows, skipped=counter.skipped)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(rows)}\n\n{END}{after}")
    print(f"the table stands in {PAGE}")


def killed_pairs(folder: Path, count: int, seed: int) -> list[dict[str, Any]]:
    """Kill and resume ``count`` runs; return a row for kills between saves, and one during."""
    data_dir, whole = folder / "data", folder / "whole"
    started = time.perf_counter()
    run_to_the_end(whole, data_dir, *EPOCHS)
    longest = (time.perf_counter() - started) / 4

    def pair(number: int) -> tuple[bool, str]:
        run_dir, rng = folder / f"killed-{number}", random.Random(seed + number)
        half_saved = kill_at_a_random_moment(start(run_dir, data_dir, *EPOCHS), rng, longest)
        run_to_the_end(run_dir, data_dir, *EPOCHS)
        return half_saved, difference(run_dir, whole)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        pairs = list(tqdm(threads.map(pair, range(count)), desc="killed and resumed", total=count))
    words = {False: "between two saves", True: "during a save"}
    return [
        {
            "fault": f"SIGKILL at a random moment, {words[half_saved]}",
            "tried": len(differences),
            "what happened": "resumed, it ended with the same bits as the run that was not killed",
            "as it should": differences.count(""),
        }
        for half_saved in words
        if (differences := [differs for half, differs in pairs if half == half_saved])
    ]


if __name__ == "__main__":
    run_command("benchmarks.faults", main)
