"""The model for masked patch prediction (section 4.6, Appendix B.1.2).

Half of the patch embeddings are corrupted: 80 % of them are replaced by a
learned mask token, 10 % by the embedding of another patch, and 10 % stay as
they are. The output for each corrupted patch predicts its content.
"""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vit_jax.models import vit

# Shares of the corrupted patches (B.1.2); the rest are kept as they are.
MASKED_SHARE, REPLACED_SHARE = 0.8, 0.1

# Kinds of corruption; all except the first count as corrupted.
UNTOUCHED, MASKED, REPLACED, KEPT = range(4)


@flax.struct.dataclass
class Corruption:
  """The corruption of the patches of an image, or of a batch (leading axis b).

  Attributes:
    kind: one of UNTOUCHED, MASKED, REPLACED, KEPT per patch.
    donor: position of another patch, whose embedding a REPLACED patch gets.
    positions: positions of the m corrupted patches, in ascending order.
  """

  kind: Int[Array, '*b n']
  donor: Int[Array, '*b n']
  positions: Int[Array, '*b m']


def num_corrupted(num_patches: int, rate: float) -> int:
  """Returns the number of corrupted patches per image: rate * n, rounded.

  Raises:
    ValueError: if that is zero, or if there is only one patch.
  """
  count = round(rate * num_patches)
  if count < 1 or num_patches < 2:
    raise ValueError(
      f'a rate of {rate} corrupts {count} of the {num_patches} patches of an'
      ' image; expected at least two patches, one of them corrupted. Raise the'
      ' rate, or cut images into more patches.'
    )
  return count


def draw(key: Key[Array, ''], num_patches: int, rate: float) -> Corruption:
  """Draws the corruption of one image.

  Exactly `num_corrupted` patches are corrupted. The kind is drawn independently
  for each, so that shares are right on average, even for few patches.
  """
  order_key, way_key, donor_key = jax.random.split(key, 3)
  order = jax.random.permutation(order_key, num_patches)
  count = num_corrupted(num_patches, rate)
  corrupted = order < count
  way = jax.random.uniform(way_key, (num_patches,))
  kind = jnp.select(
    [~corrupted, way < MASKED_SHARE, way < MASKED_SHARE + REPLACED_SHARE],
    [UNTOUCHED, MASKED, REPLACED],
    KEPT,
  )
  donor = jax.random.randint(donor_key, (num_patches,), 0, num_patches - 1)
  return Corruption(
    kind,
    donor=donor + (donor >= jnp.arange(num_patches)),  # Skips the patch itself.
    positions=jnp.nonzero(corrupted, size=count)[0],
  )


def corrupt(
  patches: Float[Array, 'b n d'],
  donors: Float[Array, 'b n d'],
  mask_token: Float[Array, '1 1 d'],
  corruption: Corruption,
) -> Float[Array, 'b n d']:
  """Applies a corruption to patch embeddings.

  Args:
    patches: embeddings, without class token and positions.
    donors: embeddings that replace those of REPLACED patches in the same row.
    mask_token: embedding of MASKED patches.
    corruption: corruption of the batch.
  """
  kind = corruption.kind[..., None]
  replacements = jnp.take_along_axis(donors, corruption.donor[..., None], 1)
  return jnp.select(
    [kind == MASKED, kind == REPLACED],
    [mask_token.astype(patches.dtype), replacements],
    patches,
  )


class MaskedPatchPredictor(nn.Module):
  """A Vision Transformer that predicts the content of corrupted patches.

  Its parameters are the transformer's, under the same names, plus `mask_token`
  and a linear `patch_head`, both initially zero (our choice).

  Attributes:
    encoder: the transformer; its head is not used.
    outputs: number of predictions per patch.
  """

  encoder: vit.VisionTransformer
  outputs: int

  def setup(self):
    """Stores the transformer's parameters beside those of this module."""
    nn.share_scope(self, self.encoder)

  @property
  def channels(self) -> int:
    """Channels of the images."""
    return self.encoder.channels

  @nn.nowrap
  def grid_shape(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the rows and columns of patches; see the encoder."""
    return self.encoder.grid_shape(image_size)

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'b h w 3'],
    corruption: Corruption | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, 'b m o']:
    """Predicts the content of corrupted patches.

    In training, REPLACED patches get an embedding from the previous image in
    the batch. This image is random, since batches are shuffled, and each device
    receives only one image from another device. Otherwise, the embedding is
    from the same image, so that predictions do not depend on the rest of the
    batch.

    Args:
      images: same as for the encoder.
      corruption: corruption of the batch; None predicts all patches, without
        corruption.
      train: whether to apply dropout and to replace patches across images.

    Returns:
      Float32 predictions for the m corrupted patches, in ascending order.
    """
    mask_token = self.param(
      'mask_token', nn.initializers.zeros, (1, 1, self.encoder.width)
    )

    def change(patches):
      if corruption is None:
        return patches
      donors = jnp.roll(patches, 1, axis=0) if train else patches
      return corrupt(patches, donors, mask_token, corruption)

    _, features = self.encoder(images, train=train, change_patches=change)
    tokens = features['encoded'][:, -features['patches'].shape[1] :]
    if corruption is not None:
      tokens = jnp.take_along_axis(tokens, corruption.positions[..., None], 1)
    constrain = self.encoder.constrain
    head = nn.Dense(
      self.outputs, kernel_init=nn.initializers.zeros, name='patch_head'
    )
    return constrain(head(constrain(tokens)))
