"""Compares the paper's compute (Table 6) with our count and the compiler's.

  python benchmarks/exaflops.py

Prints exaFLOPs of pre-training at 224 px: the value of Table 6, the count of
`models.flops`, and XLA's count for the same forward pass, which includes
element-wise operations.
"""

import functools

import timing
from vit_jax import models
from vit_jax.models import flops

JFT_IMAGES = 303e6
IMAGE_SIZE = (224, 224)
# ExaFLOPs by model and epochs, in the order of the table.
TABLE_6 = {
  ('ViT-B/32', 7): 55,
  ('ViT-B/16', 7): 224,
  ('ViT-L/32', 7): 196,
  ('ViT-L/16', 7): 783,
  ('ViT-L/16', 14): 1567,
  ('ViT-H/14', 14): 4262,
  ('R50x1', 7): 50,
  ('R50x2', 7): 199,
  ('R101x1', 7): 96,
  ('R152x1', 7): 141,
  ('R152x2', 7): 563,
  ('R152x2', 14): 1126,
  ('R200x3', 14): 3306,
  ('R50+ViT-B/32', 7): 106,
  ('R50+ViT-B/16', 7): 274,
  ('R50+ViT-L/32', 7): 246,
  ('R50+ViT-L/16', 7): 859,
  ('R50+ViT-L/16', 14): 1668,
}


@functools.cache
def _forward(name: str) -> tuple[int, float]:
  """Returns operations per image, as counted by us and by the compiler."""
  model = models.create(name, num_classes=0)
  return (
    flops.forward(model, IMAGE_SIZE),
    flops.forward_as_compiled(model, IMAGE_SIZE),
  )


def main() -> None:
  """Prints one row per run."""
  rows = []
  for (name, epochs), paper in TABLE_6.items():
    ours, compiled = (
      flops.training_exaflops(operations, epochs * JFT_IMAGES)
      for operations in _forward(name)
    )
    row = [f'{name}, {epochs} epochs', f'{paper}', f'{ours:.1f}']
    row += [f'{ours / paper - 1:+.1%}', f'{compiled / ours:.3f}']
    rows.append(row)
  head = ['', 'Table 6', 'ours', 'difference', 'compiler / ours']
  timing.show(head, rows)


if __name__ == '__main__':
  main()
