"""The CSV file of ``predict``: its path, and its lines."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from lmf_jax.errors import UserError


def table_path(output: str) -> Path:
    """Return the path of the CSV file.

    Args:
        output: The path as given.

    Raises:
        UserError: If it is not a CSV file in an existing folder.
    """
    table = Path(output).expanduser()
    if table.suffix.lower() != ".csv" or table.is_dir():
        raise UserError(f"--output {table} is not a CSV file; give a name that ends in .csv.")
    if not table.parent.is_dir():
        raise UserError(f"There is no folder {table.parent} to write {table.name} into.")
    return table


def write_table(table: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write the CSV file, or replace it at once."""
    from data.storage import replacing

    with replacing(table) as target:
        # Bytes of a file name that are not UTF-8 are written unchanged.
        file = io.TextIOWrapper(target, "utf-8", "surrogateescape", newline="")
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
        file.detach()
