"""Prediction sets: for each image the classes that cannot be excluded at a stated level."""
