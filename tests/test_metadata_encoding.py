"""Metadata columns as features: numbers, categories, missing values, and the recorded encoding."""

import json

import numpy as np
import pytest

from lmf_jax.metadata_encoding import (
    MOST_CATEGORIES,
    CategoryColumn,
    MetadataEncoding,
    NumberColumn,
    fit_column,
    parse_encoding,
)

AGES = np.array(["30", "50", "", "70"])
SITES = np.array(["hand", "foot", "hand", ""])


@pytest.fixture
def encoding() -> MetadataEncoding:
    return MetadataEncoding((fit_column("age", AGES), fit_column("site", SITES)))


def test_numbers_are_standardized_and_categories_one_hot(encoding):
    features = encoding.encode({"age": AGES, "site": SITES}, 4)
    deviation = 20 / np.std([30, 50, 70])
    expected = [
        [-deviation, 0, 0, 1, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 0, 1, 0],
        [deviation, 0, 0, 0, 1],
    ]
    np.testing.assert_allclose(features, expected, rtol=1e-6)
    assert features.dtype == np.float32
    assert encoding.widths == (2, 3)


def test_later_values_are_encoded_by_the_training_part(encoding):
    later = {"age": np.array(["50", "inf", "nan", "1e99", "fifty", "9999", "-9999"])}
    later["site"] = np.array(["foot", "Foot", "knee", "", "hand", "hand", "hand"])
    features = encoding.encode(later, 7)
    np.testing.assert_array_equal(features[:, 0], [0, 0, 0, 0, 0, 5, -5])
    np.testing.assert_array_equal(features[:, 1], [0, 1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(features[:, 4], [0, 1, 1, 1, 0, 0, 0])
    assert encoding.num_missing(features) == {"age": 4, "site": 3}


def test_an_absent_column_is_missing_for_every_image(encoding):
    features = encoding.encode({"site": SITES}, 4)
    np.testing.assert_array_equal(features[:, :2], [[0, 1]] * 4)
    assert encoding.encode({}, 0).shape == (0, 5)


def test_a_column_can_be_taken_away_later(encoding):
    features = encoding.encode({"age": AGES, "site": SITES}, 4)
    np.testing.assert_array_equal(
        encoding.without(features, ["site"]), encoding.encode({"age": AGES}, 4)
    )
    np.testing.assert_array_equal(
        encoding.without(features, ["age", "site"]), encoding.encode({}, 4)
    )
    np.testing.assert_array_equal(
        features, encoding.encode({"age": AGES, "site": SITES}, 4)
    )  # the features themselves stay


def test_a_record_gives_the_same_encoding(encoding):
    assert parse_encoding(json.loads(json.dumps(encoding.record))) == encoding


@pytest.mark.parametrize(
    ("values", "expected"),
    {
        "infinity is unknown": (["10", "30", "inf", "nan"], NumberColumn("x", 20.0, 10.0)),
        "text among numbers": (["1", "2", "2A", "1"], CategoryColumn("x", ("1", "2", "2A"))),
        "known or not": (["yes", "", "yes"], CategoryColumn("x", ("yes",))),
        "one number or none": (["1", "", "1"], CategoryColumn("x", ("1",))),
        "huge numbers": (["3e38", "-3e38"], NumberColumn("x", 0.0, 3e38)),
    }.values(),
)
def test_the_kind_follows_from_the_values(values, expected):
    assert fit_column("x", np.array(values)) == expected


@pytest.mark.parametrize(
    ("values", "reason"),
    {
        "one value": (["7", "7"], "has the value '7' for every training image"),
        "one word": (["f", "f"], "has the value 'f' for every training image"),
        "nothing": (["", ""], "has no known value for every training image"),
        "infinity": (["inf", "", "1e99"], "has no known value for every training image"),
        "too many words": (
            [f"w{n}" for n in range(MOST_CATEGORIES + 1)],
            "has 51 values that are not all numbers, such as 'w0'; expected numbers alone, or at",
        ),
        "a number that is none": (
            [*map(str, range(60)), ">80"],
            "has 61 values that are not all numbers, such as '>80'",
        ),
    }.values(),
)
def test_a_column_that_tells_nothing_or_too_much_is_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        fit_column("x", np.array(values))


GOOD = {"name": "age", "kind": "number", "mean": 50.0, "std": 10.0}


@pytest.mark.parametrize(
    "record",
    [
        None,
        [],
        {},
        ["age"],
        [GOOD, GOOD],
        [GOOD | {"std": 0}],
        [GOOD | {"std": "1"}],
        [GOOD | {"mean": float("nan")}],
        [GOOD | {"mean": True}],
        [GOOD | {"name": "a\nb"}],
        [GOOD | {"name": "a" * 101}],
        [GOOD | {"kind": "text"}],
        [{"name": "sex", "kind": "category", "values": []}],
        [{"name": "sex", "kind": "category", "values": "fm"}],
        [{"name": "sex", "kind": "category", "values": ["f", "f"]}],
        [{"name": "sex", "kind": "category", "values": ["f", 1]}],
        [{"name": "sex", "kind": "category", "values": list(map(str, range(51)))}],
        [GOOD | {"name": str(n)} for n in range(51)],
    ],
)
def test_a_record_that_is_none_is_refused(record):
    with pytest.raises(ValueError, match="column"):
        parse_encoding(record)
