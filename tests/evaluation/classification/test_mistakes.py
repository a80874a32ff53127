import numpy as np
import pytest

from lmf_jax.errors import UserError
from lmf_jax.evaluation.classification.mistakes import (
    MAX_MISTAKES,
    Mistakes,
    confident_mistakes,
    read_mistakes,
    write_mistakes,
)

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
LOGITS = np.zeros((8, 3), np.float32)
LOGITS[np.arange(8), [0, 0, 1, 2, 0, 1, 1, 2]] = [
    9,
    1,
    4,
    2,
    5,
    3,
    6,
    7,
]  # Only the first is correct.


def test_the_most_confident_mistakes_come_first():
    np.testing.assert_array_equal(confident_mistakes(LABELS, LOGITS), [7, 6, 4, 2, 5])
    assert MAX_MISTAKES == 5


def test_a_perfect_model_has_no_mistakes():
    assert confident_mistakes(LABELS, np.eye(3)[LABELS]).shape == (0,)


def make_mistakes():
    heat = np.random.default_rng(0).random((2, 5, 2, 2), np.float32)
    places = confident_mistakes(LABELS, LOGITS)
    return Mistakes(places, np.zeros((5, 8, 8, 3), np.uint8), *heat)


def test_written_mistakes_are_read(tmp_path):
    write_mistakes(tmp_path, make_mistakes())
    read = read_mistakes(tmp_path, 9)
    for name, array in vars(make_mistakes()).items():
        np.testing.assert_array_equal(getattr(read, name), array)
    assert [path.name for path in tmp_path.iterdir()] == ["mistakes.npz"]


def test_a_missing_file_is_none(tmp_path):
    assert read_mistakes(tmp_path, 9) is None


@pytest.mark.parametrize("content", [b"", b"no archive"])
def test_a_broken_file_is_named(tmp_path, content):
    (tmp_path / "mistakes.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"mistakes.npz is damaged or not an npz file"):
        read_mistakes(tmp_path, 9)
