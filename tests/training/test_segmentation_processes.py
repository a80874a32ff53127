"""Two processes segment like one, even if one of them has no case."""

import json

import numpy as np
import pytest

from data.prepared.prepare_volumes import prepare_volumes
from tests.helpers.killed_training import start_together
from tests.helpers.volume_downloads import make_kits19

COMMON = ["--task", "segmentation", "--epochs", "1", "--learning-rate", "1e-4"]
RUNS = {
    "images": ["--dataset", "digits_masks", "--augment", "mirror", "--batch-size", "16"],
    "volumes": ["--dataset", "kits19", "--augment", "mirror", "--batch-size", "4"],
}
RUNS["images"] += ["--image-size", "32"]
RUNS["volumes"] += ["--patch-size", "8", "16", "16"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("processes")
    prepare_volumes("kits19", make_kits19(root / "raw"), root / "data")
    return root / "data"


def trained(run_dir, data_dir, processes, words):
    """Train to the end; return the row of the epoch and what was found in each case."""
    trainings = start_together(run_dir, data_dir, processes, *COMMON, *words)
    codes = [training.end() for training in trainings]
    printed = "\n".join(training.output.read_text() for training in trainings)
    assert codes == [0] * processes, printed
    assert printed.count("foreground mean") == 1  # the first process alone speaks
    with np.load(run_dir / "cases.npz") as cases:
        return json.loads((run_dir / "metrics.jsonl").read_text()), dict(cases)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_segment_as_one(name, data_dir, tmp_path):
    row, cases = trained(tmp_path / "one", data_dir, 1, RUNS[name])
    row_of_two, cases_of_two = trained(tmp_path / "two", data_dir, 2, RUNS[name])
    assert row_of_two.keys() == row.keys()
    for figure in ("train_loss", "val_loss"):
        assert row_of_two[figure] == pytest.approx(row[figure], rel=1e-4)
    assert row_of_two["val_dsc"] == pytest.approx(row["val_dsc"], abs=0.01)
    np.testing.assert_array_equal(cases_of_two["ids"], cases["ids"])
    # A pixel where two classes are as likely may fall to either.
    pixels = cases["counts"][:, :, [0, 2]].sum((1, 2))
    changed = np.abs(cases_of_two["counts"] - cases["counts"]).sum((1, 2))
    assert (changed <= 0.01 * pixels).all()
    assert len(np.unique(cases["counts"], axis=0)) == len(cases["counts"]), "all cases are alike"
