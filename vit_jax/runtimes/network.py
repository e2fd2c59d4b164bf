"""A trained model as a function from images to logits or features."""

from collections.abc import Callable
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num, PyTree
import numpy as np

# Computes the outputs of a batch of images.
Runner = Callable[[Num[np.ndarray, 'b h w c']], Float[np.ndarray, 'b k']]

# All platforms that a program is lowered for.
PLATFORMS = ('cpu', 'cuda', 'tpu')
INPUT = 'images'
# Protocol buffers and FlatBuffers are limited to 2 GiB, program included.
_LARGEST_FILE = 2**31 - 2**26


@dataclasses.dataclass(frozen=True, eq=False)  # Hashable: JAX caches it.
class Network:
  """A trained model, ready for export.

  Attributes:
    model: the Linen module, computing in float32.
    params: its weights, on the host.
    image_size: height and width of images in px.
    dtype: type of images: float32 for values in [-1, 1]; uint8 or uint16 for
      pixels, whose range is scaled to [-1, 1].
    batch_size: number of images per call; 0 for any number.
    settings: arguments of `checkpoints.export` for this model.
  """

  model: nn.Module
  params: PyTree
  image_size: tuple[int, int]
  dtype: str = 'float32'
  batch_size: int = 0
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)

  def __call__(self, params: PyTree, images: Num[Array, 'b h w c']) -> Array:
    """Returns logits or, without a head, the representations of images."""
    if self.dtype != 'float32':
      half = np.iinfo(self.dtype).max / 2
      images = (images.astype(jnp.float32) - half) / half
    logits, features = self._plain.apply(
      {'params': params}, images, tokens=False
    )
    return features['pooled'] if logits is None else logits

  @property
  def _plain(self) -> nn.Module:
    # Of the implementations in `kernels`, the one for TPUs has no special
    # operations, so that it can be lowered for all platforms.
    is_resnet = not hasattr(self.model, 'platform')
    return self.model if is_resnet else self.model.clone(platform='tpu')

  @property
  def output(self) -> str:
    """Name of the output."""
    return 'logits' if self.model.num_classes else 'features'

  @property
  def image_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of an image."""
    return (*self.image_size, self.model.channels)

  def images(self, batch: Any) -> jax.ShapeDtypeStruct:
    """Returns the type of a batch of images of the given size."""
    return jax.ShapeDtypeStruct((batch, *self.image_shape), self.dtype)

  def check_fits_in_file(self, format: str) -> None:
    """Checks that the weights fit into a single file of at most 2 GiB.

    Raises:
      ValueError: if they do not.
    """
    size = sum(x.nbytes for x in jax.tree.leaves(self.params))
    if size > _LARGEST_FILE:
      raise ValueError(
        f'a file of the {format} format cannot hold the {size / 2**30:.1f} GiB'
        ' of weights; its limit is 2 GiB. Use export.format=saved_model.'
      )
