"""Contents of the figures, read from their artists, and their files."""

import io

import matplotlib
import numpy as np
import pytest
from matplotlib.image import imread

from lmf_jax.evaluation import figures
from lmf_jax.evaluation.classification import figures as classification_figures

HISTORY = [
    {
        "epoch": i + 1,
        "train_loss": 3.0 - 0.1 * i,
        "val_loss": 3.5 - 0.05 * i,
        "val_accuracy": 0.6 + 0.01 * i,
        "val_macro_f1": [0.3, 0.4, 0.7, 0.65, 0.66][i],
        "learning_rate": [1e-3, 1e-3, 1e-4, 1e-4, 1e-5][i],
    }
    for i in range(5)
]
SCORES = {"val_accuracy": "accuracy", "val_macro_f1": "macro F1"}
NAMES = ["nevus", "melanoma", "vascular"]
PER_CLASS = {
    "nevus": {"precision": 0.9, "recall": 0.9, "f1": 0.9, "support": 30},
    "melanoma": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 6},
    "vascular": {"precision": 0.1, "recall": 0.1, "f1": 0.1, "support": 12},
}
COUNTS = {"train": [1400, 28, 56], "validation": [300, 6, 12], "test": [300, 6, 12]}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def saved(figure, tmp_path, name="figure.png"):
    path = tmp_path / name
    figures.save_figure(figure, path)
    return path


def test_training_curves_show_the_history():
    loss, score = figures.draw_training_curves(HISTORY, SCORES).axes
    for axes, keys in ((loss, ["train_loss", "val_loss"]), (score, ["val_accuracy"])):
        for line, key in zip(axes.lines, keys, strict=False):
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
            np.testing.assert_array_equal(line.get_ydata(), [entry[key] for entry in HISTORY])
    labels = [text.get_text() for text in loss.get_legend().get_texts()]
    assert labels == ["train", "validation", "learning rate falls"]
    assert [text.get_text() for text in score.get_legend().get_texts()] == ["accuracy", "macro F1"]


def test_best_epoch_is_marked_on_the_curve_of_macro_f1():
    _, score = figures.draw_training_curves(HISTORY, SCORES).axes
    assert texts(score) == ["best 0.700 in epoch 3"]
    assert score.lines[-1].get_xydata().tolist() == [[3, 0.7]]


def test_learning_rate_drops_are_marked_where_the_new_rate_begins():
    loss, _ = figures.draw_training_curves(HISTORY, SCORES).axes
    (drops,) = loss.collections
    assert [segment[0][0] for segment in drops.get_segments()] == [2.5, 4.5]
    # The marks span the axes without stretching them.
    assert loss.get_ylim()[0] > 2.5


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([1e-3, 1e-3, 1e-4, 1e-4, 1e-5], [3, 5]),
        ([1e-3, 1e-3, 1e-3, 1e-3 * (1 - 1e-12)], []),
        ([1e-3, 1e-3], []),
        ([1e-3, 2e-3, 3e-3, 3e-3], []),
        (np.cos(np.linspace(0.1, 1.5, 20)).tolist(), []),
        ([1e-3], []),
    ],
)
def test_only_steps_of_the_learning_rate_count_as_drops(rates, expected):
    history = [{"epoch": i, "learning_rate": rate} for i, rate in enumerate(rates, start=1)]
    assert figures.learning_rate_drops(history) == expected


def test_a_single_epoch_is_visible():
    loss, score = figures.draw_training_curves(HISTORY[:1], SCORES).axes
    assert loss.lines[0].get_marker() == "o"
    score.figure.canvas.draw()
    ticks = [label.get_text() for label in score.get_xticklabels()]
    assert "1" in ticks and not any("." in tick for tick in ticks)


def test_confusion_matrix_shows_counts_and_percent_of_the_true_class():
    confusion = np.array([[1500, 500, 0], [0, 3, 1], [0, 0, 0]])
    axes = classification_figures.draw_confusion_matrix(confusion, NAMES).axes[0]
    written = {text.get_position(): text.get_text() for text in axes.texts}
    # Positions are (column, row), which would detect a transposed matrix.
    counts = {(0, 0): "1,500", (1, 0): "500", (1, 1): "3", (2, 1): "1", (2, 2): "0"}
    below = {(0, 0.08): "75 %", (1, 0.08): "25 %", (1, 1.08): "75 %", (2, 1.08): "25 %"}
    assert written == counts | below | {(2, 2.08): "0 %"}
    shares = [[0.75, 0.25, 0], [0, 0.75, 0.25], [0, 0, 0]]
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    assert axes.get_ylabel() == "True class"
    assert axes.get_xlabel() == "Predicted class"
    assert [label.get_text() for label in axes.get_yticklabels()] == NAMES


@pytest.mark.parametrize("num_classes", [2, 30])
def test_counts_fit_into_their_cells(num_classes):
    confusion = np.full((num_classes, num_classes), 999)
    names = [f"a class with a rather long name {i}" for i in range(num_classes)]
    figure = classification_figures.draw_confusion_matrix(confusion, names)
    figure.canvas.draw()
    axes = figure.axes[0]
    cell = axes.transData.transform([[0, 0], [1, 0]])
    width = max(text.get_window_extent().width for text in axes.texts)
    assert width < abs(cell[1] - cell[0])[0]


def test_per_class_f1_runs_from_the_most_to_the_least_frequent_class():
    axes = classification_figures.draw_per_class_f1(PER_CLASS, COUNTS["train"]).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["nevus", "vascular", "melanoma"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [0.9, 0.1, 0.5])
    assert axes.yaxis_inverted()
    written = texts(axes)
    assert "macro F1 0.500" in written
    assert [written[i] for i in (1, 2, 3)] == ["0.900", "0.100", "0.500"]
    assert {"1,400", "28", "56", "30", "6", "12"} <= set(written)


def test_class_distribution_shows_parts_and_margins():
    figure = classification_figures.draw_class_distribution(COUNTS, NAMES, [0.2, 0.5, 0.4])
    axes, margin_axes = figure.axes
    np.testing.assert_allclose(
        [bar.get_width() for bar in axes.patches],
        [*COUNTS["train"], *COUNTS["validation"], *COUNTS["test"]],
    )
    assert list(margin_axes.lines[0].get_xdata()) == [0.2, 0.5, 0.4]
    assert axes.get_xscale() == "log"
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["train", "validation", "test", "LDAM margin"]


def test_class_distribution_of_similar_counts_is_linear_and_needs_no_margins():
    counts = {"train": [70, 50, 0], "validation": [15, 10, 0], "test": [15, 10, 0]}
    (axes,) = classification_figures.draw_class_distribution(counts, NAMES).axes
    assert axes.get_xscale() == "linear"


def test_class_names_are_never_read_as_formulas(tmp_path):
    names = ["$\\frac{$", "cost $a_b$", "a\nb"]
    per_class = dict(zip(names, PER_CLASS.values(), strict=True))
    saved(classification_figures.draw_per_class_f1(per_class, COUNTS["train"]), tmp_path)
    saved(classification_figures.draw_confusion_matrix(np.eye(3, dtype=int), names), tmp_path)
    saved(classification_figures.draw_class_distribution(COUNTS, names), tmp_path)


def test_equal_figures_give_equal_files(tmp_path):
    first = saved(figures.draw_training_curves(HISTORY, SCORES), tmp_path, "first.png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        second = saved(figures.draw_training_curves(HISTORY, SCORES), tmp_path, "second.png")
    assert first.read_bytes() == second.read_bytes()


def test_drawing_leaves_the_settings_of_matplotlib_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    saved(figures.draw_training_curves(HISTORY, SCORES), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_files_are_pictures(tmp_path):
    path = saved(
        classification_figures.draw_class_distribution(COUNTS, NAMES, [0.2, 0.5, 0.4]), tmp_path
    )
    pixels = imread(io.BytesIO(path.read_bytes()), format="png")
    height, width, _ = pixels.shape
    assert width > 800 and height > 300
    assert len(np.unique(pixels[..., :3].reshape(-1, 3), axis=0)) > 50


def test_a_name_without_spaces_keeps_its_beginning():
    assert figures.wrap("a" * 50, 20, lines=1) == "a" * 19 + "…"
    assert figures.wrap("one two three", 9, lines=1) == "one two…"
    assert figures.wrap("", 9, lines=2) == ""


def test_long_names_of_two_classes_do_not_meet_below_the_matrix():
    for names, rotation in ((["a", "b"], 0), (["a" * 20, "b" * 20], 90)):
        axes = classification_figures.draw_confusion_matrix(np.eye(2, dtype=int), names).axes[0]
        assert {label.get_rotation() for label in axes.get_xticklabels()} == {rotation}
