"""Writes datasets in the format of TensorFlow Datasets (TFDS)."""
