"""Contents of the figures of explanations, read from their artists and pixels."""

import numpy as np
import pytest
from jaxtyping import config as jaxtyping_config
from matplotlib.colors import to_hex
from matplotlib.image import imread

from lmf_jax.evaluation.classification.explanations import (
    ExplainedImage,
    Explanation,
    draw_explanations,
    overlay,
)
from lmf_jax.evaluation.figures import INK, VERMILION, save_figure

SIZE = 24
IMAGE = np.random.RandomState(0).randint(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
RAMP = np.broadcast_to(np.linspace(0, 1, SIZE), (SIZE, SIZE))
LESION = np.zeros((SIZE, SIZE), bool)
LESION[:10, 6:14] = True


def example(name="first", columns=("ce", "lmf"), mask=LESION, true_class="melanoma"):
    classes = {"ce": "nevus", "lmf": "melanoma"}
    explanations = {
        column: Explanation(RAMP, classes[column], 0.25 * (1 + i))
        for i, column in enumerate(columns)
    }
    return ExplainedImage(name, IMAGE, explanations, true_class, mask)


def pictures(figure):
    """Return the axes with pictures; the last axes are those of the color bar."""
    return figure.axes[:-1]


def lightness(colors):
    """Return the relative luminance of sRGB (WCAG 2) to the power of 1/3."""
    shares = np.asarray(colors) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ [0.2126, 0.7152, 0.0722])


def test_an_image_is_visible_below_its_heat():
    shown = overlay(IMAGE, RAMP)
    np.testing.assert_array_equal(shown[:, 0], IMAGE[:, 0])
    hottest, below = shown[:, -1].astype(int), IMAGE[:, -1].astype(int)
    assert len(np.unique(hottest, axis=0)) > SIZE / 2
    # The heat dominates the image.
    assert np.ptp(hottest, axis=0).max() < 0.5 * np.ptp(below, axis=0).max()


def test_more_heat_is_brighter_on_any_dark_or_middle_image():
    for gray in (0, 60, 120):
        shown = overlay(np.full((SIZE, SIZE, 3), gray, np.uint8), RAMP)[0]
        change = np.linalg.norm(np.diff(shown.astype(int), axis=0), axis=1)
        assert change.min() > 0, gray
        assert lightness(shown[-1]) > lightness(shown[0]) + 0.1, gray


def test_heat_of_another_size_is_refused(monkeypatch):
    # Runtime type checks come first in tests; users without them get this error.
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match=r"heat has shape \(7, 7\) and image \(24, 24, 3\)"):
        overlay(IMAGE, RAMP[:7, :7])


def test_a_row_is_an_image_and_a_column_an_explanation():
    axes = pictures(draw_explanations([example("first"), example("second")]))
    assert len(axes) == 2 * 3
    for row in (axes[:3], axes[3:]):
        np.testing.assert_array_equal(row[0].images[0].get_array(), IMAGE)
        for column in row[1:]:
            np.testing.assert_array_equal(column.images[0].get_array(), overlay(IMAGE, RAMP))
    assert [axes[i].get_ylabel() for i in (0, 3)] == ["first", "second"]
    heads = [[text.get_text() for text in a.texts] for a in axes]
    assert heads == [["image"], ["ce"], ["lmf"], [], [], []]


def test_titles_show_class_and_probability_and_mark_wrong_classes():
    true, wrong, right = pictures(draw_explanations([example()]))
    assert true.get_title() == "melanoma"
    assert wrong.get_title() == "✗ nevus 0.25"
    assert to_hex(wrong.title.get_color()) == VERMILION
    assert right.get_title() == "melanoma 0.50"
    assert to_hex(right.title.get_color()) == INK


def test_no_class_is_marked_wrong_if_the_truth_is_unknown():
    image, first, _ = pictures(draw_explanations([example(true_class=None)]))
    assert image.get_title() == ""
    assert first.get_title() == "nevus 0.25"


def test_every_picture_has_the_outline_of_the_mask():
    for axes in pictures(draw_explanations([example()])):
        (outline,) = axes.collections
        (path,) = outline.get_paths()
        # The lesion reaches the upper edge of the image: the outline is closed there.
        np.testing.assert_allclose(path.vertices.min(0), [5.5, -0.5])
        np.testing.assert_allclose(path.vertices.max(0), [13.5, 9.5])
        np.testing.assert_array_equal(path.vertices[0], path.vertices[-1])


@pytest.mark.parametrize("mask", [None, np.zeros((SIZE, SIZE), bool)], ids=["none", "empty"])
def test_without_a_lesion_there_is_no_outline(mask):
    assert not any(axes.collections for axes in pictures(draw_explanations([example(mask=mask)])))


def test_long_names_stay_within_their_column():
    explanation = Explanation(RAMP, "Actinic keratoses and intraepithelial carcinoma", 1.0)
    columns = {f"a loss with a long name {i}": explanation for i in range(6)}
    figure = draw_explanations(
        [ExplainedImage("x" * 60, IMAGE, columns, "Benign keratosis-like lesions $a_b$", LESION)]
    )
    figure.draw_without_rendering()  # Computes the layout.
    for axes in pictures(figure):
        column = axes.get_window_extent()
        for text in (axes.title, *axes.texts):
            assert text.get_window_extent().width < 1.05 * column.width
        assert axes.yaxis.label.get_window_extent().height < 1.05 * column.height


def test_the_file_is_a_picture_and_equal_figures_give_equal_files(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path in paths:
        save_figure(draw_explanations([example()]), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert min(imread(paths[0]).shape[:2]) > 400


def test_undrawable_examples_are_refused():
    with pytest.raises(ValueError, match="expected at least one"):
        draw_explanations([])
    with pytest.raises(ValueError, match="Image second is explained in the columns lmf and"):
        draw_explanations([example("first"), example("second", columns=["lmf"])])
