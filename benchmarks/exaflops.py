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
from vit_jax.recipes import studies

JFT_IMAGES = 303e6
IMAGE_SIZE = (224, 224)
# One value per model and number of epochs, in the order of the table.
TABLE_6 = (
  55, 224, 196, 783, 1567, 4262,
  50, 199, 96, 141, 563, 1126, 3306,
  106, 274, 246, 859, 1668,
)  # fmt: skip


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
  for (name, epochs), paper in zip(studies.TABLE_6, TABLE_6, strict=True):
    rule, compiled = (
      flops.training_exaflops(operations, epochs * JFT_IMAGES)
      for operations in _forward(name)
    )
    row = [f'{name}, {epochs} epochs', f'{paper}', f'{rule:.1f}']
    row += [f'{rule / paper - 1:+.1%}', f'{compiled / rule:.3f}']
    rows.append(row)
  head = ['', 'Table 6', 'rule', 'difference', 'compiler / rule']
  timing.show(head, rows)


if __name__ == '__main__':
  main()
