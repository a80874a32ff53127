"""The table of segmentation losses agrees with the files of the runs."""

import pytest

from benchmarks.paper.runs import Run
from benchmarks.segmentation_tables import Options, result_rows, run_of
from lmf_jax.cli.command_line import parse_config
from lmf_jax.evaluation.segmentation.comparison import signed_rank_p
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics
from lmf_jax.evaluation.segmentation.run import read_run
from lmf_jax.evaluation.statistics import holm
from tests.helpers.segmentation_run import write_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    losses = {"ce": 1.0, "dice": 1.1, "lmf": 0.8, "combo": 1.02, "tversky": 0.95}
    runs = {}
    for loss, error in losses.items():
        path = write_run(folder / loss, {"loss": loss}, error=error)
        runs[Run(name=loss, folder=path, flags=())] = read_run(path)
    return runs


def test_every_row_is_of_its_own_run(finished):
    rows = result_rows(finished)
    for row, run in zip(rows, finished.values(), strict=True):
        assert row["loss"] == run.config["loss"]
        assert row["dsc"] == f"{run.test['dsc']:.3f}"
        assert row["best epoch"] == 4


def test_differences_are_to_the_first_and_corrected_by_holm(finished):
    rows, runs = result_rows(finished), list(finished.values())
    dsc = [overlap_metrics(run.counts)["dsc"][:, 1:].mean(axis=1) for run in runs]
    p_values = holm([signed_rank_p(dsc[0] - other) for other in dsc[1:]])
    assert rows[0]["dsc less the first's"] == ""
    for row, other, p in zip(rows[1:], dsc[1:], p_values, strict=True):
        difference, _, rest = row["dsc less the first's"].partition(" ")
        assert float(difference) == pytest.approx((other - dsc[0]).mean(), abs=6e-4)
        low, high = map(float, rest[1 : rest.index("]")].split(", "))
        assert low <= float(difference) <= high
        assert rest.endswith("<0.0001" if p < 1e-4 else f"p {p:.4f}")


def test_the_words_of_a_run_are_those_of_train():
    run = run_of(Options(losses=("mixed-focal",)), "mixed-focal")
    config = parse_config([*run.flags, *run.places])
    assert (config.data.task, config.loss.loss, config.data.image_size) == (
        "segmentation",
        "mixed-focal",
        128,
    )
