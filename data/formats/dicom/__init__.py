"""DICOM files: their header, stored values, and rendering as a viewer displays them."""
