"""``python -m data prepare`` and ``python -m data audit``: what comes before training."""

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from data.audit import audit_splits, format_audit
from data.datasets import DEFAULTS
from data.labels import Labels
from data.prepare import class_table, differences, prepare
from data.prepared import open_prepared
from data.storage import building, replacing
from lmf_jax.config import DEFAULT_DATA_DIR
from lmf_jax.errors import UserError, run_command

DOWNLOADS = ("ham10000", "isic2019", "odir5k")
"""The datasets that are downloaded by hand, read by ``data/<name>/labels.py``."""


@dataclass(frozen=True)
class Prepare:
    """Check every image of a download and prepare it; an interrupted run can be run again."""

    name: Annotated[str, tyro.conf.Positional]
    """The dataset."""
    raw_dir: str
    """The folder of the download."""
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
    """Prepare a download and print its classes, and where they differ from the paper's."""
    download = download_of(options.name)
    data_dir = Path(options.data_dir).expanduser()
    raw_dir = Path(options.raw_dir).expanduser()
    prepared = prepare(options.name, raw_dir, data_dir, skip_broken=options.skip_broken)
    print(class_table(prepared))
    print(
        "\n".join(differences(prepared, download.PAPER_COUNTS)) or "as many images as in the paper"
    )


def run_audit(options: Audit) -> None:
    """Print a table for each split and write ``audit.json``."""
    data_dir = Path(options.data_dir).expanduser()
    labels = labels_of(options, data_dir)
    audits = audit_splits(labels, options.split_seed)
    print("\n\n".join(map(format_audit, audits)))
    path = data_dir / "audits" / options.name / "audit.json"
    with building(path), replacing(path) as file:
        file.write(json.dumps([asdict(found) for found in audits], indent=2).encode() + b"\n")
    print(f"written to {path}")


def labels_of(options: Audit, data_dir: Path) -> Labels:
    """Return the labels that the options ask for.

    Raises:
        UserError: If the options do not fit each other, or there are no such labels.
    """
    if options.labels_only != (options.raw_dir is not None):
        raise UserError("--labels-only and --raw-dir go together; give both or none.")
    if options.raw_dir is not None:
        return download_of(options.name).read_labels(Path(options.raw_dir).expanduser())
    if options.name not in DEFAULTS:
        raise UserError(
            f"There is no prepared dataset {options.name!r}; choose {', '.join(DEFAULTS)}, or give "
            "--labels-only and --raw-dir."
        )
    prepared = open_prepared(options.name, data_dir)
    return Labels(prepared.class_names, prepared.ids, prepared.labels, prepared.groups)


def download_of(name: str) -> Any:
    """Return the module that reads the download of this name.

    Raises:
        UserError: If there is none.
    """
    if name not in DOWNLOADS:
        raise UserError(f"There is no download {name!r} to read; choose {', '.join(DOWNLOADS)}.")
    return importlib.import_module(f"data.{name}.labels")


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
