from pathlib import Path

import pytest

from data import Dataset, load_dataset


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def digits(data_dir: Path) -> Dataset:
    return load_dataset("digits_lt", data_dir=data_dir)
