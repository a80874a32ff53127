"""The same picture in two parts: saved again, changed a little, or only resembling."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from data.audit.duplicates import (
    MAX_DISTANCE,
    ImageHashes,
    Overlap,
    Pair,
    count_overlaps,
    find_duplicate_pairs,
    hash_images,
)


def picture(seed: int, width: int = 300, height: int = 200) -> Image.Image:
    """Draw soft blobs of color, as different from another seed's as two photographs."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, format: str = "jpeg", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def parts(train: list[int], validation: list[int], test: list[int]) -> dict[str, np.ndarray]:
    rows = {"train": train, "validation": validation, "test": test}
    return {part: np.array(numbers, np.int64) for part, numbers in rows.items()}


def pairs_of(train: list[bytes], test: list[bytes]) -> list[Pair]:
    count = len(train) + len(test)
    rows = parts([*range(len(train))], [], [*range(len(train), count)])
    return find_duplicate_pairs(hash_images(train + test), rows)


ORIGINAL = picture(0)
TURNED = Image.Exif()
TURNED[0x0112] = 3  # to be shown upside down


@pytest.mark.parametrize(
    "changed",
    [
        encode(ORIGINAL, quality=60),
        encode(ORIGINAL, "png"),
        encode(ORIGINAL.resize((210, 140))),
        encode(ORIGINAL.resize((1200, 800))),
        encode(ORIGINAL.resize((200, 200))),
        encode(ORIGINAL.crop((3, 2, 297, 198))),
        encode(ImageEnhance.Brightness(ORIGINAL).enhance(1.1)),
        encode(ORIGINAL.convert("L")),
        encode(ORIGINAL.rotate(180), exif=TURNED),
    ],
    ids=["quality", "png", "small", "large", "squeezed", "cropped", "brighter", "gray", "turned"],
)
def test_a_picture_that_was_changed_a_little_is_near_identical(changed: bytes) -> None:
    (pair,) = pairs_of([encode(picture(1)), encode(ORIGINAL)], [changed, encode(picture(2))])
    assert (pair.parts, pair.rows) == (("train", "test"), (1, 2))
    assert not pair.identical
    assert pair.distance <= MAX_DISTANCE


def test_the_same_bytes_are_identical() -> None:
    (pair,) = pairs_of([encode(ORIGINAL)], [encode(picture(1)), encode(ORIGINAL)])
    assert pair == Pair(("train", "test"), (0, 2), identical=True, distance=0)


def in_a_frame(image: Image.Image) -> Image.Image:
    """Lay a pale picture into a frame that is strong and always the same."""
    framed = picture(60)
    framed.paste(Image.blend(Image.new("RGB", image.size, "gray"), image, 0.05), (40, 25))
    return framed


def with_a_spot(image: Image.Image) -> Image.Image:
    image = image.copy()
    image.paste(picture(50, 220, 150), (40, 25))
    return image


@pytest.mark.parametrize(
    "others",
    [
        [picture(seed) for seed in range(1, 30)],
        [with_a_spot(picture(seed)) for seed in range(10)],
        [in_a_frame(picture(seed, 220, 150)) for seed in range(10)],
    ],
    ids=["nothing in common", "the center in common", "the frame in common"],
)
def test_different_pictures_are_not_reported(others: list[Image.Image]) -> None:
    encoded = [encode(image) for image in others]
    assert pairs_of(encoded[::2], encoded[1::2]) == []


@pytest.mark.parametrize("noise", [0, 2])
def test_even_images_are_only_compared_byte_for_byte(noise: int) -> None:
    def even(level: int) -> bytes:
        grain = np.random.default_rng(level).integers(0, noise + 1, (64, 64, 3))
        return encode(Image.fromarray((level + grain).astype(np.uint8)), "png")

    black, gray = even(0), even(100)
    assert hash_images([black, encode(ORIGINAL)]).flat.tolist() == [True, False]
    assert pairs_of([black, gray], [even(1), black]) == [Pair(("train", "test"), (0, 3), True, 0)]


def test_a_broken_image_is_marked_and_only_compared_byte_for_byte() -> None:
    cut = encode(ORIGINAL)[:900]
    hashes = hash_images([b"no image", cut, encode(ORIGINAL), b"", b"no image"])
    assert hashes.broken.tolist() == [True, True, False, True, True]
    rows = parts([0, 1, 2], [], [3, 4])
    assert find_duplicate_pairs(hashes, rows) == [Pair(("train", "test"), (0, 4), True, 0)]


def test_a_source_that_fails_is_not_taken_for_a_broken_image() -> None:
    class Unreadable(list):
        def __getitem__(self, row):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        hash_images(Unreadable([b""]))


def made_up(hashes: np.ndarray) -> ImageHashes:
    nothing = np.zeros(len(hashes), bool)
    digests = np.array([f"{row:064}" for row in range(len(hashes))])
    return ImageHashes(digests, hashes.astype(np.uint64), nothing, nothing)


def test_distances_are_counted_over_all_words_up_to_the_threshold() -> None:
    hashes = np.zeros((4, 8), np.uint64)
    hashes[1, 3] = 2**64 - 1  # 64 bits, in the half of the whole image
    hashes[2, 7] = 2**64 - 1  # 64 bits, in the half of the center
    hashes[3, [0, 7]] = 1, 2**64 - 1  # 65 bits
    found = find_duplicate_pairs(made_up(hashes), parts([0], [], [1, 2, 3]))
    assert [(pair.rows, pair.distance) for pair in found] == [((0, 1), 64), ((0, 2), 64)]


def test_every_pair_of_a_large_set_is_found_in_order() -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, (1000, 8), np.uint64)
    rows = parts([*range(500)], [*range(500, 700)], [*range(700, 1000)])
    hashes[[600, 827]] = hashes[3]
    hashes[701] = hashes[4] ^ np.uint64(255)  # 8 bits of each word
    hashes[2] = hashes[1]  # within training: no leak
    found = find_duplicate_pairs(made_up(hashes), rows)
    assert found == [
        Pair(("train", "validation"), (3, 600), False, 0),
        Pair(("train", "test"), (3, 827), False, 0),
        Pair(("train", "test"), (4, 701), False, 64),
        Pair(("validation", "test"), (600, 827), False, 0),
    ]


def test_pairs_and_the_images_in_them_are_counted() -> None:
    leak, between = ("train", "test"), ("validation", "test")
    pairs = [
        Pair(leak, (0, 9), True, 0),
        Pair(leak, (1, 9), True, 0),
        Pair(leak, (2, 9), False, 20),
        Pair(leak, (2, 8), False, 30),
        Pair(between, (5, 8), False, 40),
    ]
    assert count_overlaps(pairs) == [
        Overlap(("train", "validation"), 0, 0, identical_images=0, images=0),
        Overlap(leak, identical_pairs=2, near_pairs=2, identical_images=1, images=2),
        Overlap(between, identical_pairs=0, near_pairs=1, identical_images=0, images=1),
    ]
