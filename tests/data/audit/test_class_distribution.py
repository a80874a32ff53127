"""The figure of the class distribution, read from its artists, and its file."""

from pathlib import Path

import pytest
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from data.audit.audit import SplitAudit
from data.audit.class_distribution import draw_class_figure, save_class_figure


def audit(split: str, **per_class: tuple[int, int, int]) -> SplitAudit:
    counts = {
        part: {name: sizes[i] for name, sizes in per_class.items()}
        for i, part in enumerate(("train", "validation", "test"))
    }
    return SplitAudit(split, 0, counts, imbalance_ratio=12.34, leaked=None)


LONG_TAILED = audit("paper", rare=(9, 2, 0), often=(700, 150, 151), between=(70, 15, 14))


def bars_of(axes) -> dict[str, list[float]]:
    return {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}


def numbers_of(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_bars_and_their_numbers_from_the_most_to_the_least_frequent_class() -> None:
    (axes,) = draw_class_figure([LONG_TAILED], "Skin").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["often", "between", "rare"]
    assert bars_of(axes) == {
        "train": [700, 70, 9],
        "validation": [150, 15, 2],
        "test": [151, 14, 0],
    }
    tops = [bars[0].get_y() for bars in axes.containers]  # rows are counted from the top
    assert tops == sorted(tops)
    assert numbers_of(axes) == ["700", "70", "9", "150", "15", "2", "151", "14", "0"]


def test_every_number_stands_at_the_end_of_its_bar_and_in_the_panel() -> None:
    figure = draw_class_figure([LONG_TAILED], "Skin")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
    for bar, text in zip(bars, axes.texts, strict=True):
        box, shape = text.get_window_extent(), bar.get_window_extent()
        assert shape.y0 < (box.y0 + box.y1) / 2 < shape.y1
        assert max(shape.x1, axes.bbox.x0) < box.x0 and box.x1 < axes.bbox.x1


def test_the_axis_is_logarithmic_only_for_a_long_tail() -> None:
    (axes,) = draw_class_figure([LONG_TAILED], "Skin").axes
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "Images (log scale)")
    assert 0 < axes.get_xlim()[0] < 2
    (axes,) = draw_class_figure([audit("paper", a=(20, 4, 4), b=(18, 4, 3))], "Even").axes
    assert (axes.get_xscale(), axes.get_xlabel()) == ("linear", "Images")
    assert axes.get_xlim()[0] == 0


def test_two_splits_stand_side_by_side_in_one_order_and_scale() -> None:
    grouped = audit("grouped", rare=(10, 1, 0), often=(9, 150, 151), between=(69, 15, 2000))
    first, second = draw_class_figure([LONG_TAILED, grouped], "Skin").axes
    assert first.get_title() == "paper split, imbalance ratio 12.3"
    assert second.get_title() == "grouped split, imbalance ratio 12.3"
    assert bars_of(second)["train"] == [9, 69, 10]
    assert first.get_xlim() == second.get_xlim()
    assert first.get_xlim()[0] < 1 and first.get_xlim()[1] > 2000


def test_long_and_odd_names_are_shown_as_they_are() -> None:
    names = {"colorectal adenocarcinoma epithelium": (3, 1, 1), "cost $x_1$": (2, 1, 1)}
    figure = draw_class_figure([audit("paper", **names)], "Colon")
    figure.draw_without_rendering()
    long, odd = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert long.split() == ["colorectal", "adenocarcinoma", "epithelium"] and "\n" in long
    assert odd == "cost $x_1$"
    assert not any(label.get_parse_math() for label in figure.axes[0].get_yticklabels())


def test_the_file_is_a_picture_and_the_same_for_the_same_counts(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_class_figure([LONG_TAILED], "Skin", tmp_path / name)
    height, width, _ = imread(tmp_path / "a.png").shape
    assert width > 800 and height > 400
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_figure_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    broken = audit("grouped", other=(1, 1, 1))
    with pytest.raises(KeyError):
        save_class_figure([LONG_TAILED, broken], "Skin", path)
    assert [file.name for file in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"old"
