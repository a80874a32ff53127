"""Training of image classifiers on imbalanced medical data in pure JAX."""
