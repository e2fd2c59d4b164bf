"""The tables of model sizes and the names that pick from them.

- `ViT-B/16`, `ViT-H/14`, `ViT-b/4`: a size and a patch side in pixels.
- `R50x1`, `R152x2`: layers of a ResNet and a factor of its width, 1 to 4.
- `R50+ViT-B/32`: a hybrid, whose tokens are the positions of a ResNet's last
  map, a token for 32x32 pixels. `R50+ViT-B/16` has no fourth stage, but its
  units in the third, and so a token for 16x16 pixels (section 4.1).
- `R+ViT-Ti/16`: patches of 8x8 on the map of a ResNet's root, as released with
  Steiner et al. (2021), arXiv 2106.10270. The root quarters its image, so that
  a token stands for 32x32 pixels, whatever the name says; patches of 4x4 would
  make it 16x16.
- `Axial-ViT-B/32`, `AxialR50x1`: the same ViT or ResNet with attention along
  rows and columns (Appendix D.6; `axial`, `axial_resnet`).

Layouts of the paper and of released checkpoints agree where both have a name.
"""

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Size:
  """Hyper-parameters of a transformer encoder, all positive.

  Attributes:
    depth: number of encoder blocks.
    width: size of a token, d.
    mlp_dim: hidden size of the MLP blocks.
    heads: attention heads of a block; each has width / heads dimensions.
  """

  depth: int
  width: int
  mlp_dim: int
  heads: int

  def __post_init__(self):
    for name, value in vars(self).items():
      if value < 1:
        raise ValueError(f'{name} of a model must be at least 1, got {value}.')


@dataclasses.dataclass(frozen=True)
class ResNetSize:
  """Hyper-parameters of a ResNet, alone or before a transformer.

  Attributes:
    stage_depths: residual units of each stage; empty for a root alone.
    width_factor: multiple of the usual width.
  """

  stage_depths: tuple[int, ...]
  width_factor: float = 1

  def __post_init__(self):
    if any(depth < 1 for depth in self.stage_depths):
      raise ValueError(
        'stage_depths of a model must be at least 1 each, got'
        f' {self.stage_depths}.'
      )
    # Group norms make 32 groups of 64 * width_factor channels.
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
  """What a name stands for; a part that the model does not have is None.

  Attributes:
    resnet: the ResNet, alone or before the transformer.
    encoder: the transformer.
    patch_size: patch side in pixels, or positions of the ResNet's map.
    axial: whether it attends along rows and columns.
  """

  resnet: ResNetSize | None
  encoder: Size | None
  patch_size: int | None
  axial: bool = False


# B, L, H: Table 1. Ti, S: Touvron et al. (2021), arXiv 2012.12877, Table 1.
# b: B with every hidden dimension halved. The head size is one of them, so b
# keeps B's 12 heads, at 32 dimensions each, where S has 6 of 64.
SIZES = {
  'Ti': Size(depth=12, width=192, mlp_dim=768, heads=3),
  'S': Size(depth=12, width=384, mlp_dim=1536, heads=6),
  'b': Size(depth=12, width=384, mlp_dim=1536, heads=12),
  'B': Size(depth=12, width=768, mlp_dim=3072, heads=12),
  'L': Size(depth=24, width=1024, mlp_dim=4096, heads=16),
  'H': Size(depth=32, width=1280, mlp_dim=5120, heads=16),
}


# By number of layers, three a unit and two more: He et al. (2016), arXiv
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
  """Returns what a model's name stands for.

  Raises:
    ValueError: if the name follows no pattern or has an unknown part.
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
    f'unknown model {name!r}; a name is a size, a slash and a patch side in'
    ' pixels, as in ViT-B/16, with one of these sizes:'
    f' {", ".join(f"ViT-{size}" for size in SIZES)}; or one of these ResNets:'
    f' {", ".join(STAGE_DEPTHS)}; with x and a width from 1 to 4, as in R50x1,'
    ' or before a ViT with /16 or /32, as in R50+ViT-B/32; or a root before a'
    ' ViT with /16, as in R+ViT-Ti/16; or a ViT or ResNet with attention along'
    ' rows and columns, as in Axial-ViT-B/32 and AxialR50x1.'
  )
