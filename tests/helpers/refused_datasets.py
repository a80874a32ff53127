"""Datasets of the user that cannot be opened."""

from pathlib import Path

import pytest

from data.prepared.prepare import open_dataset
from lmf_jax.errors import UserError


def refused(name: str, tmp_path: Path, message: str) -> None:
    """Check that a dataset is refused in one line, and that nothing is left of it."""
    with pytest.raises(UserError, match=message) as error:
        open_dataset(name, tmp_path / "data")
    assert "\n" not in str(error.value)
    written = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert {path.suffix for path in written} <= {".lock"}
