"""The table of model sizes and the names that pick from it.

A name is a size and a patch side in pixels: `ViT-B/16`, `ViT-H/14`, `ViT-b/4`.
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


def parse(name: str) -> tuple[Size, int]:
  """Returns the size that a model's name stands for, and its patch side in px.

  Raises:
    ValueError: if the name does not follow the pattern or the size is unknown.
  """
  match = re.fullmatch(r'ViT-([A-Za-z]+)/([1-9]\d*)', name)
  if match is None or match[1] not in SIZES:
    known = ', '.join(f'ViT-{size}' for size in SIZES)
    raise ValueError(
      f'unknown model {name!r}; a name is a size, a slash and a patch side in'
      f' pixels, as in ViT-B/16, with one of these sizes: {known}.'
    )
  return SIZES[match[1]], int(match[2])
