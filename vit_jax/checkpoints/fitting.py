"""Fitting loaded weights to a model: a new head, resized positions, a report.

Section 3.2: for fine-tuning the whole pre-trained head is removed, a linear
layer of zeros takes its place, and position embeddings are interpolated.
"""

from collections.abc import Mapping
import dataclasses
import logging
import re
from typing import Any

from flax import traverse_util
import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.checkpoints import description, position_tables, surgery
from vit_jax.checkpoints.formats import official
from vit_jax.models import positions

_log = logging.getLogger(__name__)

_HEAD_PARTS = ('pre_logits', 'head')
# What becomes of the checkpoint's head, and which parts of it are kept.
HEADS = {
  'replace': (),
  'keep_pre_logits': ('pre_logits',),
  'keep': ('pre_logits', 'head'),
}

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Row:
  """What became of a parameter.

  Attributes:
    name: under official names.
    fate: 'taken' or 'resized' from the checkpoint, 'dropped' of it, or 'fresh'.
    old_shape: in the checkpoint; None for a fresh parameter.
    new_shape: in the model; None for a dropped parameter.
  """

  name: str
  fate: str
  old_shape: Shape | None
  new_shape: Shape | None


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of every parameter of a checkpoint and of a model.

  Attributes:
    rows: one for each; a replaced parameter has two, 'dropped' and 'fresh'.
    grids: the old and the new rows and columns of resized positions.
  """

  rows: tuple[Row, ...]
  grids: tuple[surgery.Grid, surgery.Grid] | None = None

  def names(self, fate: str) -> list[str]:
    """The parameters of one fate."""
    return [row.name for row in self.rows if row.fate == fate]

  def __str__(self) -> str:
    """A table; parameters that are alike in several blocks share a line."""
    lines = {}
    for row in self.rows:
      pattern = re.sub(r'encoderblock_\d+', 'encoderblock_*', row.name)
      key = pattern, row.fate, row.old_shape, row.new_shape
      lines[key] = lines.get(key, 0) + 1
    cells = [('parameter', 'number', 'fate', 'checkpoint', 'model')]
    for (name, fate, old_shape, new_shape), number in lines.items():
      cells.append(
        (name, str(number), fate, _text(old_shape), _text(new_shape))
      )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = [
      '  '.join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
      for line in cells
    ]
    counts = {row.fate: len(self.names(row.fate)) for row in self.rows}
    table.append(', '.join(f'{n} {fate}' for fate, n in counts.items()) + '.')
    if self.grids:
      old, new = (f'{rows}x{columns}' for rows, columns in self.grids)
      table.append(f'Positions were resized from {old} to {new} patches.')
    return '\n'.join(table)


def adapt(
  params: Mapping[str, Any],
  model: nn.Module,
  image_size: int | tuple[int, int],
  *,
  head: str = 'replace',
  old_image_size: int | tuple[int, int] | None = None,
  source: str = 'the checkpoint',
) -> tuple[dict[str, Any], Report]:
  """Fits weights to a model, and logs what became of every parameter.

  Weights of the model that are not of its head all come from the checkpoint.
  Parts that the model does not have, such as those of another head, are
  dropped.

  Args:
    params: a tree under official names, as `load` returns it.
    model: from `models.create`, with `gelu` and `norm_eps` of the checkpoint.
    image_size: side, or height and width, in pixels of the model's images.
    head: a key of `HEADS`. 'replace' drops the head with its hidden layer,
      pre_logits, and attaches the model's own linear one, of zeros;
      'keep_pre_logits' keeps the hidden layer; 'keep' keeps all, to evaluate.
    old_image_size: that of the checkpoint. Without it, its position embeddings
      are taken for those of a square grid, and of the model's own grid where
      their number is no square's; those by row and column tell it themselves.
    source: the checkpoint's path, for messages.

  Returns:
    Parameters for the model, on the host, and the report.

  Raises:
    ValueError: if a weight is missing, of another shape, or unknown inside a
      part that the model has; or `head` or `old_image_size` do not fit.
  """
  if head not in HEADS:
    raise ValueError(f'unknown head {head!r}; known: {", ".join(HEADS)}.')
  given = official.flatten(params)
  wanted = _shapes_and_types(model, image_size)
  old_shapes = {name: value.shape for name, value in given.items()}
  try:
    resized, grids = position_tables.resize(
      given, wanted, model, image_size, old_image_size
    )
    given |= resized
    removed = [part for part in _HEAD_PARTS if part not in HEADS[head]]
    taken = _take(given, old_shapes, wanted, removed)
  except ValueError as error:
    raise ValueError(f'{source} does not fit the model: {error}') from error
  fresh = _initial(model, image_size, [n for n in wanted if n not in taken])
  report = _report(old_shapes, wanted, taken, resized, grids)
  _log.info('weights of %s:\n%s', source, report)
  return official.unflatten(taken | fresh), report


def _take(given, old_shapes, wanted, removed):
  """Returns those of the given values that the model takes, by name."""
  problems = []
  if 'pre_logits' in removed and 'pre_logits/kernel' in wanted:
    problems.append(
      "its hidden layer 'pre_logits' is not taken, and a new head has none;"
      " use head='keep_pre_logits', or a model with representation_size=None"
    )
  taken = {}
  for name, array in wanted.items():
    if _part(name) in removed:
      continue
    if name not in given:
      problems.append(f'parameter {name!r} of shape {array.shape} is missing')
    elif given[name].shape != array.shape:
      problems.append(
        f'parameter {name!r} has the shape {old_shapes[name]} there and'
        f' {array.shape} in the model'
      )
    else:
      taken[name] = given[name].astype(array.dtype, copy=False)
  parts = {_part(name) for name in wanted} | set(_HEAD_PARTS)
  for name in given:
    if name not in wanted and _part(name) in parts.difference(removed):
      problems.append(
        f'parameter {name!r} of shape {old_shapes[name]} has no place in the'
        ' model'
      )
  if problems:
    params = official.unflatten(given)
    axial = ', with axial attention' * description.is_axial(params)
    sizes = description.sizes(params)
    more = len(problems) - 5
    raise ValueError(
      '; '.join(problems[:5])
      + (f'; and {more} more' if more > 0 else '')
      + f'. Create the model of these weights{axial}: '
      + ', '.join(f'{key}={value!r}' for key, value in sizes.items())
      + '.'
    )
  return taken


def _shapes_and_types(model, image_size):
  image = jax.ShapeDtypeStruct(
    (1, *positions.as_pair(image_size), 3), jnp.float32
  )
  shapes = jax.eval_shape(model.init, jax.random.key(0), image)['params']
  return traverse_util.flatten_dict(shapes, sep='/')


def _initial(model, image_size, names):
  """Returns the model's initial values of some parameters, by name."""

  def init():
    image = jnp.zeros((1, *positions.as_pair(image_size), 3))
    params = model.init(jax.random.key(0), image)['params']
    flat = traverse_util.flatten_dict(params, sep='/')
    return {name: flat[name] for name in names}  # No others are computed.

  return jax.device_get(jax.jit(init)())


def _report(old_shapes, wanted, taken, resized, grids):
  rows = []
  for name, array in wanted.items():
    old = old_shapes.get(name)
    fate = 'resized' if name in resized else 'taken'
    if name not in taken:
      old, fate = None, 'fresh'
    rows.append(Row(name, fate, old, array.shape))
  for name, shape in old_shapes.items():
    if name not in taken:
      rows.append(Row(name, 'dropped', shape, None))
  return Report(tuple(rows), grids)


def _part(name):
  return name.split('/')[0]


def _text(shape):
  return '-' if shape is None else str(shape)
