"""Subgroups of a segmentation test by the scores of its cases."""

import json

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation import write_report
from lmf_jax.evaluation.segmentation.metrics import overlap_metrics
from lmf_jax.evaluation.segmentation.run import read_run
from lmf_jax.evaluation.segmentation.subgroups import (
    SUBGROUP_METRICS,
    summarize_case_subgroups,
)
from lmf_jax.evaluation.subgroup_results import write_subgroups
from tests.helpers.degenerate import nonsense_in
from tests.helpers.segmentation_run import write_run

N = 40


def make_counts(hits: np.ndarray, classes: int = 3) -> np.ndarray:
    """Return counts of cases with this number of 100 pixels of each foreground class found."""
    counts = np.zeros((len(hits), classes, 3), np.int64)
    counts[:, :, 0] = hits[:, None]
    counts[:, :, 2] = 100 - hits[:, None]
    return counts


def of_column(content: dict, name: str) -> list[dict]:
    return content["columns"][name]["subgroups"]


def test_a_subgroup_has_the_mean_over_its_cases_and_foreground_classes() -> None:
    counts = make_counts(np.random.default_rng(0).integers(20, 100, N))
    counts[:, 0, 0] = 0  # the background does not count
    counts[:, 2, 1] = 50
    site = np.where(np.arange(N) % 3 == 0, "head", "hand")
    site[:4] = ""
    groups = np.array([f"patient {number // 2}" for number in range(N)])
    content = summarize_case_subgroups(counts, {"site": site}, groups)
    assert (content["examples"], content["drawn"]) == ("cases", "groups")
    assert content["columns"]["site"]["unknown"] == 4
    hand, head = of_column(content, "site")
    overlaps = overlap_metrics(counts)
    of_case = {name: overlaps[name][:, 1:].mean(1) for name in ("dsc", "iou")}
    for name, values in of_case.items():
        assert hand[name] == pytest.approx(values[site == "hand"].mean())
        low, high = hand["intervals"][name]
        assert 0 <= low < hand[name] < high <= 1
    assert hand["units"] < hand["images"] == (site == "hand").sum()
    assert head["units"] == head["images"]
    rest = of_case["dsc"][site == "head"].mean() - of_case["dsc"][site == "hand"].mean()
    assert head["difference"] == pytest.approx(rest)


def test_a_site_with_worse_masks_is_found_and_a_random_one_is_not() -> None:
    hits = np.random.default_rng(1).integers(70, 95, N)
    scanner = np.where(np.arange(N) < 12, "old", "new")
    hits[:12] -= 40
    coin = np.random.default_rng(2).choice(["x", "y"], N)
    content = summarize_case_subgroups(make_counts(hits), {"scanner": scanner, "coin": coin})
    _, old = of_column(content, "scanner")
    assert old["difference"] < -0.2 and old["corrected_p_value"] < 0.01
    assert of_column(content, "coin")[0]["corrected_p_value"] > 0.1


def test_nothing_is_told_without_metadata() -> None:
    assert summarize_case_subgroups(make_counts(np.full(N, 50)), {}) is None


HITS = {
    "perfect": np.full(N, 100),
    "nothing found": np.zeros(N, np.int64),
    "all equal": np.full(N, 37),
    "one case": np.array([80]),
    "two cases": np.array([0, 100]),
}


@pytest.mark.parametrize("kind", HITS)
@pytest.mark.parametrize("classes", [2, 31])
def test_degenerate_tests_are_written_read_and_printed(kind: str, classes: int, tmp_path) -> None:
    hits = HITS[kind]
    n = len(hits)
    alone = np.array(["f", *["m"] * (n - 1)])
    metadata = {"alone": alone, "unknown": np.full(n, ""), "id": np.arange(n).astype(str)}
    metadata["<b>é, ü</b>"] = np.where(np.arange(n) % 2, "$a_b$ {x} %s", "<i>&")
    groups = np.full(n, "one patient") if kind == "all equal" else None
    content = summarize_case_subgroups(make_counts(hits, classes), metadata, groups)
    write_subgroups(tmp_path, content)
    again = SUBGROUP_METRICS.read(tmp_path, n)
    assert again == content
    for subgroup in (row for column in again["columns"].values() for row in column["subgroups"]):
        low, high = subgroup["intervals"]["dsc"]
        assert low <= subgroup["dsc"] <= high
        if kind not in ("one case", "two cases"):  # equal scores
            assert subgroup["difference"] == pytest.approx(0, abs=1e-12)
            assert subgroup["corrected_p_value"] == 1
    text = SUBGROUP_METRICS.format(tmp_path, n, list(metadata))
    assert "classes of both" not in text
    assert nonsense_in(text) == []
    assert max(map(len, text.splitlines())) <= 80


def test_the_report_has_a_section_and_refuses_the_file_of_another_test(tmp_path) -> None:
    run_dir = write_run(tmp_path / "run")
    write_report(run_dir)
    assert "<h2>Subgroups</h2>" not in (run_dir / "report.html").read_text()
    run = read_run(run_dir)
    sex = np.where(np.arange(len(run.ids)) % 2, "m", "f")
    sex[0] = ""
    write_subgroups(run_dir, summarize_case_subgroups(run.counts, {"sex": sex}, run.groups))
    write_report(run_dir)
    page = (run_dir / "report.html").read_text()
    section = page[page.index("<h2>Subgroups</h2>") :].partition("</section>")[0]
    assert "(unknown for 1 cases)" in section and "mean DSC" in section
    assert "of a class" not in section and "over the" not in section.partition("<p")[2]
    assert nonsense_in(section) == []

    content = json.loads((run_dir / "subgroups.json").read_text())
    content["columns"]["sex"]["unknown"] = 2
    (run_dir / "subgroups.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"subgroups\.json"):
        write_report(run_dir)
