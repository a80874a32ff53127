"""COVID-19 Radiography Database: chest X-rays in four classes."""

from data.registry import DatasetSpec, PublishedCounts

DATASET = DatasetSpec(
    name="covid19_radiography",
    summary="21,165 chest X-rays in four classes",
    kind="download",
    # Table 1 of Sadi et al.
    published=PublishedCounts("the paper", {"train": 14815, "validation": 3175, "test": 3175}),
)
