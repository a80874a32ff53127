"""TFDS builder of a MedMNIST file."""

from collections.abc import Iterator

from data.builders.images import RawBuilder
from data.datasets.medmnist.labels import encoded_images, read_labels
from data.labels import Labels


class Builder(RawBuilder):
    """Builder of medmnist:FILE.npz, any flag and size."""

    def read_labels(self) -> Labels:
        """Return the labels of all images, with the official split."""
        return read_labels(self.raw)

    def read_images(self) -> Iterator[bytes]:
        """Yield the images; raise ``UserError`` where the file is damaged."""
        return encoded_images(self.raw)

    def broken_images(self) -> list[str]:
        """Return an empty list: pixels are not encoded, so no single image can be broken."""
        return []
