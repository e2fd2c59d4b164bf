"""The numbers of the inference benchmark as a table and as lines."""

from collections.abc import Mapping, Sequence
from typing import Any

Point = Mapping[str, Any]

HEAD = ('model', 'px', 'images/s', 'lowest', 'highest', 'batch', 'largest')
PANELS = {
  'images a second, at the best batch': 'images_per_second',
  'largest batch that fits': 'largest_batch',
}


def rows(points: Sequence[Point]) -> list[tuple[str, ...]]:
  """A row for each point, under HEAD."""
  return [
    (
      point['model'],
      str(point['image_size']) + '*' * (_is_resized(point)),
      *(_rates(point['best']) if point['best'] else ('-',) * 4),
      _largest(point),
    )
    for point in points
  ]


def notes(points: Sequence[Point]) -> list[str]:
  """What has to be known to read the table."""
  first = points[0]
  found = [
    f'One {first["device_kind"]}, {first["dtype"]}, {_memory(first)}; median,'
    ' lowest and highest rate, the batch at which the median is best, and the'
    ' largest batch that fits, to an eighth.'
  ]
  if resized := [
    f'{p["model"]} {p["wanted_size"]} to {p["image_size"]}'
    for p in points
    if _is_resized(p)
  ]:
    found.append(
      f'* The nearest size that the patches divide: {", ".join(resized)}.'
    )
  if any(p['limited_by'] != 'memory' for p in points):
    found.append('>= No larger batch was tried (inference.largest_batch).')
  return found


def lines(
  points: Sequence[Point], key: str
) -> dict[str, list[tuple[float, float]]]:
  """(image size, value) of each model, for a value of PANELS."""
  found = {}
  for point in points:
    flat = {**(point['best'] or {}), **point}
    if flat.get(key):
      line = found.setdefault(point['model'], [])
      line.append((point['image_size'], flat[key]))
  return {model: sorted(line) for model, line in found.items()}


def _rates(best) -> tuple[str, ...]:
  rates = (best[key] for key in ('images_per_second', 'lowest', 'highest'))
  return (*(f'{rate:.4g}' for rate in rates), str(best['batch_size']))


def _largest(point) -> str:
  if not point['largest_batch']:
    return 'none'
  more = '' if point['limited_by'] == 'memory' else '>='
  return f'{more}{point["largest_batch"]}'


def _is_resized(point) -> bool:
  return point['image_size'] != point['wanted_size']


def _memory(point) -> str:
  if not point['memory_bytes']:
    return 'all the memory that it has'
  memory = f'{point["memory_bytes"] / 2**30:.3g} GiB of memory'
  if point['memory_is_given']:
    memory += ' as inference.cpu_memory has it'
  return memory
