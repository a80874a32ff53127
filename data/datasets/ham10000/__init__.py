"""HAM10000: dermoscopy images in seven classes."""

from data.registry import DatasetSpec, PublishedCounts

DATASET = DatasetSpec(
    name="ham10000",
    summary="10,015 dermoscopy images in seven classes",
    kind="download",
    # Table 1 of Sadi et al.
    published=PublishedCounts("the paper", {"train": 7011, "validation": 1502, "test": 1502}),
)
