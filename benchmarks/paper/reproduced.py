"""What finished runs say, with the noise in it: means over seeds, intervals, paired differences.

All figures are fractions; the tables turn them into percent.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.paper.runs import Run
from lmf_jax.cli.command_line import parse_config
from lmf_jax.config import run_only_keys
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.comparison import compare_runs
from lmf_jax.evaluation.classification.run import FinishedRun, read_run
from lmf_jax.evaluation.statistics import holm, mean_over_seeds
from lmf_jax.runs.files import best_epoch


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its 95 % interval; a class without test images has none."""

    value: float
    low: float | None
    high: float | None

    def holds(self, value: float) -> bool:
        """Whether a value lies in the interval."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Difference:
    """By how much the macro F1 of a loss is larger than that of another, the mean over seeds.

    Attributes:
        images: With its interval, were the test images others.
        seeds: With its interval over the seeds, on these images; None with fewer than two.
        p: Two-sided, of the images, corrected by Holm's method for all differences of a table.
    """

    images: Interval
    seeds: Interval | None
    p: float

    def holds(self, value: float) -> bool:
        """Whether a value lies in one of the intervals."""
        return any(noise.holds(value) for noise in (self.images, self.seeds) if noise is not None)


@dataclass(frozen=True)
class Group:
    """The finished runs of a loss, which differ in their seed alone.

    Attributes:
        loss: A name that ``--loss`` takes.
        weights: Alpha and beta of "lmf"; None for another loss.
        folders: By seed, at least one.
        runs: What lies in them, by seed.
    """

    loss: str
    weights: tuple[float, float] | None
    folders: Mapping[int, Path]
    runs: Mapping[int, FinishedRun]

    @cached_property
    def validation_macro_f1(self) -> float:
        """The best validation macro F1 of a run, the mean over the seeds."""
        return mean(best_epoch(run.history)["val_macro_f1"] for run in self.runs.values())

    def score(self, metric: str) -> Interval:
        """Return a test metric with its interval.

        Of one run the interval is that of ``test.json``, over the test images. Of several it
        is Student's t over the seeds.

        Args:
            metric: A key of ``test.json``.
        """
        tests = [run.test for run in self.runs.values()]
        return _interval([test[metric] for test in tests], tests[0]["intervals"][metric])

    def class_f1(self, name: str) -> Interval:
        """Return the F1 of a class with its interval, as :meth:`score` does.

        Args:
            name: Of the class.
        """
        tests = [run.test for run in self.runs.values()]
        of_one = tests[0]["intervals"]["per_class"][name]["f1"]
        return _interval([test["per_class"][name]["f1"] for test in tests], of_one)


def _interval(values: Sequence[float], of_one: Sequence[float] | None) -> Interval:
    if len(values) > 1:
        over_seeds = mean_over_seeds(values)
        return Interval(over_seeds.mean, over_seeds.low, over_seeds.high)
    low, high = of_one or (None, None)
    return Interval(values[0], low, high)


def read_group(
    loss: str, weights: tuple[float, float] | None, runs: Mapping[int, Run]
) -> Group | None:
    """Read the runs of a loss that are finished.

    Args:
        loss: A name that ``--loss`` takes.
        weights: Alpha and beta of "lmf"; None for another loss.
        runs: By seed.

    Returns:
        The group; None if none is finished.

    Raises:
        UserError: If a folder is broken, or holds a run with other settings.
    """
    finished = {seed: run for seed, run in runs.items() if run.is_finished}
    if not finished:
        return None
    folders = {seed: run.folder for seed, run in finished.items()}
    return Group(loss, weights, folders, {seed: _read(run) for seed, run in finished.items()})


def _read(run: Run) -> FinishedRun:
    """Read a run and check that it was trained with what its flags say."""
    read, asked = read_run(run.folder), parse_config(run.flags)
    for name, value in asked.record().items():
        found = read.config.get(name)
        if name in run_only_keys() and name != "dataset":
            continue
        if value is not None and _on_any_machine(value) != _on_any_machine(found):
            raise UserError(
                f"{run.folder} was trained with {name} {found}, but {value} is asked for; "
                "give another --runs-dir, or move the folder away."
            )
    return read


def _on_any_machine(value: Any) -> Any:
    """Return a setting, of a file the name alone: where the run was trained it lay elsewhere."""
    return Path(value).name if isinstance(value, str) else value


def macro_f1_differences(
    ours: Sequence[Group], others: Sequence[Group]
) -> list[tuple[Group, Group, Difference]]:
    """Return how much larger the test macro F1 of each of our groups is than that of each other.

    Only the seeds that two losses share are compared, where they share any.

    Args:
        ours: The groups that the others are subtracted from.
        others: At least one.

    Returns:
        A group of ours, another one and their difference, in this order.

    Raises:
        UserError: If two runs differ in their data, their split or their test images, or those of
            one loss in more than their seed.
    """
    found = [
        (group, other, difference)
        for group in ours
        for other, difference in zip(others, _uncorrected(group, others), strict=True)
    ]
    corrected = holm([difference.p for _, _, difference in found])
    return [
        (group, other, dataclasses.replace(difference, p=p))
        for (group, other, difference), p in zip(found, corrected, strict=True)
    ]


def _uncorrected(ours: Group, others: Sequence[Group]) -> list[Difference]:
    groups = [ours, *others]
    comparison = compare_runs([folder for group in groups for folder in group.folders.values()])
    if [len(found.seeds) for found in comparison.run_groups] != [
        len(group.runs) for group in groups
    ]:
        raise UserError(
            "The runs of one loss differ in more than their seed: "
            f"{'; '.join(found.name for found in comparison.run_groups)}. Train them with one "
            "command."
        )
    differences = []
    for pair in comparison.pairs:
        if pair.first == 0:
            _, low, high, p = pair.macro_f1
            images = Interval(pair.macro_f1.difference, low, high)
            seeds = None if pair.over_seeds is None else Interval(*pair.over_seeds[:3])
            differences.append(Difference(images, seeds, p))
    return differences
