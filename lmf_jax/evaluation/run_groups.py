"""Read runs that were tested on the same examples, and group those that differ only in the seed."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int, Integer

from lmf_jax.config import run_only_keys, with_defaults
from lmf_jax.errors import UserError
from lmf_jax.evaluation.formatting import format_setting
from lmf_jax.evaluation.resampling import Groups
from lmf_jax.evaluation.statistics import SeedMean, mean_difference_over_seeds, mean_over_seeds
from lmf_jax.runs.files import RunFiles, num_folds

MAX_FULLY_PAIRED = 4
"""Maximum number of groups of which all pairs are compared."""

Run = TypeVar("Run", bound=RunFiles)


class Estimate(NamedTuple):
    """A metric and the ends of its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RunGroup:
    """Runs whose settings are equal except for the seed.

    Attributes:
        name: The settings that distinguish it from the other groups.
        run_dirs: The folder of each run.
        seeds: The seed of each run.
        metrics: Metrics by their names in ``test.json``; None if a metric is undefined. A single
            run has its own values and intervals; several runs have means over seeds and
            t-intervals.
    """

    name: str
    run_dirs: tuple[Path, ...]
    seeds: tuple[int, ...]
    metrics: Mapping[str, Estimate | None]


@dataclass(frozen=True, kw_only=True)
class GroupPair:
    """Two groups of runs that are compared.

    Attributes:
        first: Index of a group.
        second: Index of the other group.
        seeds: The seeds that both have; if they share none, it is empty and all runs are compared.
        over_seeds: Mean difference over the shared seeds; None if they share fewer than two.
    """

    first: int
    second: int
    seeds: tuple[int, ...]
    over_seeds: SeedMean | None


@dataclass(frozen=True)
class ComparableRuns(Generic[Run]):
    """Runs that were tested on the same images or cases.

    Attributes:
        run_dirs: The folder of each run.
        runs: The contents of the folders.
        orders: For each run, the indices that bring its examples into the common order.
        groups: Lesion or patient of each example in the common order; None if no run has them.
    """

    run_dirs: Sequence[Path]
    runs: Sequence[Run]
    orders: Sequence[Int[np.ndarray, " n"]]
    groups: Groups | None


def read_runs(
    run_dirs: Sequence[str | Path], read_run: Callable[[Path], Run], examples: str
) -> ComparableRuns[Run]:
    """Read the runs to compare.

    Args:
        run_dirs: The folders that ``train.py`` wrote, at least two.
        read_run: Reads the folder of a finished run.
        examples: Plural noun for the test examples, for error messages.

    Raises:
        UserError: If a folder has no finished run or is repeated, if there are fewer than two, or
            if two runs differ in their data, their split or their test examples.
    """
    folders = [Path(run_dir) for run_dir in run_dirs]
    if len(folders) < 2:
        raise UserError("A comparison needs the folders of at least two runs.")
    resolved = [folder.resolve() for folder in folders]
    for index, folder in enumerate(folders):
        if resolved[index] in resolved[:index]:
            raise UserError(f"The run in {folder} is given twice; give each run once.")
    runs = [read_run(folder) for folder in folders]
    orders = [np.argsort(run.ids, kind="stable") for run in runs]
    for folder, run, order in zip(folders[1:], runs[1:], orders[1:], strict=True):
        if _is_cross_validation(run) != _is_cross_validation(runs[0]):
            raise UserError(
                f"Of {folders[0]} and {folder}, one is a cross-validation, which tested every "
                f"{examples[:-1]}, and the other a single run; compare two of a kind."
            )
        if not _have_same_data(runs[0], run):
            raise UserError(
                f"The runs in {folders[0]} and {folder} used different images, labels or splits; "
                "compare runs of one dataset and one split."
            )
        if not np.array_equal(run.ids[order], runs[0].ids[orders[0]]):
            raise UserError(
                f"The runs in {folders[0]} and {folder} were tested on different {examples}; "
                f"compare runs that were tested on the same {examples}."
            )
    groups = (
        run.groups[order] for run, order in zip(runs, orders, strict=True) if run.groups is not None
    )
    return ComparableRuns(folders, runs, orders, next(groups, None))


def shared_labels(comparable: ComparableRuns[Any]) -> Integer[np.ndarray, "n ..."]:
    """Return the labels of the test images in the common order of the runs.

    Args:
        comparable: Runs with ``labels``.

    Raises:
        UserError: If two runs used different labels of the same images.
    """
    labels, *others = (
        run.labels[order] for run, order in zip(comparable.runs, comparable.orders, strict=True)
    )
    for folder, other in zip(comparable.run_dirs[1:], others, strict=True):
        if not np.array_equal(other, labels):
            raise UserError(
                f"The runs in {comparable.run_dirs[0]} and {folder} used other labels of the same "
                "images; compare runs of one dataset."
            )
    return labels


def group_runs(
    comparable: ComparableRuns[Run], metrics: Iterable[str]
) -> tuple[list[list[int]], tuple[RunGroup, ...]]:
    """Group runs that differ only in the seed.

    Args:
        comparable: Output of :func:`read_runs`.
        metrics: Metrics of ``test.json`` to estimate for each group.

    Returns:
        The indices of the runs of each group, and the groups, in the order of their first runs.
    """
    members, metrics = _members(comparable.runs), list(metrics)
    run_groups = (
        RunGroup(
            name=name,
            run_dirs=tuple(comparable.run_dirs[index] for index in indices),
            seeds=tuple(_seed(comparable.runs[index]) for index in indices),
            metrics={
                metric: _estimate([comparable.runs[index] for index in indices], metric)
                for metric in metrics
            },
        )
        for name, indices in zip(_names(comparable, members), members, strict=True)
    )
    return members, tuple(run_groups)


def _is_cross_validation(run: RunFiles) -> bool:
    return num_folds({"config": run.config}) is not None


def _have_same_data(first: RunFiles, second: RunFiles) -> bool:
    """Return whether two runs used the same data and split.

    Two cross-validations with other folds may be compared: both tested every image. Their
    fingerprints cover the folds, so the names and the counts of the images have to do.
    """
    if first.dataset["fingerprint"] == second.dataset["fingerprint"]:
        return True
    runs = (first, second)
    folds = [[run.config.get(name) for name in ("folds", "split", "split_seed")] for run in runs]
    if not _is_cross_validation(first) or folds[0] == folds[1]:
        return False
    known = [
        (run.dataset["name"], run.dataset["class_names"], run.dataset["class_counts"]["test"])
        for run in runs
    ]
    return bool(known[0] == known[1])


def pair_groups(
    runs: Sequence[RunFiles],
    members: Sequence[Sequence[int]],
    scores: Float[np.ndarray, " runs"],
) -> Iterator[tuple[GroupPair, list[int], list[int]]]:
    """Yield the pairs of groups to compare, and the indices of the runs of both sides.

    All pairs, if there are at most four groups; else the first group with every other group.

    Args:
        runs: The runs.
        members: Indices of the runs of each group.
        scores: The metric of each run that is compared seed by seed.
    """
    for first, second in combinations(range(len(members)), 2):
        if first > 0 and len(members) > MAX_FULLY_PAIRED:
            continue
        seeds, a, b = _match_seeds(runs, members[first], members[second])
        over_seeds = (
            mean_difference_over_seeds(scores[a].tolist(), scores[b].tolist())
            if len(seeds) > 1
            else None
        )
        yield GroupPair(first=first, second=second, seeds=seeds, over_seeds=over_seeds), a, b


def _match_seeds(
    runs: Sequence[RunFiles], first: Sequence[int], second: Sequence[int]
) -> tuple[tuple[int, ...], list[int], list[int]]:
    """Return the seeds that two groups share and their runs; without any, all runs of both."""
    a, b = ({_seed(runs[index]): index for index in side} for side in (first, second))
    shared = tuple(seed for seed in a if seed in b)
    return shared, [a[seed] for seed in shared or a], [b[seed] for seed in shared or b]


def _members(runs: Sequence[RunFiles]) -> list[list[int]]:
    """Group the indices of runs with equal settings; a repeated seed starts another group."""
    members: dict[tuple[str, int], list[int]] = {}
    for index, run in enumerate(runs):
        settings = json.dumps(_settings(run), sort_keys=True)
        repeats = sum(
            _seed(earlier) == _seed(run) and _settings(earlier) == _settings(run)
            for earlier in runs[:index]
        )
        members.setdefault((settings, repeats), []).append(index)
    return list(members.values())


def _settings(run: RunFiles) -> dict[str, Any]:
    """Return the settings that a result depends on, without the seed."""
    ignored = {"seed"} | run_only_keys()
    return {
        name: value
        for name, value in with_defaults(run.config).items()
        if name not in ignored and value is not None
    }


def _seed(run: RunFiles) -> int:
    return int(run.config["seed"])


def _names(comparable: ComparableRuns[Run], members: Sequence[Sequence[int]]) -> list[str]:
    """Name each group by the settings in which the groups differ, or else by its first folder."""
    settings = [_settings(comparable.runs[indices[0]]) for indices in members]
    every = {name: None for group in settings for name in group}
    differing = [name for name in every if len({repr(g.get(name)) for g in settings}) > 1]
    differing.sort(key=lambda name: name not in ("model", "loss"))
    names = [
        ", ".join(
            ("" if name in ("model", "loss") else name.replace("_", " ") + " ")
            + format_setting(group.get(name))
            for name in differing
        )
        for group in settings
    ]
    return [
        name if name and names.count(name) == 1 else comparable.run_dirs[indices[0]].name
        for name, indices in zip(names, members, strict=True)
    ]


def _estimate(runs: Sequence[RunFiles], metric: str) -> Estimate | None:
    values = [run.test[metric] for run in runs]
    if None in values:
        return None
    if len(runs) == 1:
        return Estimate(values[0], *runs[0].test["intervals"][metric])
    over_seeds = mean_over_seeds(values)
    return Estimate(over_seeds.mean, over_seeds.low, over_seeds.high)
