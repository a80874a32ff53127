"""Flags whose text is not one of tyro's: the size of images."""

from typing import Any

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from lmf_jax.config.image_spec import ImageSize, format_size

FLAG_TYPES = ConstructorRegistry()
"""The types that tyro parses besides its own."""


@FLAG_TYPES.primitive_rule
def _image_size(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Parse ``64``, ``HEIGHT,WIDTH`` or ``DEPTH,HEIGHT,WIDTH`` in one word."""
    if info.type not in (ImageSize, ImageSize | None):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="SIDE|[DEPTH,]HEIGHT,WIDTH",
        instance_from_str=lambda words: _parse_size(words[0]),
        is_instance=lambda value: value is None or isinstance(value, int | tuple),
        str_from_instance=lambda size: [format_size(size)],
    )


def _parse_size(text: str) -> ImageSize:
    sides = tuple(map(int, text.split(",")))
    if len(sides) == 1:
        return sides[0]
    if len(sides) == 3:
        depth, height, width = sides
        return depth, height, width
    height, width = sides
    return height, width
