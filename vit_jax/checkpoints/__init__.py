"""Weights in and out of files."""

from vit_jax.checkpoints.formats import export, load

__all__ = ['export', 'load']
