"""Form of the decoded images or volumes: size, channels and the way they are resized."""

from dataclasses import dataclass
from typing import Literal

ImageSize = int | tuple[int, int] | tuple[int, int, int]
"""The side of a square in pixels, or height and width; of volumes, depth, height and width. The
settings of a user may give a volume the side of a cube."""

Resize = Literal["stretch", "pad", "crop"]


def simplify_size(size: ImageSize | None) -> ImageSize | None:
    """Return the side instead of an equal height and width; return anything else unchanged.

    A size has one form: runs with ``--image-size 64`` and ``--image-size 64,64`` are the same
    experiment, and the record of a square is the one of earlier versions.
    """
    is_pair = isinstance(size, tuple) and len(size) == 2
    return size[0] if is_pair and size[0] == size[1] else size  # type: ignore[index]


def is_of_volumes(size: ImageSize | None) -> bool:
    """Return whether a size has a depth."""
    return isinstance(size, tuple) and len(size) == 3


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Return height and width of a size."""
    return (size[-2], size[-1]) if isinstance(size, tuple) else (size, size)


def format_size(size: ImageSize | None) -> str:
    """Return a size as it is written after ``--image-size``: ``64``, ``64,48`` or ``32,64,48``."""
    return ",".join(map(str, size)) if isinstance(size, tuple) else str(size)


@dataclass(frozen=True)
class ImageSpec:
    """Form in which images are decoded for a model: uint8 RGB or gray of one size.

    With a depth, these are volumes.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        resize: Whether an image of another aspect ratio is stretched, padded with black around its
            center, or cut to its center.
        channels: 3 for RGB, 1 for gray.
        depth: Slices of a volume; None for an image.
    """

    height: int
    width: int
    resize: Resize = "stretch"
    channels: int = 3
    depth: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for a size without pixels."""
        if min(self.shape[:-1]) < 1:
            raise ValueError(f"A side must be at least 1 pixel, got {min(self.shape[:-1])}.")

    @classmethod
    def of_size(cls, size: ImageSize, resize: Resize = "stretch", channels: int = 3) -> "ImageSpec":
        """Return the images of a size as it is recorded in ``config.json``."""
        depth = size[0] if is_of_volumes(size) else None  # type: ignore[index]
        return cls(*height_and_width(size), resize, channels, depth)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.height, self.width)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image, (height, width, channels), or of a volume, which begins with depth."""
        depth = () if self.depth is None else (self.depth,)
        return (*depth, self.height, self.width, self.channels)

    @property
    def mask_key(self) -> str:
        """A part of file names in which masks of different sizes and resizing differ."""
        height, width = self.size
        size = f"{height}px" if height == width else f"{height}x{width}px"
        size = size if self.depth is None else f"{self.depth}x{height}x{width}px"
        return size if self.resize == "stretch" else f"{size}-{self.resize}"

    @property
    def key(self) -> str:
        """A part of file names in which images of different specifications differ."""
        return self.mask_key if self.channels == 3 else f"{self.mask_key}-gray"
