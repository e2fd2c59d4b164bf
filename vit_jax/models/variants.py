"""Names of models and the sizes that they stand for.

- `ViT-B/16`, `ViT-H/14`, `ViT-b/4`: a model size and a patch size in pixels.
- `R50x1`, `R152x2`: the number of layers of a ResNet and a width factor from 1
  to 4.
- `R50+ViT-B/32`: a hybrid, whose tokens are the positions of a ResNet's last
  map; each covers 32x32 pixels. `R50+ViT-B/16` moves the units of the fourth
  stage to the third, so each token covers 16x16 pixels (section 4.1).
- `R+ViT-Ti/16`: patches of 8x8 on the map of a ResNet's root, as released with
  Steiner et al. (2021), arXiv 2106.10270. The root reduces each side to a
  quarter, so each token covers 32x32 pixels, despite the name; patches of 4x4
  would make it 16x16.
- `Axial-ViT-B/32`, `AxialR50x1`: the ViT or ResNet with attention along rows
  and columns (Appendix D.6; `axial`, `axial_resnet`).

The paper and the released checkpoints agree on all names that both use.
"""

import dataclasses
import re
from typing import NamedTuple


class TransformerSize(NamedTuple):
  """Size of a transformer; see `vit.VisionTransformer`."""

  depth: int
  width: int
  mlp_dim: int
  heads: int


# B, L, H: Table 1. Ti, S: Touvron et al. (2021), arXiv 2012.12877, Table 1.
# b: B with every hidden dimension halved. The head size is one of them, so b
# keeps B's 12 heads, at 32 dimensions each, where S has 6 of 64.
SIZES = {
  'Ti': TransformerSize(depth=12, width=192, mlp_dim=768, heads=3),
  'S': TransformerSize(depth=12, width=384, mlp_dim=1536, heads=6),
  'b': TransformerSize(depth=12, width=384, mlp_dim=1536, heads=12),
  'B': TransformerSize(depth=12, width=768, mlp_dim=3072, heads=12),
  'L': TransformerSize(depth=24, width=1024, mlp_dim=4096, heads=16),
  'H': TransformerSize(depth=32, width=1280, mlp_dim=5120, heads=16),
}


@dataclasses.dataclass(frozen=True)
class ResNetSize:
  """Size of a ResNet, which may be the stem of a transformer.

  Attributes:
    stage_depths: residual units per stage; empty for only the root.
    width_factor: multiple of the standard width, in halves.
  """

  stage_depths: tuple[int, ...]
  width_factor: float = 1

  def __post_init__(self):
    object.__setattr__(self, 'stage_depths', tuple(self.stage_depths))
    if any(depth < 1 for depth in self.stage_depths):
      raise ValueError(
        'all stage_depths of a model must be at least 1, got'
        f' {self.stage_depths}.'
      )
    # Group norms divide 64 * width_factor channels into 32 groups.
    if self.width_factor <= 0 or self.width_factor % 0.5:
      raise ValueError(
        'width_factor of a model must be 0.5 or a multiple of it, got'
        f' {self.width_factor}.'
      )

  @property
  def width(self) -> int:
    """Channels of the root and of the first stage's bottlenecks."""
    return round(64 * self.width_factor)


@dataclasses.dataclass(frozen=True)
class Variant:
  """Parts of a model and their sizes; None for a part that it does not have.

  Attributes:
    resnet: the ResNet, as the whole model or as the stem.
    encoder: the transformer.
    patch_size: side of a patch in pixels, or in positions of the ResNet's map.
    axial: whether attention is along rows and columns.
  """

  resnet: ResNetSize | None
  encoder: TransformerSize | None
  patch_size: int | None
  axial: bool = False


# Each unit has three layers, and there are two more: He et al. (2016), arXiv
# 1512.03385, Table 1; R26: Steiner et al. (2021); R200: He et al. (2016), arXiv
# 1603.05027.
STAGE_DEPTHS = {
  'R26': (2, 2, 2, 2),
  'R50': (3, 4, 6, 3),
  'R101': (3, 4, 23, 3),
  'R152': (3, 8, 36, 3),
  'R200': (3, 24, 36, 3),
}


def parse(name: str) -> Variant:
  """Returns the parts of a model, given its name.

  Raises:
    ValueError: if the name matches no pattern or has an unknown part.
  """
  match = re.fullmatch(r'(Axial)?(R\d+)x([1-4])', name)
  if match and match[2] in STAGE_DEPTHS:
    resnet = ResNetSize(STAGE_DEPTHS[match[2]], int(match[3]))
    return Variant(resnet, None, patch_size=None, axial=bool(match[1]))
  match = re.fullmatch(r'Axial-ViT-([A-Za-z]+)/([1-9]\d*)', name)
  if match and match[1] in SIZES:
    return Variant(None, SIZES[match[1]], int(match[2]), axial=True)
  match = re.fullmatch(r'(?:(R\d*)\+)?ViT-([A-Za-z]+)/([1-9]\d*)', name)
  if match and match[2] in SIZES:
    resnet, encoder, side = match[1], SIZES[match[2]], int(match[3])
    if resnet is None:
      return Variant(None, encoder, patch_size=side)
    if resnet == 'R' and side == 16:
      return Variant(ResNetSize(()), encoder, patch_size=8)
    if resnet in STAGE_DEPTHS and side == 32:
      return Variant(ResNetSize(STAGE_DEPTHS[resnet]), encoder, patch_size=1)
    if resnet in STAGE_DEPTHS and side == 16:
      first, second, third, fourth = STAGE_DEPTHS[resnet]
      resnet = ResNetSize((first, second, third + fourth))
      return Variant(resnet, encoder, patch_size=1)
  raise ValueError(
    f'unknown model {name!r}; models are called ViT-SIZE/PATCH, such as'
    f' ViT-B/16, where SIZE is {", ".join(SIZES)}; RESNETxWIDTH, such as'
    f' R50x1, where RESNET is {", ".join(STAGE_DEPTHS)}, and WIDTH from 1 to 4;'
    ' RESNET+ViT-SIZE/16 or /32; R+ViT-SIZE/16; Axial-ViT-SIZE/PATCH;'
    ' AxialRESNETxWIDTH.'
  )
