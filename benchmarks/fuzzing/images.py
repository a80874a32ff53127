"""Targets that decode images.

Pillow's limit on pixels is lowered while they run: it takes gigabytes and seconds to come near the
real one, and what is refused and how is the same.
"""

import functools
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from PIL import Image

from benchmarks.fuzzing.harness import Files, Target, no_memory_error
from benchmarks.fuzzing.mutations import changed_bytes
from data.audit.duplicates import hash_images
from data.batches.decoded import DecodedImages, DecodedMasks
from data.batches.image_cache import cached_images
from data.formats.images import METHOD_VERSION, decode_image
from data.inputs.image_files import InferenceImages, image_files
from data.splits.dataset import Dataset
from data.splits.segmentation import SegmentationDataset
from lmf_jax.config import ImageSpec

SIDE = 8
SPEC = ImageSpec(SIDE, SIDE)
IMAGE = "image.png"


def encoded_images() -> list[bytes]:
    """Return small images in every format that is read, and in some that are not."""
    rng = np.random.default_rng(0)
    rgba = Image.fromarray(rng.integers(0, 256, (9, 13, 4), np.uint8), "RGBA")
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    deep = Image.fromarray(rng.integers(0, 65536, (9, 13), np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    frames: dict[str, Any] = {"save_all": True, "append_images": [grey, rgb]}
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (rgb, "png", {"exif": exif}),
        *((image, "png", {}) for image in (grey, rgba, deep, rgb.quantize(7), rgba.convert("LA"))),
        (rgb.quantize(7), "png", {"transparency": 1}),
        (rgb, "png", {"icc_profile": b"profile" * 9, "dpi": (72, 72)}),
        (rgb, "png", frames),
        (rgb, "jpeg", {"exif": exif, "quality": 60}),
        (grey, "jpeg", {"progressive": True}),
        (rgb.convert("CMYK"), "jpeg", {}),
        (rgb, "mpo", {"save_all": True, "append_images": [rgb]}),
        *((image, "tiff", {"exif": exif}) for image in (grey, rgb, rgba, deep)),
        (rgb.convert("F"), "tiff", {}),
        (rgb.convert("CMYK"), "tiff", {"compression": "tiff_lzw"}),
        (rgb, "tiff", {"compression": "tiff_adobe_deflate"} | frames),
        (rgb, "tiff", {"compression": "jpeg"}),
        (rgb, "webp", {"exif": exif}),
        (rgba, "webp", {"lossless": True}),
        (rgba, "webp", frames),
        (rgb, "gif", frames),
        (rgb.quantize(7), "gif", {"transparency": 2}),
        *((image, "bmp", {}) for image in (rgb, rgb.quantize(7), grey.convert("1"))),
        *((image, "ppm", {}) for image in (rgb, grey)),
        *((rgb, kind, {}) for kind in ("eps", "ico", "pcx", "tga", "jpeg2000", "pdf")),
    ]
    return [_encode(image, kind, options) for image, kind, options in wanted]


def _encode(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Take a PNG apart."""
    place, chunks = 8, []
    while place < len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + size]
        chunks.append((kind, data))
        place += size + 12
    return chunks


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Put a PNG together, with checksums that hold."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


_ODD_CHUNKS = (
    (b"zTXt", b"bomb\0\0" + zlib.compress(bytes(2**23), 9)),
    (b"iCCP", b"bomb\0\0" + zlib.compress(bytes(2**23), 9)),
    (b"tEXt", b"XML:com.adobe.xmp\0" + b"<x" * 99),
    (b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\xff\xff\xff\xff\0\x06\0\0"),
    (b"tRNS", b"\0" * 300),
    (b"PLTE", b"\0" * 7),
    (b"acTL", b"\xff" * 8),
    (b"IDAT", zlib.compress(bytes(2**22), 9)),
    (b"IHDR", struct.pack(">IIBBBBB", 16000, 16000, 8, 6, 0, 0, 0)),
    (b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 1, 0, 0, 0, 0)),
)


@st.composite
def _changed_png(draw: DrawFn, contents: list[bytes]) -> bytes:
    """Draw a PNG whose chunks are changed, moved or twice, with checksums that hold."""
    chunks = _chunks(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(chunks) - 1))
        way = draw(st.sampled_from(("data", "data", "odd", "twice", "delete")))
        if way == "data":
            chunks[place] = (chunks[place][0], draw(changed_bytes([chunks[place][1] or b"0"], 2)))
        elif way == "odd":
            chunks.insert(place, draw(st.sampled_from(_ODD_CHUNKS)))
        elif way == "twice":
            chunks.insert(draw(st.integers(0, len(chunks))), chunks[place])
        elif len(chunks) > 1:
            del chunks[place]
    return png(chunks)


def _bad_images() -> SearchStrategy[Files]:
    images = encoded_images()
    pngs = [content for content in images if content[:4] == b"\x89PNG"]
    any_bytes = changed_bytes(images)
    return st.one_of(any_bytes, any_bytes, _changed_png(pngs)).map(lambda content: {IMAGE: content})


def _with_small_limit(read: Callable[[Path], None]) -> Callable[[Path], None]:
    @functools.wraps(read)
    def limited(folder: Path) -> None:
        with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 2**20):
            read(folder)

    return limited


def _dataset(folder: Path) -> Dataset:
    """Return a dataset of a single image."""
    return Dataset(
        name="own",
        class_names=("a", "b"),
        ids=np.array(["image"]),
        labels=np.zeros(1, np.int32),
        groups=None,
        source=[(folder / IMAGE).read_bytes()],
        rows={},
        defaults={},
        content_fingerprint="0" * 64,
        fingerprint="0" * 64,
    )


def _check_images(images: np.ndarray) -> None:
    assert images.shape == (1, SIDE, SIDE, 3), images.shape
    assert images.dtype == np.uint8, images.dtype


@_with_small_limit
def _read_of_dataset(folder: Path) -> None:
    """Read as training does: one that cannot be decoded is named."""
    _check_images(DecodedImages(_dataset(folder), SPEC)[np.zeros(1, np.int64)])


def encoded_masks() -> list[bytes]:
    """Return small masks of three classes in what masks are kept in, and pictures that are none."""
    classes = np.random.default_rng(0).integers(0, 3, (9, 13), np.uint8)
    indices = Image.fromarray(classes)
    indices.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    exif = Image.Exif()
    exif[0x0112] = 6
    masks = (Image.fromarray(classes), indices, Image.fromarray(classes.astype(np.uint16)))
    wanted: list[tuple[Image.Image, str, dict[str, Any]]] = [
        *((mask, "png", {"exif": exif}) for mask in masks),
        *((mask, "png", {"bits": 2}) for mask in (indices,)),
        *((mask, kind, {}) for mask in masks[:2] for kind in ("gif", "bmp", "tiff")),
    ]
    return [*(_encode(mask, kind, options) for mask, kind, options in wanted), *encoded_images()]


def _bad_masks() -> SearchStrategy[Files]:
    masks = encoded_masks()
    pngs = [content for content in masks if content[:4] == b"\x89PNG"]
    any_bytes = changed_bytes(masks)
    return st.one_of(any_bytes, _changed_png(pngs)).map(lambda content: {IMAGE: content})


@_with_small_limit
def _read_mask(folder: Path) -> None:
    """Read as training does: the pixels are classes, or the mask is named."""
    encoded = [(folder / IMAGE).read_bytes()]
    dataset = SegmentationDataset(
        name="own",
        class_names=("a", "b", "c"),
        ids=np.array(["image"]),
        groups=None,
        source=encoded,
        masks=encoded,
        rows={},
        defaults={},
        content_fingerprint="0" * 64,
        fingerprint="0" * 64,
    )
    masks = DecodedMasks(dataset, SPEC)[np.zeros(1, np.int64)]
    assert masks.shape == (1, SIDE, SIDE), masks.shape
    assert masks.dtype == np.uint8, masks.dtype
    assert masks.max() < 3, masks.max()


@_with_small_limit
def _read_loose(folder: Path) -> None:
    """Read as a prediction does: one that cannot be decoded is masked and named."""
    images = InferenceImages(image_files(folder), SPEC, 1)
    (batch,) = images
    _check_images(batch["image"])
    assert batch["mask"].tolist() == [0 not in images.broken]
    try:
        decode_image((folder / IMAGE).read_bytes(), SPEC)
    except Exception as error:  # whatever Pillow raises, as its docstring says
        no_memory_error(error)
        assert not batch["mask"][0]
        assert images.broken[0]
    else:
        assert batch["mask"][0]


@_with_small_limit
def _look(folder: Path) -> None:
    """Look as an audit does: nothing is raised."""
    hashes = hash_images([(folder / IMAGE).read_bytes()])
    assert hashes.perceptual.shape == (1, 8)
    assert len(hashes.digests[0]) == 64


def _bad_caches() -> SearchStrategy[Files]:
    good = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    files = [io.BytesIO() for _ in range(3)]
    np.save(files[0], good)
    files[0].write(zlib.crc32(good.data).to_bytes(4, "little"))
    np.save(files[1], good[..., :2])
    np.savez(files[2], good)
    caches = changed_bytes([file.getvalue() for file in files])
    image = encoded_images()[0]
    name = f"images/{'0' * 32}-{SPEC.key}-v{METHOD_VERSION}.npy"
    return caches.map(lambda content: {IMAGE: image, name: content})


def _read_cache(folder: Path) -> None:
    """Open the cache of decoded images, or rewrite it, and read it."""
    _check_images(cached_images(_dataset(folder), SPEC, folder)[np.arange(1)])


TARGETS = (
    Target("dataset-image", _bad_images, _read_of_dataset),
    Target("dataset-mask", _bad_masks, _read_mask),
    Target("loose-image", _bad_images, _read_loose, cost=2),
    Target("compared-image", _bad_images, _look),
    Target("image-cache", _bad_caches, _read_cache, cost=10),
)
