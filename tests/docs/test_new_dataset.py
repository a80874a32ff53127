"""The dataset of docs/extending.md: its code is saved in a folder, prepared and loaded."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data.datasets
from data import load_dataset
from data.__main__ import Audit, Prepare, run_audit, run_prepare
from data.names import parse_name
from data.registry import default_settings, registered_datasets
from lmf_jax.cli.command_line import parse_config
from lmf_jax.errors import UserError

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
CODE = re.search(r"## A new dataset\n.*?```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]


@pytest.fixture
def mydata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put the documented module beside the datasets of the checkout."""
    folder = tmp_path / "datasets" / "mydata"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(CODE)
    monkeypatch.setattr(data.datasets, "__path__", [*data.datasets.__path__, str(folder.parent)])
    registered_datasets.cache_clear()
    yield
    registered_datasets.cache_clear()
    sys.modules.pop("data.datasets.mydata", None)
    if hasattr(data.datasets, "mydata"):
        del data.datasets.mydata


@pytest.fixture
def raw_dir(tmp_path: Path) -> Path:
    """Return a download of 40 images of 20 patients."""
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    lines = ["image,class,patient"]
    for number in range(40):
        lines.append(f"img{number},{('benign', 'malignant')[number % 4 == 0]},{number // 2}")
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"img{number}.png")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_the_example_has_fewer_than_thirty_lines() -> None:
    assert len(CODE.splitlines()) < 30


@pytest.mark.usefixtures("mydata")
def test_the_documented_dataset_is_prepared_audited_and_loaded(
    raw_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = str(tmp_path / "prepared")
    with pytest.raises(UserError, match=r"mydata is not prepared in .*; download it and run"):
        load_dataset("mydata", data_dir=prepared)
    run_prepare(Prepare("mydata", raw_dir=str(raw_dir), data_dir=prepared))
    assert capsys.readouterr().out.split()[:4] == ["benign", "30", "malignant", "10"]

    dataset = load_dataset("mydata", data_dir=prepared, split="grouped")
    assert dataset.class_names == ("benign", "malignant")
    assert np.bincount(dataset.labels).tolist() == [30, 10]
    assert dataset.defaults == {"image_size": 64, "epochs": 20, "split": "grouped"}
    parts = [set(dataset.groups_of(part).tolist()) for part in ("train", "test")]
    assert parts[0].isdisjoint(parts[1])

    run_audit(Audit("mydata", data_dir=prepared))
    assert "0 of " in capsys.readouterr().out


@pytest.mark.usefixtures("mydata")
def test_the_documented_dataset_is_named_wherever_datasets_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = list(registered_datasets())
    assert names.index("isic2019") < names.index("mydata") < names.index("odir5k")
    assert default_settings("mydata") == {"image_size": 64, "epochs": 20}
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    assert "mydata: photographs of skin in two classes." in capsys.readouterr().out
    with pytest.raises(UserError, match=r"choose one of .*, mydata, .*, folder:PATH"):
        parse_name("nodata")


def test_the_documented_dataset_is_gone_after_the_tests() -> None:
    assert "mydata" not in registered_datasets()
