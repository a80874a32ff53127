"""Handwritten digits and small spots on a noisy ground, with a mask of both."""
