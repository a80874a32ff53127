"""Speed of the input pipeline, compared with PyTorch: ``python -m benchmarks.input_pipeline``.

Nothing is trained: batches are taken as fast as they come. "cached" reads the image cache and
"streamed" decodes ArrayRecord (``--cache none``): in Grain's read threads, and from 16 cores on
in its worker processes. "torch" is a DataLoader of two worker processes over the same encoded
images as files, decoded and resized by Pillow and normalized by torchvision, as users of PyTorch
write it. All take turns within one process.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.record import record
from data.batches.image_cache import open_images
from data.batches.pipeline import train_batches
from data.splits.dataset import Dataset, load_dataset
from lmf_jax.config import DEFAULT_DATA_DIR, ImageSpec
from lmf_jax.errors import run_command

WARM_UP = 10
"""Batches before the clock starts: more than a pipeline prefetches while the others run."""


@dataclass(frozen=True)
class Options:
    """Measure training images per second of the input pipeline."""

    dataset: str = "ham10000"
    """The prepared dataset."""
    data_dir: str = DEFAULT_DATA_DIR
    """The folder of prepared datasets and image caches."""
    image_size: int = 224
    """Side of the square image in pixels."""
    batch_size: int = 32
    """Images per batch."""
    seconds: float = 2.0
    """Length of a measurement."""
    rounds: int = 7
    """Measurements of each; the medians are printed."""
    peer: Literal["torch", "none"] = "torch"
    """The pipeline to compare with; torch needs torch and torchvision installed."""


def main() -> None:
    """Print images per second of each, in turns."""
    options = tyro.cli(Options)
    dataset = load_dataset(options.dataset, data_dir=options.data_dir)
    streams = {"cached": ours(options, dataset, "disk"), "streamed": ours(options, dataset, "none")}
    with tempfile.TemporaryDirectory() as folder:
        if options.peer == "torch":
            streams["torch"] = torch_batches(options, write_files(dataset, Path(folder)))
        speeds: dict[str, list[float]] = {name: [] for name in streams}
        for _ in range(options.rounds):
            for name, stream in streams.items():
                speeds[name].append(images_per_second(stream, options))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    rows = [
        {
            "pipeline": name,
            "images/s": round(medians[name]),
            "slowest": round(min(found)),
            "fastest": round(max(found)),
            "over torch": medians[name] / medians["torch"] if "torch" in medians else "not run",
        }
        for name, found in speeds.items()
    ]
    record("input_pipeline", rows, dataset=options.dataset, image_size=options.image_size)


def images_per_second(stream: Iterator[Any], options: Options) -> float:
    """Read batches and return images per second."""
    for _ in range(WARM_UP):
        next(stream)
    batches, started = 0, time.perf_counter()
    while time.perf_counter() - started < options.seconds:
        next(stream)
        batches += 1
    return batches * options.batch_size / (time.perf_counter() - started)


def ours(options: Options, dataset: Dataset, cache: Literal["disk", "none"]) -> Iterator[Any]:
    """Return the training batches as ``train.py`` reads them."""
    spec = ImageSpec.of_size(options.image_size)
    images = open_images(dataset, spec, cache=cache, data_dir=options.data_dir)
    rows = dataset.rows["train"]
    return train_batches(images, dataset.labels, rows, batch_size=options.batch_size, seed=0)


def write_files(dataset: Dataset, folder: Path) -> list[tuple[Path, int]]:
    """Write the encoded training images to files, and return these with their labels."""
    files = []
    for row in dataset.rows["train"].tolist():
        path = folder / f"{row}.image"
        path.write_bytes(dataset.source[row])
        files.append((path, int(dataset.labels[row])))
    return files


def torch_batches(options: Options, files: list[tuple[Path, int]]) -> Iterator[Any]:
    """Yield the batches of PyTorch, epoch after epoch."""
    import torch
    from PIL import Image
    from torchvision import transforms

    size = (options.image_size, options.image_size)
    transform = transforms.Compose(
        [
            transforms.Resize(size),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )

    class Files(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, index: int) -> tuple[Any, int]:
            path, label = files[index]
            return transform(Image.open(path).convert("RGB")), label

    loader = torch.utils.data.DataLoader(
        Files(), options.batch_size, shuffle=True, num_workers=2, drop_last=True
    )
    while True:
        yield from loader


if __name__ == "__main__":
    run_command("benchmarks.input_pipeline", main)
