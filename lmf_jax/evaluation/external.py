"""Tests of a run on other datasets, in the subfolders ``external/<name>`` of its folder."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lmf_jax.errors import UserError
from lmf_jax.evaluation.subgroup_results import SubgroupMetrics
from lmf_jax.runs.atomic_files import write_atomically
from lmf_jax.runs.files import check, is_fraction, is_whole, parse, read_text, require

FOLDER = "external"
RECORD_FILE = "external.json"


class Change(NamedTuple):
    """A metric of two tests and its change from the first to the second, with an interval."""

    own: float
    other: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class ExternalTest:
    """Test of a run on another dataset.

    Attributes:
        name: Name of its folder.
        record: Contents of ``external.json``.
        test: Contents of ``test.json``.
        subgroups: Contents of ``subgroups.json``; None if the images have no metadata.
    """

    name: str
    record: Mapping[str, Any]
    test: Mapping[str, Any]
    subgroups: Mapping[str, Any] | None = None

    @property
    def averaging_note(self) -> str:
        """A sentence if this test averages predictions, which the run's own does not; else ""."""
        averaged = self.record.get("predictions_per_image", 1)
        if averaged == 1:
            return ""
        return (
            f"Here each image has the mean of {averaged} predictions, in the own test that of one "
            "model: a part of the change is due to that."
        )


def make_folder(folder: Path) -> None:
    """Make the folder of an external test, or raise UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be made: {error.strerror}.") from error


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write ``external.json``."""
    write_atomically(folder / RECORD_FILE, json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_records(run_dir: str | Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the path and the contents of each ``external.json`` of a run, sorted by name.

    Raises:
        UserError: If a file is unreadable or lacks the keys that all tasks write.
    """
    folder = Path(run_dir) / FOLDER
    for path in sorted(folder.glob(f"*/{RECORD_FILE}")) if folder.is_dir() else ():
        record = parse(path, read_text(path))
        require(path, record, ("dataset", "images", "leakage", "where", "transfer"))
        check(path, isinstance(record["dataset"], str), "its dataset is not a name")
        is_condition = record["where"] is None or isinstance(record["where"], str)
        check(path, is_condition, "its where is not a condition")
        require(path, record["leakage"], ("checked",), "its leakage")
        if record["leakage"]["checked"]:
            require(path, record["leakage"], ("images",), "its leakage")
            check(path, is_whole(record["leakage"]["images"]), "its leakage is not a count")
        check(path, is_whole(record["images"], 1), "its images are not a count")
        averaged = record.get("predictions_per_image", 1)  # earlier records lack it
        check(path, is_whole(averaged, 1), "its predictions_per_image are not a count")
        yield path, record


def read_tests(
    run_dir: str | Path,
    class_names: Sequence[str],
    check_record: Callable[[Path, Mapping[str, Any], Sequence[str]], None],
    read_tested: Callable[[Path, Sequence[str]], tuple[Any, dict[str, Any]]],
    subgroup_metrics: SubgroupMetrics,
) -> list[ExternalTest]:
    """Read all external tests of a run, sorted by name; none if there are none.

    Args:
        run_dir: The folder of the run.
        class_names: Names of the classes or labels of the run.
        check_record: Raises UserError unless ``external.json`` is complete and possible.
        read_tested: Reads the examples and ``test.json`` of the folder of a test.
        subgroup_metrics: Those of the task.

    Raises:
        UserError: If a file is missing or broken; the message names it.
    """
    tests = []
    for path, record in read_records(run_dir):
        check_record(path, record, class_names)
        examples, test = read_tested(path.parent, class_names)
        subgroups = subgroup_metrics.read(path.parent, len(examples.ids))
        tests.append(
            ExternalTest(name=path.parent.name, record=record, test=test, subgroups=subgroups)
        )
    return tests


def check_change(path: Path, change: Any, *, is_optional: bool = False) -> None:
    """Raise UserError unless ``change`` has the values and the interval of a changed metric."""
    if change is None and is_optional:
        return
    keys = ("own", "other", "difference", "low", "high")
    require(path, change, keys, "a change in it")
    check(path, all(is_fraction(change[key]) for key in keys), "a change in it is impossible")
