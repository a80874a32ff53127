"""The input side: datasets, their splits, decoded images and batches."""

from data.datasets import Dataset as Dataset
from data.datasets import load_dataset as load_dataset
from data.image_cache import cached_images as cached_images
from data.image_cache import open_images as open_images
from data.image_cache import open_masks as open_masks
from data.image_cache import pixel_counts as pixel_counts
from data.patches import patch_batches as patch_batches
from data.patches import volume_cases as volume_cases
from data.pipeline import evaluation_batches as evaluation_batches
from data.pipeline import train_batches as train_batches
from data.segmentation import SegmentationDataset as SegmentationDataset
from data.segmentation import load_segmentation_dataset as load_segmentation_dataset
from data.volumes import VolumeDataset as VolumeDataset
from data.volumes import load_volumes as load_volumes
