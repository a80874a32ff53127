"""Input side: datasets, their splits, decoded images and batches."""

from lmf_jax.extras import extra_packages

with extra_packages("train", needed_by="data"):
    from data.batches.image_cache import cached_images as cached_images
    from data.batches.image_cache import open_images as open_images
    from data.batches.image_cache import open_masks as open_masks
    from data.batches.image_cache import pixel_counts as pixel_counts
    from data.batches.patches import patch_batches as patch_batches
    from data.batches.patches import volume_cases as volume_cases
    from data.batches.pipeline import evaluation_batches as evaluation_batches
    from data.batches.pipeline import train_batches as train_batches
    from data.splits.dataset import Dataset as Dataset
    from data.splits.dataset import load_dataset as load_dataset
    from data.splits.segmentation import SegmentationDataset as SegmentationDataset
    from data.splits.segmentation import load_segmentation_dataset as load_segmentation_dataset
    from data.splits.volumes import VolumeDataset as VolumeDataset
    from data.splits.volumes import load_volumes as load_volumes
