"""Results of finished runs: means over seeds, intervals and paired differences, as fractions."""

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
    """A value with its 95 % interval, which a class without test images lacks."""

    value: float
    low: float | None
    high: float | None

    def contains(self, value: float) -> bool:
        """Return whether a value lies in the interval."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high


@dataclass(frozen=True)
class Difference:
    """Difference of the macro F1 of two losses, the mean over seeds.

    Attributes:
        images: The difference with its interval over samples of test images.
        seeds: The difference with its interval over seeds; None with fewer than two.
        p: Two-sided p-value over test images, with Holm's correction over a table.
    """

    images: Interval
    seeds: Interval | None
    p: float

    def contains(self, value: float) -> bool:
        """Return whether a value lies in one of the intervals."""
        intervals = (self.images, self.seeds)
        return any(interval.contains(value) for interval in intervals if interval is not None)


@dataclass(frozen=True)
class Group:
    """The finished runs of a loss, which differ only in the seed.

    Attributes:
        loss: A name of ``--loss``.
        weights: Alpha and beta of "lmf"; None for another loss.
        folders: The run folders by seed, at least one.
        runs: The runs by seed.
    """

    loss: str
    weights: tuple[float, float] | None
    folders: Mapping[int, Path]
    runs: Mapping[int, FinishedRun]

    @cached_property
    def validation_macro_f1(self) -> float:
        """The mean over the seeds of the best validation macro F1 of a run."""
        return mean(best_epoch(run.history)["val_macro_f1"] for run in self.runs.values())

    def score(self, metric: str) -> Interval:
        """Return a test metric with its interval.

        The interval of one run is that of ``test.json``, over the test images. That of several
        runs is Student's t over the seeds.

        Args:
            metric: A key of ``test.json``.
        """
        tests = [run.test for run in self.runs.values()]
        return _interval([test[metric] for test in tests], tests[0]["intervals"][metric])

    def class_f1(self, name: str) -> Interval:
        """Return the F1 of a class, given by name, with its interval, see :meth:`score`."""
        tests = [run.test for run in self.runs.values()]
        over_images = tests[0]["intervals"]["per_class"][name]["f1"]
        return _interval([test["per_class"][name]["f1"] for test in tests], over_images)


def _interval(values: Sequence[float], over_images: Sequence[float] | None) -> Interval:
    if len(values) > 1:
        over_seeds = mean_over_seeds(values)
        return Interval(over_seeds.mean, over_seeds.low, over_seeds.high)
    low, high = over_images or (None, None)
    return Interval(values[0], low, high)


def read_group(
    loss: str, weights: tuple[float, float] | None, runs: Mapping[int, Run]
) -> Group | None:
    """Read the finished runs of a loss.

    Args:
        loss: A name of ``--loss``.
        weights: Alpha and beta of "lmf"; None for another loss.
        runs: The runs by seed.

    Returns:
        The group; None if no run is finished.

    Raises:
        UserError: If a run is broken or has other settings.
    """
    finished = {seed: run for seed, run in runs.items() if run.is_finished}
    if not finished:
        return None
    folders = {seed: run.folder for seed, run in finished.items()}
    return Group(loss, weights, folders, {seed: _read(run) for seed, run in finished.items()})


def _read(run: Run) -> FinishedRun:
    """Read a run and check that it was trained with its flags."""
    finished, expected = read_run(run.folder), parse_config(run.flags)
    for name, value in expected.record().items():
        found = finished.config.get(name)
        if name in run_only_keys() and name != "dataset":
            continue
        if value is not None and _without_folder(value) != _without_folder(found):
            raise UserError(
                f"{run.folder} was trained with {name} {found}; expected {value}: give another "
                "--runs-dir, or move the folder away."
            )
    return finished


def _without_folder(value: Any) -> Any:
    """Return a setting, without the folder of a file, which depends on the machine."""
    return Path(value).name if isinstance(value, str) else value


def macro_f1_differences(
    ours: Sequence[Group], others: Sequence[Group]
) -> list[tuple[Group, Group, Difference]]:
    """Return the difference of the test macro F1 of each of ``ours`` to each of ``others``.

    If two losses have common seeds, only these are compared.

    Args:
        ours: The groups from which the others are subtracted.
        others: The other groups, at least one.

    Returns:
        Triples of one of ``ours``, one of ``others`` and their difference.

    Raises:
        UserError: If two runs differ in their data, split or test images, or those of one loss in
            more than their seed.
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
