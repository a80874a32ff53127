"""scikit-learn's handwritten digits as a TensorFlow Datasets builder."""
