"""The benchmark of Grad-CAM against masks, on synthetic images with known evidence."""

from types import MappingProxyType, SimpleNamespace

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from benchmarks import gradcam_masks
from benchmarks.gradcam_masks import (
    BATCH_SIZE,
    OpenedRun,
    Options,
    draw_examples,
    heat_of,
    interval_of_mean,
    maximum_of_random_cell,
    names_of,
    of_each_class_in_turn,
    read_masks,
    rows_of,
    scores_of,
)
from data.formats.png import save_mask
from lmf_jax.config import Config, ImageSpec
from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.explanations import overlay
from lmf_jax.evaluation.classification.gradcam import pointing_game, resize_heat
from lmf_jax.inference.classifier import TrainedClassifier
from lmf_jax.models.classifier import Classifier, LinearHead
from lmf_jax.models.normalization import NORMALIZATIONS

SIDE, CELLS = 32, 8
NAMES = ("red", "green", "blue")


class Colors(nn.Module):
    """The mean color of every 4x4 pixels: the class of a color has its heat where it is."""

    @nn.compact
    def __call__(self, images, train):
        return images.reshape(-1, CELLS, 4, CELLS, 4, 3).mean((2, 4))


MODEL = Classifier(Colors(), LinearHead(3, nn.initializers.zeros))


def made_up_model(config, variables=MappingProxyType({})):
    return TrainedClassifier(
        config, {"class_names": NAMES}, MODEL, variables, NORMALIZATIONS["unit"]
    )


def square(place):
    """Return a mask of a quarter of the image, or an empty one."""
    mask = np.zeros((SIDE, SIDE), bool)
    if place is not None:
        row, column = place
        mask[row : row + SIDE // 2, column : column + SIDE // 2] = True
    return mask


def colored(labels, place=(0, 0)):
    images = np.zeros((len(labels), SIDE, SIDE, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[square(place), label] = 200
    return images


def made_up_run(labels, name="ce", predictions=None, groups=None):
    labels = np.asarray(labels)
    predictions = labels if predictions is None else np.asarray(predictions)
    config = Config.of(image_size=SIDE, loss="ce").resolve({})
    params = {"head": {"kernel": jnp.eye(3), "bias": jnp.zeros(3)}}
    finished = SimpleNamespace(
        ids=np.array([f"image_{i}" for i in range(len(labels))]),
        labels=labels,
        logits=np.log(0.8 * np.eye(3, dtype=np.float32)[predictions] + 0.1),
        groups=groups,
    )
    trained = made_up_model(config, {"params": params})
    # The test part is the second half of the dataset, backwards.
    rows = np.arange(len(labels))[::-1] + len(labels)
    images = np.concatenate([np.zeros_like(colored(labels)), colored(labels[::-1])])
    return OpenedRun(name, trained, finished, images, rows)


def write_masks(folder, places):
    for i, place in enumerate(places):
        gray = np.where(square(place), 200, 0).astype(np.uint8)
        Image.fromarray(gray).save(folder / f"image_{i}_segmentation.png")
    return folder


def test_heat_lies_in_the_mask_that_covers_the_reasons(tmp_path):
    places = [(0, 0), (0, 0), (16, 16), None]
    scores = scores_of(made_up_run([0, 1, 2, 2]), write_masks(tmp_path, places))
    np.testing.assert_array_equal(scores["hit"], [1, 1, 0, np.nan])
    np.testing.assert_allclose(scores["chance"], [0.25, 0.25, 0.25, np.nan])
    np.testing.assert_allclose(scores["cell chance"], [0.25, 0.25, 0.25, 0], rtol=1e-6)
    assert scores["energy"][:2].min() > 0.75  # bilinear heat runs over the edge by half a cell
    assert scores["energy"][2] < 0.05
    assert np.isnan(scores["energy"][3])


def test_cell_chance_is_the_mean_game_of_all_cells():
    masks = np.random.RandomState(0).uniform(size=(5, SIDE, SIDE)) > 0.6
    cells = np.eye(9, dtype=np.float32).reshape(9, 3, 3)
    large = resize_heat(cells, SIDE, SIDE)
    games = [pointing_game(large, np.broadcast_to(mask, large.shape)).hit for mask in masks]
    chances = np.where(masks, maximum_of_random_cell((3, 3), ImageSpec(SIDE, SIDE)), 0).sum((1, 2))
    np.testing.assert_allclose(chances, np.mean(games, axis=1), rtol=1e-6)
    assert np.ptp(chances) > 0.05


def test_it_is_the_predicted_class_that_is_explained(tmp_path):
    # No green is in a red image: nothing speaks for the class that is predicted.
    run = made_up_run([0, 0], predictions=[0, 1])
    scores = scores_of(run, write_masks(tmp_path, [(0, 0)] * 2))
    np.testing.assert_array_equal(np.isnan(scores["energy"]), [False, True])
    np.testing.assert_array_equal(scores["hit"], [1, np.nan])
    row, *_ = rows_of(run, scores)
    assert (row["images"], row["scored"]) == (2, 1)


def test_any_number_of_images_has_its_heat():
    labels = np.arange(BATCH_SIZE + 3) % 3
    run = made_up_run(labels)
    heat = heat_of(run, np.arange(len(labels)))
    assert heat.shape == (len(labels), CELLS, CELLS)
    assert heat.max((1, 2)).min() > 0
    np.testing.assert_allclose(heat_of(run, np.array([34, 2])), heat[[34, 2]], rtol=1e-6)


def test_masks_are_squeezed_as_images_are_and_cut_at_the_middle(tmp_path):
    gray = np.array([[0, 127, 128, 255], [255, 255, 0, 0]], np.uint8)
    Image.fromarray(gray.repeat(3, 0).repeat(3, 1)).save(tmp_path / "a_segmentation.png")
    stripes = np.tile(np.array([0, 255, 0], np.uint8), (12, 4))
    Image.fromarray(stripes).save(tmp_path / "b_segmentation.png")
    mask, striped = read_masks(tmp_path, np.array(["a", "b"]), ImageSpec(4, 4))
    upper, lower = [False, False, True, True], [True, True, False, False]
    np.testing.assert_array_equal(mask, [upper, upper, lower, lower])
    assert striped.all()  # the pixel in the middle of three, not their mean


def test_class_ids_in_a_palette_are_taken_for_the_lesion(tmp_path):
    save_mask(np.eye(4, dtype=np.uint8), tmp_path / "a_segmentation.png")
    (mask,) = read_masks(tmp_path, np.array(["a"]), ImageSpec(4, 4))
    np.testing.assert_array_equal(mask, np.eye(4, dtype=bool))


def test_a_broken_mask_is_named(tmp_path):
    (tmp_path / "a_segmentation.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"mask .*/a_segmentation.png cannot be decoded"):
        read_masks(tmp_path, np.array(["a"]), ImageSpec(4, 4))


def test_a_missing_mask_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no mask .*/b_segmentation.png"):
        read_masks(tmp_path, np.array(["b"]), ImageSpec(4, 4))


def test_rows_are_means_of_the_images_with_a_score():
    run = made_up_run([0, 0, 0, 2])
    scores = {
        "energy": np.array([0.2, 0.4, np.nan, 0.9], np.float32),
        "hit": np.array([0, 1, np.nan, 1], np.float32),
        "chance": np.array([0.1, 0.3, 0.8, 0.5], np.float32),
        "cell chance": np.array([0.3, 0.5, 0.8, 0.1], np.float32),
    }
    rows = rows_of(run, scores)
    facts = [[row[key] for key in ("run", "class", "images", "scored")] for row in rows]
    assert facts == [["ce", "all", 4, 3], ["ce", "red", 3, 2], ["ce", "blue", 1, 1]]
    means = [[row[key] for key in scores] for row in rows]
    expected = [[0.5, 2 / 3, 0.3, 0.3], [0.3, 0.5, 0.2, 0.4], [0.9, 1, 0.5, 0.1]]
    np.testing.assert_allclose(means, expected, rtol=1e-6)


def test_a_class_without_a_score_has_no_means():
    scores = dict.fromkeys(("energy", "hit", "chance", "cell chance"), np.full(2, np.nan))
    row, _ = rows_of(made_up_run([1, 1]), scores)
    assert row["scored"] == 0
    assert {row[key] for key in (*scores, "energy low", "hit high")} == {None}


def test_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(3, 2, 400).astype(np.float32)
    one_class = np.zeros(400, int)
    low, high = interval_of_mean(values, one_class, None)
    reach = 1.96 * values.std() / np.sqrt(len(values))
    expected = [values.mean() - reach, values.mean() + reach]
    np.testing.assert_allclose([low, high], expected, atol=0.1 * reach)
    assert interval_of_mean(values, one_class, None) == (low, high)
    # Classes are drawn by themselves: what lies between them moves no mean.
    apart = interval_of_mean(values + 100 * (np.arange(400) % 2), np.arange(400) % 2, None)
    np.testing.assert_allclose(apart, [low + 50, high + 50], atol=0.1 * reach)


def test_lesions_are_drawn_with_all_their_images():
    of_lesions = np.random.default_rng(1).uniform(size=100).astype(np.float32)
    lesions = np.array([f"lesion {i:02}" for i in range(100)])
    scores = {name: np.repeat(of_lesions, 4) for name in ("energy", "hit", "chance", "cell chance")}
    scores["hit"][:4] = np.nan  # the first has no score
    labels = np.zeros(400, int)
    row, of_class = rows_of(made_up_run(labels, groups=np.repeat(lesions, 4)), scores)
    assert row["drawn"] == "groups" and row["scored"] == 396
    # Four equal images say no more than one.
    once = interval_of_mean(of_lesions[1:], labels[1:100], None)
    found = (row["energy low"], row["energy high"])
    np.testing.assert_allclose(found, once, rtol=1e-6)
    assert found == (of_class["energy low"], of_class["energy high"])
    of_images, _ = rows_of(made_up_run(labels), scores)
    assert of_images["drawn"] == "images"
    assert np.diff(found) > 1.7 * (of_images["energy high"] - of_images["energy low"])


def test_examples_are_of_each_class_in_turn():
    labels = np.array([0, 0, 0, 2, 2, 1])
    np.testing.assert_array_equal(of_each_class_in_turn(labels, 4), [0, 5, 3, 1])
    np.testing.assert_array_equal(of_each_class_in_turn(labels, 9), [0, 5, 3, 1, 4, 2])


def test_figure_has_a_column_for_each_run(tmp_path):
    masks_dir = write_masks(tmp_path, [(0, 0)] * 3)
    runs = [made_up_run([0, 1, 1]), made_up_run([0, 1, 1], "lmf", predictions=[0, 2, 2])]
    figure = draw_examples(runs, masks_dir, 2)
    first, second = figure.axes[:3], figure.axes[3:6]
    assert [axes.get_title() for axes in first] == ["red", "red 0.82", "red 0.82"]
    assert [axes.get_title() for axes in second] == ["green", "green 0.82", "✗ blue 0.82"]
    assert [axes.get_ylabel() for axes in (first[0], second[0])] == ["image_0", "image_1"]
    np.testing.assert_array_equal(second[0].images[0].get_array(), colored([1])[0])
    (heat,) = resize_heat(heat_of(runs[0], np.array([1])), SIDE, SIDE)
    expected = overlay(colored([1])[0], np.asarray(heat))
    np.testing.assert_array_equal(second[1].images[0].get_array(), expected)
    assert all(axes.collections for axes in (*first, *second))


def test_runs_on_other_images_share_no_figure(tmp_path):
    runs = [made_up_run([0, 1, 1]), made_up_run([0, 1], "lmf")]
    with pytest.raises(UserError, match="ce and lmf were tested on different images"):
        draw_examples(runs, tmp_path, 2)


@pytest.mark.parametrize(
    ("losses", "names"), [(["ce", "lmf"], ["ce", "lmf"]), (["ce", "ce"], ["a/0", "a/1"])]
)
def test_runs_are_called_by_their_loss_where_that_tells_them_apart(monkeypatch, losses, names):
    configs = {f"a/{i}": SimpleNamespace(config={"loss": loss}) for i, loss in enumerate(losses)}
    monkeypatch.setattr(gradcam_masks, "read_run", configs.__getitem__)
    assert list(names_of(list(configs)).values()) == names


@pytest.mark.parametrize(
    ("runs", "images", "words"), [((), 1, "No run was given"), (("a",), 0, "--images is 0")]
)
def test_what_cannot_be_asked_is_named(runs, images, words):
    with pytest.raises(UserError, match=words):
        Options(runs, masks_dir="masks", images=images)
