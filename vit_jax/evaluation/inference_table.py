"""Results of the inference benchmark as a table and as lines of a chart."""

from collections.abc import Mapping, Sequence
from typing import Any

# Measurements of a model at one image size.
Result = Mapping[str, Any]

HEAD = ('model', 'px', 'images/s', 'lowest', 'highest', 'batch', 'largest')
PANELS = {
  'images per second, at the best batch size': 'images_per_second',
  'largest batch that fits': 'largest_batch',
}


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
  """Returns a row per result, with the columns of HEAD."""
  return [_row(result) for result in results]


def notes(results: Sequence[Result]) -> list[str]:
  """Returns the notes that explain the table."""
  first = results[0]
  texts = [
    f'One {first["device_kind"]}, {first["dtype"]}, {_memory(first)}; median,'
    ' lowest and highest rate at the batch size with the best median, and the'
    ' largest batch that fits, to within an eighth.'
  ]
  if resized := ', '.join(
    f'{result["model"]} {result["wanted_size"]} to {result["image_size"]}'
    for result in results
    if _is_resized(result)
  ):
    texts.append(f'* Rounded to a multiple of the patch size: {resized}.')
  if any(result['limited_by'] != 'memory' for result in results):
    texts.append('>= No larger batch was tried (inference.largest_batch).')
  return texts


def lines(
  results: Sequence[Result], key: str
) -> dict[str, list[tuple[float, float]]]:
  """Returns (image size, value) pairs per model, for a value of PANELS."""
  by_model = {}
  for result in results:
    flat = {**(result['best'] or {}), **result}
    if flat.get(key):
      line = by_model.setdefault(result['model'], [])
      line.append((result['image_size'], flat[key]))
  return {model: sorted(line) for model, line in by_model.items()}


def _row(result) -> tuple[str, ...]:
  size = str(result['image_size']) + '*' * _is_resized(result)
  cells = ['-'] * 4
  if best := result['best']:
    rates = (best[key] for key in ('images_per_second', 'lowest', 'highest'))
    cells = [*(f'{rate:.4g}' for rate in rates), str(best['batch_size'])]
  largest = str(result['largest_batch'] or 'none')
  if result['largest_batch'] and result['limited_by'] != 'memory':
    largest = f'>={largest}'
  return result['model'], size, *cells, largest


def _is_resized(result) -> bool:
  return result['image_size'] != result['wanted_size']


def _memory(result) -> str:
  if not result['memory_bytes']:
    return 'all of its memory'
  memory = f'{result["memory_bytes"] / 2**30:.3g} GiB of memory'
  if result['memory_is_given']:
    memory += ' (inference.cpu_memory)'
  return memory
