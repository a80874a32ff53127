"""Trained models applied to images, masks and volumes."""
