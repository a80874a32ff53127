"""The size of images: as it is given, as it is recorded, and as it is read from older records."""

import json

import pytest

from lmf_jax.cli.command_line import parse_config
from lmf_jax.config import Config, ImageSpec, ResolvedConfig
from lmf_jax.errors import UserError


def record_of(text):
    return json.loads(json.dumps(parse_config(["--image-size", text]).resolve({}).record()))


def test_a_size_is_the_same_after_it_was_recorded():
    for text, recorded, size in [("64", 64, (64, 64)), ("512,384", [512, 384], (512, 384))]:
        record = record_of(text)
        assert record["image_size"] == recorded
        assert ResolvedConfig.from_record(record).data.image_spec.size == size


def test_a_size_of_volumes_begins_with_the_depth():
    record = record_of("24,64,48")
    assert record["image_size"] == [24, 64, 48]
    spec = ResolvedConfig.from_record(record).data.image_spec
    assert (spec.depth, spec.size, spec.shape) == (24, (64, 48), (24, 64, 48, 3))
    assert record_of("32,32,32")["image_size"] == [32, 32, 32]


def test_a_square_has_one_record():
    assert record_of("64,64")["image_size"] == 64
    assert Config.of(image_size=(64, 64)) == Config.of(image_size=64)


@pytest.mark.parametrize("size", [0, [0, 64], [64, -1]])
def test_a_record_without_a_size_is_refused(size):
    with pytest.raises(UserError, match="--image-size is"):
        ResolvedConfig.from_record(record_of("64") | {"image_size": size})


def test_files_of_images_of_one_size_keep_their_names():
    assert ImageSpec(64, 64).key == "64px"
    specs = [
        ImageSpec(64, 32),
        ImageSpec(32, 64),
        ImageSpec(64, 32, "pad"),
        ImageSpec(64, 32, "crop"),
    ]
    specs += [ImageSpec(64, 32, depth=8), ImageSpec(64, 64, depth=64)]
    specs += [ImageSpec(64, 32, channels=1), ImageSpec(64, 32, "pad", channels=1)]
    assert len({spec.key for spec in specs}) == len(specs)
