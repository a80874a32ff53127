"""Duplicate and near-duplicate images in two parts of a split.

Two images are near-identical if their perceptual hashes differ in at most :data:`MAX_DISTANCE` of
512 bits. Half of the bits describe the whole image and half its central part, since each alone
gives false matches: whole fundus photographs share their black border, and the centers of many
dermoscopic images are one small dark spot. Slices of different patients look alike too, so volumes
are compared byte for byte alone.
"""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import imagehash
import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt16, UInt64
from PIL import Image
from tqdm import tqdm

from data.formats.images import open_image, to_rgb
from data.formats.intensity import FULL_RANGE, IntensityRange
from data.formats.volumes import is_nifti
from data.labels import PARTS
from data.sources import ImageSource

MAX_DISTANCE = 64
"""Maximum number of differing bits, of 512, of near-identical images.

Measured on all of HAM10000 and on 308 fundus photographs of ODIR-5K. Of 50 million pairs of
different lesions and 47 thousand pairs of different patients, one is within this distance: the same
picture under two lesion numbers. The next nearest have distances of 84 and 80 and are only similar.
An image saved again as JPEG of quality 60, shrunk to 70 %, squeezed to a square, brightened by 10 %
or cropped by 2 % stays within this distance of itself in at least 98 of 100 cases. Cropped by 4 %,
it is found in two of three cases in skin and hardly ever in fundus images; mirrored or rotated,
never. Another photograph of the same lesion is a different picture.
"""

HASH_SIZE = 16
"""Side of each of the two hashes in bits.

With 8 bits per side, thousands of pairs of different lesions in HAM10000 differ in less than an
eighth of the bits, more than there are pairs of one lesion.
"""

CENTER = 0.7
"""Relative side of the central part: the largest square within a round fundus image."""

FLAT = 1.0
"""Standard deviation of the gray levels, 0 to 255, below which a hash describes only noise."""


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """Hashes of every image of a dataset.

    Attributes:
        digests: SHA-256 of the encoded bytes in hex, unicode [n].
        perceptual: Perceptual hash, [n, 8]; zeros for broken and flat images.
        broken: Whether the image cannot be decoded, [n].
        flat: Whether a perceptual hash is useless, [n]: the image has a single color, or is a
            volume.
    """

    digests: Shaped[np.ndarray, " n"]
    perceptual: UInt64[np.ndarray, "n 8"]
    broken: Bool[np.ndarray, " n"]
    flat: Bool[np.ndarray, " n"]


class Pair(NamedTuple):
    """Two images of the same picture in two parts.

    Attributes:
        parts: The two parts, in the order of :data:`data.labels.PARTS`.
        rows: Row number of the image in each.
        identical: Whether they are the same byte for byte.
        distance: Number of differing bits of their perceptual hashes.
    """

    parts: tuple[str, str]
    rows: tuple[int, int]
    identical: bool
    distance: int


@dataclass(frozen=True)
class Overlap:
    """Number of pictures that two parts share.

    Attributes:
        parts: The two parts, in the order of :data:`data.labels.PARTS`.
        identical_pairs: Pairs of images that are the same byte for byte.
        near_pairs: Pairs that are only near-identical.
        identical_images: Images of the second part that are also in the first, byte for byte.
        images: Images of the second part with an identical or near-identical one in the first.
    """

    parts: tuple[str, str]
    identical_pairs: int
    near_pairs: int
    identical_images: int
    images: int


def hash_images(source: ImageSource, intensity_range: IntensityRange = FULL_RANGE) -> ImageHashes:
    """Hash every image; images that cannot be decoded are marked as broken.

    Args:
        source: Encoded images.
        intensity_range: Range that maps to black and white in images of more than 8 bits.
    """
    rows = range(len(source))
    with ThreadPoolExecutor() as pool:
        results = pool.map(lambda row: _hash_image(source[row], intensity_range), rows)
        images = list(
            tqdm(
                results,
                total=len(rows),
                desc="Hashing images",
                unit="image",
                leave=False,
                delay=2,
                disable=None,
            )
        )
    return ImageHashes(
        digests=np.array([image.digest for image in images], "U64"),
        perceptual=np.array([image.perceptual for image in images], np.uint64).reshape(-1, 8),
        broken=np.array([image.broken for image in images], bool),
        flat=np.array([image.flat for image in images], bool),
    )


def find_duplicate_pairs(
    hashes: ImageHashes, rows: Mapping[str, Int64[np.ndarray, " _"]]
) -> list[Pair]:
    """Find every picture that is in two parts, by parts and rows in ascending order.

    Broken and flat images are compared only byte for byte.

    Args:
        hashes: Result of :func:`hash_images`.
        rows: Row numbers of "train", "validation" and "test".
    """
    pairs = []
    for parts in itertools.combinations(PARTS, 2):
        first, second = rows[parts[0]], rows[parts[1]]
        distances = dict(_near(hashes, first, second))
        identical = set(_identical(hashes, first, second))
        pairs += [
            Pair(parts, both, both in identical, distances.get(both, 0))
            for both in sorted(distances.keys() | identical)
        ]
    return pairs


def count_overlaps(pairs: Iterable[Pair]) -> list[Overlap]:
    """Count the pairs of every two parts, and the images of the second part in them.

    Args:
        pairs: Result of :func:`find_duplicate_pairs`.
    """
    pairs = list(pairs)
    return [
        _overlap(parts, [pair for pair in pairs if pair.parts == parts])
        for parts in itertools.combinations(PARTS, 2)
    ]


def _overlap(parts: tuple[str, str], pairs: list[Pair]) -> Overlap:
    identical = [pair for pair in pairs if pair.identical]
    return Overlap(
        parts=parts,
        identical_pairs=len(identical),
        near_pairs=len(pairs) - len(identical),
        identical_images=len({pair.rows[1] for pair in identical}),
        images=len({pair.rows[1] for pair in pairs}),
    )


class _ImageHash(NamedTuple):
    digest: str
    perceptual: UInt64[np.ndarray, " 8"]
    broken: bool = False
    flat: bool = False


def _hash_image(encoded: bytes, intensity_range: IntensityRange) -> _ImageHash:
    digest = hashlib.sha256(encoded).hexdigest()
    no_hash = np.zeros(8, np.uint64)
    if is_nifti(encoded):
        return _ImageHash(digest, no_hash, flat=True)
    try:
        with open_image(encoded) as image:
            image.draft(None, (256, 256))  # decodes a large JPEG at a fraction of its size
            gray = to_rgb(image, intensity_range).convert("L")
    except Exception:  # Pillow raises exceptions of many types
        return _ImageHash(digest, no_hash, broken=True)
    whole = _thumbnail(gray, 1.0)
    if np.std(np.asarray(whole)) < FLAT:
        return _ImageHash(digest, no_hash, flat=True)
    bits = [imagehash.phash(part, HASH_SIZE).hash for part in (whole, _thumbnail(gray, CENTER))]
    return _ImageHash(digest, np.packbits(bits).view(np.uint64))


def _thumbnail(gray: Image.Image, fraction: float) -> Image.Image:
    """Return the central part at the size of the hash's input, cropped at fractions of a pixel."""
    side = 4 * HASH_SIZE
    low, high = (1 - fraction) / 2, (1 + fraction) / 2
    box = (low * gray.width, low * gray.height, high * gray.width, high * gray.height)
    return gray.resize((side, side), Image.Resampling.BILINEAR, box=box)


def _identical(
    hashes: ImageHashes, first: Int64[np.ndarray, " _"], second: Int64[np.ndarray, " _"]
) -> Iterator[tuple[int, int]]:
    holders: dict[str, list[int]] = {}
    for row in first.tolist():
        holders.setdefault(hashes.digests[row], []).append(row)
    for row in second.tolist():
        for holder in holders.get(hashes.digests[row], ()):
            yield holder, row


def _near(
    hashes: ImageHashes, first: Int64[np.ndarray, " _"], second: Int64[np.ndarray, " _"]
) -> Iterator[tuple[tuple[int, int], int]]:
    """Yield the rows and the distance of all near pairs, one block of rows at a time."""
    usable = ~(hashes.broken | hashes.flat)
    first, second = first[usable[first]], second[usable[second]]
    perceptual = hashes.perceptual
    half = perceptual.shape[1] // 2
    for start in range(0, len(second), 128):
        block = second[start : start + 128]
        # Few pairs pass on the bits of the whole image, so comparing the center costs little.
        passed = _distances(perceptual[block, None, :half], perceptual[None, first, :half])
        in_block, in_first = np.nonzero(passed <= MAX_DISTANCE)
        a, b = first[in_first], block[in_block]
        distances = _distances(perceptual[a], perceptual[b])
        near = distances <= MAX_DISTANCE
        found = zip(a[near].tolist(), b[near].tolist(), strict=True)
        yield from zip(found, distances[near].tolist(), strict=True)


def _distances(
    a: UInt64[np.ndarray, "*#a words"], b: UInt64[np.ndarray, "*#a words"]
) -> UInt16[np.ndarray, "*_"]:
    """Count differing bits word by word, since a sum over a short last axis is slow."""
    total = np.bitwise_count(a[..., 0] ^ b[..., 0]).astype(np.uint16)
    for word in range(1, a.shape[-1]):
        total += np.bitwise_count(a[..., word] ^ b[..., word])
    return total
