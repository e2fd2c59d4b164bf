"""Masked patch prediction: corrupted patch embeddings, a head on the patches.

Section 4.6 and Appendix B.1.2: half of the patch embeddings are corrupted, 80 %
of them replaced by a learned mask token, 10 % by the embedding of another
patch, and 10 % kept as they are; from the output of each corrupted patch its
content is to be told.
"""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vit_jax.models import vit

# Shares of the corrupted patches (B.1.2); the rest are kept as they are.
MASKED_SHARE, REPLACED_SHARE = 0.8, 0.1

# What becomes of a patch; all but the first count as corrupted.
UNTOUCHED, MASKED, REPLACED, KEPT = range(4)


@flax.struct.dataclass
class Corruption:
  """What becomes of the patches of an image, or with a leading b of a batch.

  Attributes:
    kind: one of UNTOUCHED, MASKED, REPLACED, KEPT for every patch.
    donor: the position, never a patch's own, whose embedding it gets if it is
      REPLACED.
    positions: where the m corrupted patches are, in rising order.
  """

  kind: Int[Array, '*b n']
  donor: Int[Array, '*b n']
  positions: Int[Array, '*b m']


def num_corrupted(num_patches: int, rate: float) -> int:
  """Corrupted patches of an image, rate * n to the nearest whole number.

  Raises:
    ValueError: if that leaves nothing to predict, or no other patch.
  """
  count = round(rate * num_patches)
  if count < 1 or num_patches < 2:
    raise ValueError(
      f'a rate of {rate} corrupts {count} of the {num_patches} patches of an'
      ' image; at least one of at least two is needed: raise the rate, or cut'
      ' images into more patches.'
    )
  return count


def draw(key: Key[Array, ''], num_patches: int, rate: float) -> Corruption:
  """Draws what becomes of the patches of one image.

  Exactly `num_corrupted` of them are corrupted. Which of the three ways takes
  each is drawn on its own, so that the shares are right on average however few
  they are.
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
    donor=donor + (donor >= jnp.arange(num_patches)),  # Skips its own.
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
    patches: before class token and position embeddings.
    donors: the embeddings that REPLACED patches get theirs from, row by row.
    mask_token: what MASKED patches become.
    corruption: of the batch.
  """
  kind = corruption.kind[..., None]
  replacements = jnp.take_along_axis(donors, corruption.donor[..., None], 1)
  return jnp.select(
    [kind == MASKED, kind == REPLACED],
    [mask_token.astype(patches.dtype), replacements],
    patches,
  )


class MaskedPatchPredictor(nn.Module):
  """A Vision Transformer that predicts something of each corrupted patch.

  Its parameters are the transformer's, under their own names, `mask_token` and
  a linear `patch_head`, both from zero (our choice).

  Attributes:
    encoder: the transformer; its own head is not used.
    outputs: predicted numbers of a patch.
  """

  encoder: vit.VisionTransformer
  outputs: int

  def setup(self):
    """Puts the transformer's parameters beside those here."""
    nn.share_scope(self, self.encoder)

  @nn.nowrap
  def grid_shape(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """As of the encoder."""
    return self.encoder.grid_shape(image_size)

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'b h w 3'],
    corruption: Corruption | None = None,
    *,
    train: bool = False,
  ) -> Float[Array, 'b m o']:
    """Predicts corrupted patches from all of their image.

    In training, REPLACED patches get the embedding of a patch of another image:
    that before theirs in the batch, whose images are shuffled; so devices
    exchange one image each and need not gather the batch. Otherwise it is one
    of the same image, and what is predicted of an image does not depend on the
    others.

    Args:
      images: as for the encoder.
      corruption: of the batch; None corrupts nothing and predicts all patches.
      train: whether to apply dropout, and where REPLACED patches come from.

    Returns:
      Float32 predictions of the m corrupted patches in rising order.
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
