"""Prepares the COVID-19 Radiography Database as ArrayRecord."""

from data.builders.images import ImageFilesBuilder
from data.datasets.covid19_radiography import labels


class Builder(ImageFilesBuilder):
    """Builder of covid19_radiography: 21,165 chest X-rays in four classes."""

    files = labels
