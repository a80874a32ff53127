"""The columns of ``evaluate RUN --subgroups``."""

from typing import Any

from lmf_jax.errors import UserError


def subgroup_columns(text: str, dataset: Any) -> list[str]:
    """Return the columns of ``--subgroups``, checked before the test, which takes a while.

    Args:
        text: Names of columns of the metadata, separated by commas.
        dataset: The dataset of the test.

    Raises:
        UserError: If the dataset has no such column.
    """
    columns = [column.strip() for column in text.split(",") if column.strip()]
    metadata = getattr(dataset, "metadata", {})  # volumes have none
    for column in columns:
        if column not in metadata:
            known = f"expected one or several of {', '.join(metadata)}"
            raise UserError(
                f"--subgroups names the column {column!r}; "
                f"{known if metadata else 'the dataset has no metadata'}."
            )
    return columns
