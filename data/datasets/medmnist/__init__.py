"""MedMNIST, any file of it whose images are flat and have one class each."""
