"""Writes data sets in the format of TensorFlow Datasets (TFDS)."""
