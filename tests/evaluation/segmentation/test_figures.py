"""Contents of the figures of a segmentation report, read from their artists."""

import numpy as np
import pytest
from matplotlib.contour import QuadContourSet

from lmf_jax.evaluation.figures import draw_training_curves, save_figure
from lmf_jax.evaluation.segmentation import figures as figures


def outlines(axes):
    """Return color and style of each outline."""
    sets = [artist for artist in axes.get_children() if isinstance(artist, QuadContourSet)]
    return [
        (artist.get_edgecolor()[0].round(2).tolist(), artist.get_linestyle()) for artist in sets
    ]


def test_distribution_has_a_point_for_every_case_and_a_box_for_every_class(tmp_path):
    dsc = np.random.default_rng(0).random((30, 2))
    figure = figures.draw_dsc_distribution(dsc, ["kidney", "tumour"])
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["kidney", "tumour"]
    for row in (0, 1):
        points = axes.lines[row]
        np.testing.assert_array_equal(points.get_xdata(), dsc[:, row])
        assert np.abs(points.get_ydata() - row).max() < 0.5
    medians = [line.get_xdata()[0] for line in axes.lines[2:] if line.get_linewidth() == 2.2]
    assert medians == pytest.approx(np.median(dsc, axis=0))
    save_figure(figure, tmp_path / "figure.png")


def test_size_leaves_out_cases_without_the_class(tmp_path):
    sizes = np.array([[10, 0], [2_000_000, 30], [300, 0]])
    dsc = np.array([[0.1, 1.0], [0.9, 0.5], [0.4, 1.0]])
    figure = figures.draw_dsc_by_size(dsc, sizes, ["kidney", "tumour"], "voxels")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "True size of the object in voxels"
    points = [line for line in axes.lines if len(line.get_xdata())]
    assert [line.get_xdata().tolist() for line in points] == [[10, 2_000_000, 300], [30]]
    assert [line.get_ydata().tolist() for line in points] == [[0.1, 0.9, 0.4], [0.5]]
    save_figure(figure, tmp_path / "figure.png")
    ticks = [label.get_text() for label in axes.get_xticklabels()]
    assert "1,000,000" in ticks and not any("$" in tick for tick in ticks)


def test_size_joins_medians_where_there_are_many_cases():
    sizes = np.arange(1, 25)[:, None]
    dsc = np.linspace(0, 1, 24)[:, None]
    (axes,) = figures.draw_dsc_by_size(dsc, sizes, ["lesion"], "pixels").axes
    line = axes.lines[-1]
    assert line.get_xdata() == pytest.approx([6.5, 18.5])
    assert line.get_ydata() == pytest.approx([np.median(dsc[:12]), np.median(dsc[12:])])


@pytest.mark.parametrize("num_classes", [2, 3])
def test_overlays_outline_truth_and_prediction(tmp_path, num_classes):
    labels, prediction = np.zeros((2, 12, 16), np.uint8)
    labels[2:6, 2:6], prediction[3:8, 3:8] = num_classes - 1, num_classes - 1
    image = np.zeros((12, 16, 3), np.uint8)
    overlays = [
        figures.Overlay("first", image, labels, prediction),
        figures.Overlay("second", image, labels, np.zeros_like(prediction)),
        figures.Overlay("third", image, np.zeros_like(labels), np.zeros_like(labels)),
    ]
    figure = figures.draw_overlays(overlays, ["background", "a", "b"][:num_classes])
    assert [axes.get_title() for axes in figure.axes[:3]] == ["first", "second", "third"]
    assert [len(outlines(axes)) for axes in figure.axes[:3]] == [2, 1, 0]
    assert not figure.axes[3].get_visible()
    colors = [color for color, _ in outlines(figure.axes[0])]
    assert (colors[0] == colors[1]) == (num_classes > 2)
    styles = [linestyle for _, linestyle in outlines(figure.axes[0])]
    assert styles[0] != styles[1]
    assert outlines(figure.axes[1]) == outlines(figure.axes[0])[:1], "the truth alone"
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[:2] == ["a, truth", "a, predicted"] and len(words) == 2 * (num_classes - 1)
    save_figure(figure, tmp_path / "figure.png")


def test_training_curves_show_the_scores_of_the_task():
    same = {"train_loss": 1, "val_loss": 1, "learning_rate": 1, "val_iou": 0.1}
    history = [same | {"epoch": i, "val_dsc": [0.2, 0.6, 0.4][i - 1]} for i in (1, 2, 3)]
    figure = draw_training_curves(history, {"val_iou": "IoU", "val_dsc": "DSC"})
    scores = figure.axes[1]
    assert [text.get_text() for text in scores.get_legend().get_texts()] == ["IoU", "DSC"]
    assert scores.lines[1].get_ydata().tolist() == [0.2, 0.6, 0.4]
    assert scores.texts[0].get_text() == "best 0.600 in epoch 2"
