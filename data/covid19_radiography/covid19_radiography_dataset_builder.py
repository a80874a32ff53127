"""Prepares the COVID-19 Radiography Database as ArrayRecord."""

from data.covid19_radiography import labels
from data.raw_images import ImageFilesBuilder


class Builder(ImageFilesBuilder):
    """Builder of covid19_radiography: 21,165 chest X-rays in four classes."""

    files = labels
