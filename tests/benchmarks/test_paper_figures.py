"""The figures of the paper: their data, and equal files for equal data."""

import json
import sys

import pytest
from matplotlib.container import ErrorbarContainer

from benchmarks import paper_figures
from benchmarks.paper import printed
from benchmarks.paper.figures import draw_classes, draw_losses, draw_settings, mean_and_deviation
from benchmarks.paper_figures import found_results, read_result, series, train_counts
from lmf_jax.errors import UserError


def tables(macro_f1, model="resnet50"):
    return {
        "benchmark": "paper_tables",
        "dataset": "ham10000",
        "model": model,
        "macro_f1": macro_f1,
    }


def error_bars(axes):
    """Return the middle and the ends of each error bar, by the label of the series."""
    bars = {}
    for container in axes.containers:
        if isinstance(container, ErrorbarContainer):
            line, _, (lines,) = container.lines
            ends = [segment[:, 1] for segment in lines.get_segments()]
            bars[container.get_label()] = list(zip(line.get_ydata(), ends, strict=True))
    return bars


def test_the_deviation_is_the_mean_distance_from_the_mean():
    assert mean_and_deviation([1.0, 2.0, 6.0]) == (3.0, 2.0)


def test_figure_1_is_the_mean_over_the_models():
    figure = draw_losses(series([]))
    assert [axes.get_title() for axes in figure.axes] == list(printed.DATASETS.values())
    middle, (low, high) = error_bars(figure.axes[1])["printed"][-1]
    assert middle == pytest.approx((84.61 + 82.43 + 83.31) / 3)
    assert high - middle == pytest.approx(middle - low)
    assert high - middle == pytest.approx((84.61 - 83.45 + 83.45 - 82.43 + 83.45 - 83.31) / 3)


def test_ours_stand_beside_the_printed_ones_where_there_are_any():
    found = series([tables({"ce": 0.1}), tables({"ce": 0.7, "lmf": 0.8})])
    label = "ours, ResNet-50 alone"
    assert found[label] == pytest.approx(
        {("ham10000", "resnet50", "ce"): 70, ("ham10000", "resnet50", "lmf"): 80}
    )
    figure = draw_losses(found)
    assert list(error_bars(figure.axes[0])) == ["printed"]
    assert [middle for middle, _ in error_bars(figure.axes[1])[label]] == pytest.approx([70, 80])
    every = series([tables({"ce": 0.7}, model) for model in printed.MODELS])
    assert list(every) == ["printed", "ours"]


def test_the_newest_result_of_a_model_counts_alone(tmp_path):
    found = series([tables({"ce": 0.1, "focal": 0.2}), tables({"ce": 0.7})])
    assert found["ours, ResNet-50 alone"] == {("ham10000", "resnet50", "ce"): 70}
    names = ["paper_tables-b-2026-01-09.json", "paper_tables-a-2026-11-20.json"]
    for name in [*names, "losses-cpu-2026-12-01.json"]:
        (tmp_path / name).write_text("{}")
    assert found_results(tmp_path) == tuple(str(tmp_path / name) for name in names)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), ("{", "line 1"), ("{}", "no benchmark")]
)
def test_what_is_no_result_is_named(tmp_path, content, reason):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=rf"result.json is not a result \(.*{reason}"):
        read_result(path)


def test_figure_2_has_every_class_the_rarest_last():
    figure = draw_classes(train_counts())
    ham = figure.axes[1]
    assert [text.get_text() for text in ham.get_yticklabels()] == [
        *("NV", "MEL", "BKL", "BCC", "AKIEC", "VASC", "DF")
    ]
    assert [bar.get_width() for bar in ham.patches] == [4693, 779, 769, 360, 229, 100, 81]
    assert "imbalance ratio 58" in [text.get_text() for text in ham.texts]


def test_figure_4_has_every_run_and_their_mean():
    (axes,) = draw_settings({"1: alpha = beta": [80.0, 80.0, 83.0], "2: b": [81.0]}).axes
    bars = error_bars(axes)["mean and average deviation"]
    deviation = 4 / 3
    assert bars[0][0] == 81
    assert list(bars[0][1]) == pytest.approx([81 - deviation, 81 + deviation])
    assert (bars[1][0], *bars[1][1]) == (81, 81, 81)
    assert list(axes.lines[0].get_ydata()) == [80, 80, 83]
    assert len(set(axes.lines[0].get_xdata())) == 3, "no run hides another"
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["Setting 1\n\N{GREEK SMALL LETTER ALPHA} = β", "Setting 2\nb"]


def test_the_command_draws_what_there_are_results_for(tmp_path, monkeypatch):
    sweep = {"benchmark": "paper_sweep", "settings": {"1: alpha = beta": [80.0, 81.0]}}
    for name, result in (("tables", tables({"ce": 0.7})), ("sweep", sweep)):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    results = [str(tmp_path / "tables.json"), str(tmp_path / "sweep.json")]
    drawn = []
    for number in range(2):
        folder = tmp_path / str(number)
        words = ["paper_figures", "--out-dir", str(folder), "--results", *results]
        monkeypatch.setattr(sys, "argv", words)
        paper_figures.main()
        drawn.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert sorted(drawn[0]) == ["figure_1.png", "figure_2.png", "figure_4.png"]
    assert drawn[0] == drawn[1]
