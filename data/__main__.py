"""``python -m data prepare`` and ``python -m data audit``: what comes before training."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated

import tyro

from data.audit import audit_splits, format_audit
from data.labels import Labels
from data.names import DOWNLOADS, parse_name
from data.prepare import class_table, differences, open_dataset, overlaps, prepare
from data.storage import building, replacing
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError, run_command


@dataclass(frozen=True)
class Prepare:
    """Check every image of a download and prepare it; an interrupted run can be run again."""

    name: Annotated[str, tyro.conf.Positional]
    """The dataset."""
    raw_dir: str | None = None
    """The folder of the download, for a dataset that is one."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets."""
    skip_broken: bool = False
    """Leave out images that are missing or cannot be decoded, and write down which."""


@dataclass(frozen=True)
class Audit:
    """Print the class counts of each part, and which test images share a lesion or patient."""

    name: Annotated[str, tyro.conf.Positional]
    """The dataset."""
    labels_only: bool = False
    """Read the label files in --raw-dir, no image, and no prepared dataset."""
    raw_dir: str | None = None
    """The folder of the download."""
    split_seed: int = 0
    """The seed of the splits."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets; audits/NAME/audit.json is written there."""


def run_prepare(options: Prepare) -> None:
    """Prepare a dataset and print its classes, and where they differ from what is published."""
    data_dir = Path(options.data_dir).expanduser()
    raw_dir = _raw_dir(options.name, options.raw_dir)
    prepared = prepare(options.name, raw_dir, data_dir, skip_broken=options.skip_broken)
    print(class_table(prepared))
    for line in differences(options.name, prepared) + overlaps(options.name, prepared, data_dir):
        print(line)


def run_audit(options: Audit) -> None:
    """Print a table for each split and write ``audit.json``."""
    data_dir = Path(options.data_dir).expanduser()
    labels = labels_of(options, data_dir)
    audits = audit_splits(labels, options.split_seed)
    print("\n\n".join(map(format_audit, audits)))
    print("".join(f"{line}\n" for line in overlaps(options.name, labels, data_dir)), end="")
    folder = re.sub(r"[^\w.-]+", "-", options.name)
    path = data_dir / "audits" / folder / "audit.json"
    with building(path), replacing(path) as file:
        file.write(json.dumps([asdict(found) for found in audits], indent=2).encode() + b"\n")
    print(f"written to {path}")


def labels_of(options: Audit, data_dir: Path) -> Labels:
    """Return the labels that the options ask for.

    Raises:
        UserError: If the options do not fit each other, or there are no such labels.
    """
    if not options.labels_only:
        if options.raw_dir is not None:
            raise UserError("--raw-dir goes with --labels-only; a prepared dataset needs none.")
        return open_dataset(options.name, data_dir)
    raw = _raw_dir(options.name, options.raw_dir) or parse_name(options.name).path
    if raw is None:
        raise UserError(f"{options.name} has no label files; leave --labels-only out.")
    labels = import_module(f"data.{parse_name(options.name).kind}.labels").read_labels(raw)
    assert isinstance(labels, Labels)
    return labels


def _raw_dir(name: str, raw_dir: str | None) -> Path | None:
    """Return the folder of a download; None for a dataset that is none.

    Raises:
        UserError: If it was not given for a download, or given for something else.
    """
    parse_name(name)
    if (name in DOWNLOADS) != (raw_dir is not None):
        needs = (
            "needs --raw-dir, the folder of the download"
            if raw_dir is None
            else ("takes no --raw-dir, which is for a download")
        )
        raise UserError(f"{name} {needs}.")
    return None if raw_dir is None else Path(raw_dir).expanduser()


def main() -> None:
    """Run the command that the command line names."""
    commands: dict[str, Callable[..., Prepare | Audit]] = {"prepare": Prepare, "audit": Audit}
    options = tyro.extras.subcommand_cli_from_dict(commands, prog="python -m data")
    if isinstance(options, Prepare):
        run_prepare(options)
    else:
        run_audit(options)


if __name__ == "__main__":
    run_command("python -m data", main)
