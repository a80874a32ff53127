"""BraTS 2020: MRI of the head in four modalities, gliomas."""
