"""Subgroups of a test: bands, figures, notes, the file and its reader."""

import json
from pathlib import Path

import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.subgroups import (
    SUBGROUP_METRICS,
    SUBGROUP_TITLES,
    summarize_test_subgroups,
)
from lmf_jax.evaluation.posterior import metric_intervals
from lmf_jax.evaluation.statistics import holm
from lmf_jax.evaluation.subgroup_results import format_subgroups, write_subgroups
from lmf_jax.evaluation.subgroups import divide, subgroup_notes
from tests.helpers.degenerate import nonsense_in

N, CLASSES = 240, 3


def make_test(signal: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, N, p=[0.6, 0.3, 0.1]).astype(np.int32)
    logits = rng.normal(size=(N, CLASSES)).astype(np.float32)
    logits[np.arange(N), labels] += signal
    return labels, logits


def column(content: dict, name: str) -> list[dict]:
    return content["columns"][name]["subgroups"]


def test_ages_have_bands_and_other_numbers_quartiles() -> None:
    ages = np.array([*map(str, range(100)), "", "29.5"])
    banded = divide("age_approx", ages)
    assert banded.has_bands
    assert banded.order == ("below 30", "30 to 49", "50 to 69", "70 and above")
    assert [banded.values[i] for i in (29, 30, 49, 69, 70, 100, 101)] == [
        "below 30",
        "30 to 49",
        "30 to 49",
        "50 to 69",
        "70 and above",
        "",
        "below 30",
    ]
    quartiles = divide("percentage", ages[:100])
    assert quartiles.order == ("up to 24", "above 24 to 49", "above 49 to 74", "above 74")
    assert [list(quartiles.values).count(band) for band in quartiles.order] == [25] * 4


@pytest.mark.parametrize(
    ("values", "order", "has_bands"),
    [
        (["10", "9", "", "100"], ("9", "10", "100"), False),  # in the order of the numbers
        (["b", "a", "3"], ("3", "a", "b"), False),
        (["", ""], (), False),
        ([str(10 + i // 20) for i in range(13 * 20)], ("up to 13",), True),
        (["0"] * 90 + [str(i) for i in range(1, 14)], ("up to 0", "above 0"), True),
        ([f"{i}e400" for i in range(1, 20)], None, False),  # infinity is no number
    ],
)
def test_columns_of_other_kinds(values: list[str], order, has_bands: bool) -> None:
    found = divide("size", np.array(values))
    assert found.has_bands == has_bands
    assert order is None or found.order[: len(order)] == order
    assert set(found.values.tolist()) - {""} == set(found.order)


def test_a_subgroup_has_the_figures_of_its_images_alone() -> None:
    labels, logits = make_test()
    sex = np.where(np.arange(N) % 3 == 0, "m", "f")
    sex[:6] = ""
    groups = np.array([f"lesion {i // 2}" for i in range(N)])
    content = summarize_test_subgroups(labels, logits, {"sex": sex}, groups)
    assert content["columns"]["sex"]["unknown"] == 6
    female, male = column(content, "sex")
    rows = np.flatnonzero(sex == "m")
    right = logits.argmax(1)[rows] == labels[rows]
    assert (male["value"], male["images"], male["units"]) == ("m", len(rows), len(rows))
    assert female["units"] < female["images"]
    assert male["accuracy"] == pytest.approx(right.mean())
    recalls = [right[labels[rows] == c].mean() for c in range(CLASSES)]
    assert male["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    ends = metric_intervals(
        labels[rows], logits.argmax(1)[rows], num_classes=CLASSES, groups=groups[rows]
    )
    assert male["intervals"]["accuracy"] == pytest.approx(np.asarray(ends.accuracy).tolist())
    assert male["difference"] == pytest.approx(-female["difference"])


def test_means_are_over_the_classes_that_a_subgroup_has() -> None:
    labels, logits = make_test()
    site = np.where((labels != 2) & (np.arange(N) % 2 == 0), "hand", "foot")
    hand = column(summarize_test_subgroups(labels, logits, {"site": site}), "site")[1]
    rows = site == "hand"
    predicted = logits.argmax(1)[rows]
    f1 = []
    for c in (0, 1):
        hits = (predicted == c) & (labels[rows] == c)
        f1.append(2 * hits.sum() / ((predicted == c).sum() + (labels[rows] == c).sum()))
    assert hand["macro_f1"] == pytest.approx(np.mean(f1))
    low, high = hand["intervals"]["macro_f1"]
    assert low < hand["macro_f1"] < high <= 1


def test_all_p_values_are_corrected_together() -> None:
    labels, logits = make_test()
    rng = np.random.default_rng(1)
    metadata = {"a": rng.choice(["x", "y"], N), "b": rng.choice(["1", "2", "3"], N)}
    subgroups = summarize_test_subgroups(labels, logits, metadata)["columns"].values()
    tested = [subgroup for found in subgroups for subgroup in found["subgroups"]]
    assert len(tested) == 5
    corrected = [subgroup["corrected_p_value"] for subgroup in tested]
    assert corrected == holm([subgroup["p_value"] for subgroup in tested])


def test_a_subgroup_that_is_worse_is_found() -> None:
    labels, logits = make_test(signal=4)
    site = np.where(np.arange(N) < 80, "nail", "skin")
    logits[:80] = logits[:80][:, ::-1]
    nail, _ = column(summarize_test_subgroups(labels, logits, {"site": site}), "site")
    assert nail["difference"] < -0.3
    assert nail["corrected_p_value"] < 0.01


DEGENERATE = {
    "one value": np.full(N, "f"),
    "all unknown": np.full(N, ""),
    "a value with one image": np.array(["f", *["m"] * (N - 1)]),
    "weird characters": np.where(np.arange(N) % 2, "<b>é, ü</b>", "$a_b$ {x} %s"),
    "as many values as images": np.arange(N).astype(str),
    "many names": np.array([f"name {i}" for i in range(N)]),
}


@pytest.mark.parametrize("kind", DEGENERATE)
def test_degenerate_columns_are_written_read_and_printed(kind: str, tmp_path: Path) -> None:
    labels, logits = make_test()
    metadata = {kind: DEGENERATE[kind], "class": labels.astype(str)}  # no class on both sides
    content = summarize_test_subgroups(labels, logits, metadata)
    write_subgroups(tmp_path, content)
    again = SUBGROUP_METRICS.read(tmp_path, N)
    assert again == content
    text = format_subgroups(again, list(metadata), SUBGROUP_TITLES, "balanced_accuracy")
    assert nonsense_in(text) == []
    assert max(map(len, text.splitlines())) <= 80
    assert [subgroup["difference"] for subgroup in column(content, "class")] == [None] * 3


def test_the_smallest_subgroups_and_the_columns_left_out_are_named() -> None:
    labels, logits = make_test()
    sex = np.array([*["other"] * 4, *["f"] * (N - 4)])
    metadata = {"sex": sex, "note": np.arange(N).astype("U9"), "one": np.full(N, "x")}
    metadata["note"] = np.array([f"n{i}" for i in range(N)])
    few, left_out = subgroup_notes(summarize_test_subgroups(labels, logits, metadata))
    assert few.startswith("Subgroups with fewer than 10 images: sex other (4).")
    assert left_out.endswith("are left out: note (240), one (1).")


def test_without_metadata_there_is_no_file_and_an_old_one_goes(tmp_path: Path) -> None:
    labels, logits = make_test()
    assert summarize_test_subgroups(labels, logits, {}) is None
    (tmp_path / "subgroups.json").write_text("{}")
    write_subgroups(tmp_path, None)
    assert SUBGROUP_METRICS.read(tmp_path, N) is None


BROKEN = {
    "of another test": lambda c: c["columns"]["sex"].update(unknown=1),
    "a metric is missing": lambda c: column(c, "sex")[0].pop("accuracy"),
    "a metric is impossible": lambda c: column(c, "sex")[0].update(accuracy=2),
    "a metric is NaN": lambda c: column(c, "sex")[0].update(accuracy=float("nan")),
    "an interval is a number": lambda c: column(c, "sex")[0]["intervals"].update(accuracy=1),
    "more units than images": lambda c: column(c, "sex")[0].update(units=10**6),
    "a value twice": lambda c: column(c, "sex")[0].update(value="m"),
    "a value is not printable": lambda c: column(c, "sex")[0].update(value="a\x07"),
    "one subgroup": lambda c: column(c, "sex").pop(),
    "a p-value is large": lambda c: column(c, "sex")[0].update(p_value=7),
    "a difference without p": lambda c: column(c, "sex")[0].update(p_value=None),
    "columns are a list": lambda c: c.update(columns=[]),
    "left out is text": lambda c: c.update(left_out={"a": "b"}),
    "drawn is unknown": lambda c: c.update(drawn="cats"),
}


@pytest.mark.parametrize("way", BROKEN)
def test_a_broken_file_is_refused(way: str, tmp_path: Path) -> None:
    labels, logits = make_test()
    sex = np.where(np.arange(N) % 3 == 0, "m", "f")
    content = summarize_test_subgroups(labels, logits, {"sex": sex})
    BROKEN[way](content)
    (tmp_path / "subgroups.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"subgroups\.json is broken") as error:
        SUBGROUP_METRICS.read(tmp_path, N)
    assert "\n" not in str(error.value)
