"""Networks: everything that turns images into features and logits."""

from vit_jax.models.factory import create

__all__ = ['create']
