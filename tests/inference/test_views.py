"""Views of test-time augmentation: symmetries of the image plane."""

import numpy as np
import pytest

from lmf_jax.inference.views import IDENTITY, VIEWS

ALL_VIEWS = VIEWS["dihedral"]


@pytest.mark.parametrize("shape", [(2, 5, 5, 3), (2, 4, 6, 1), (3, 4, 5, 2), (7, 4, 5, 2)])
@pytest.mark.parametrize("view", ALL_VIEWS)
def test_a_view_is_undone_exactly(view, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    np.testing.assert_array_equal(view.undo(view.apply(images)), images)


def test_the_eight_symmetries_of_a_square_differ_and_come_from_quarter_turns_and_mirrors():
    image = np.arange(9).reshape(1, 3, 3, 1)
    found = {view.apply(image).tobytes() for view in ALL_VIEWS}
    turns = [np.rot90(image, k, axes=(1, 2)) for k in range(4)]
    expected = {np.ascontiguousarray(x).tobytes() for t in turns for x in (t, t[:, :, ::-1])}
    assert len(found) == 8
    assert found == expected


def test_flip_is_the_image_and_its_mirror_image():
    image = np.arange(6).reshape(1, 2, 3, 1)
    first, second = (view.apply(image)[0, ..., 0].tolist() for view in VIEWS["flip"])
    assert first == [[0, 1, 2], [3, 4, 5]]
    assert second == [[2, 1, 0], [5, 4, 3]]


def test_without_augmentation_there_is_one_view_the_image():
    assert VIEWS["none"] == (IDENTITY,)
    image = np.arange(6).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(IDENTITY.apply(image), image)
