"""Fitting loaded weights to a model: new head, resized positions, and a report.

Section 3.2: for fine-tuning, the whole pre-trained head is replaced by a linear
layer of zeros, and position embeddings are interpolated.
"""

import collections
from collections.abc import Mapping
import dataclasses
import logging
import re
from typing import Any

from flax import traverse_util
import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax.checkpoints import (
  description,
  input_channels,
  position_tables,
)
from vit_jax.checkpoints.formats import official
from vit_jax.models import pooling, positions

_log = logging.getLogger(__name__)

_HEAD_PARTS = ('pre_logits', 'head')
# Parts of masked patch prediction that do not affect representations.
_UNUSED_PARTS = ('mask_token', 'patch_head', 'decoder')
# Parts of the input, on which all representations depend.
_INPUT_PARTS = ('cls', 'registers')
_ENCODER_NORM = 'Transformer/encoder_norm'
# The parts of the checkpoint's head to keep, by the name of the choice.
HEADS = {
  'replace': (),
  'keep_pre_logits': ('pre_logits',),
  'keep': ('pre_logits', 'head'),
}

_BLOCK = re.compile(r'encoderblock_\d+')

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Row:
  """A parameter in a report.

  Attributes:
    name: official name.
    status: 'loaded', 'resized' (positions) or 'adapted' (to other channels) if
      its value comes from the checkpoint, 'initialized' if only the model has
      it, 'dropped' if it is not used.
    old_shape: shape in the checkpoint; None for an initialized parameter.
    new_shape: shape in the model; None for a dropped parameter.
  """

  name: str
  status: str
  old_shape: Shape | None
  new_shape: Shape | None


@dataclasses.dataclass(frozen=True)
class Report:
  """The status of every parameter of a checkpoint and of a model.

  Attributes:
    rows: one per parameter; a replaced one has two, 'dropped' and
      'initialized'.
    grids: old and new grid of patches if positions were resized.
    method: how they were resized, a key of `position_tables.METHODS`.
  """

  rows: tuple[Row, ...]
  grids: tuple[position_tables.Grid, position_tables.Grid] | None = None
  method: str = 'bilinear'

  def names(self, status: str) -> list[str]:
    """Returns the names of the parameters with a status."""
    return [row.name for row in self.rows if row.status == status]

  def __str__(self) -> str:
    """Formats a table; equal parameters of several blocks share a line."""
    lines = collections.Counter(
      dataclasses.replace(row, name=_BLOCK.sub('encoderblock_*', row.name))
      for row in self.rows
    )
    cells = [('parameter', 'count', 'status', 'checkpoint', 'model')]
    cells += [
      (row.name, str(n), row.status, _text(row.old_shape), _text(row.new_shape))
      for row, n in lines.items()
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    table = [
      '  '.join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
      for line in cells
    ]
    counts = collections.Counter(row.status for row in self.rows)
    table.append(', '.join(f'{n} {s}' for s, n in counts.items()) + '.')
    if self.grids:
      old, new = (f'{rows}x{columns}' for rows, columns in self.grids)
      table.append(
        f'Positions were resized from {old} to {new} patches ({self.method}).'
      )
    return '\n'.join(table)


def adapt(
  params: Mapping[str, Any],
  model: nn.Module,
  image_size: int | tuple[int, int],
  *,
  head: str = 'replace',
  old_image_size: int | tuple[int, int] | None = None,
  resize_positions: str = 'bilinear',
  source: str = 'the checkpoint',
) -> tuple[dict[str, Any], Report]:
  """Fits weights to a model and logs the status of every parameter.

  All parameters of the model except its head come from the checkpoint. Parts
  that the model lacks are dropped if the head is replaced, or if they are for
  masked patch prediction. Otherwise they are an error, since a kept head may
  depend on them. With a new head, the pooling may be new, too, and the last
  norm may move from before to after the pooling or back. The first layer is
  adapted to the model's number of channels; see `input_channels`.

  Args:
    params: a tree under official names, as returned by `load`.
    model: from `models.create`, with the checkpoint's `gelu` and `norm_eps`.
    image_size: side, or height and width, in pixels of the model's images.
    head: a key of `HEADS`. 'replace' drops the head and its hidden layer,
      pre_logits, and initializes the model's linear head with zeros;
      'keep_pre_logits' keeps the hidden layer; 'keep' keeps both, as needed for
      evaluation.
    old_image_size: image size of the checkpoint. If None, the grid of patches
      is inferred from the position embeddings: tables per row and column
      determine it; otherwise it is assumed to be square or, if the number of
      patches is not a square, equal to the model's grid.
    resize_positions: how position embeddings are resized, a key of
      `position_tables.METHODS`.
    source: path of the checkpoint, for messages.

  Returns:
    Parameters for the model, on the host, and the report.

  Raises:
    ValueError: if a parameter is missing, has another shape, or is unknown in a
      part that the model has; or if `head` or `old_image_size` is invalid.
  """
  if head not in HEADS:
    raise ValueError(f'head={head!r} is not one of {", ".join(HEADS)}.')

  def initialize():
    size = positions.as_pair(image_size)
    image = jnp.zeros((1, *size, model.channels))
    initial = model.init(jax.random.key(0), image)['params']
    return traverse_util.flatten_dict(initial, sep='/')

  def initialize_missing():
    initial = initialize()  # XLA drops all values that are not returned.
    return {name: initial[name] for name in expected if name not in loaded}

  weights = official.flatten(params)
  expected = jax.eval_shape(initialize)
  old_shapes = {name: value.shape for name, value in weights.items()}
  try:
    resized, grids = position_tables.resize(
      weights, expected, model, image_size, old_image_size, resize_positions
    )
    adapted = input_channels.adapt(weights, model.channels)
    weights |= resized | adapted
    removed = [part for part in _HEAD_PARTS if part not in HEADS[head]]
    loaded = _select(weights, old_shapes, expected, removed)
  except ValueError as error:
    raise ValueError(f'{source} does not fit the model: {error}') from error
  initial = jax.device_get(jax.jit(initialize_missing)())
  statuses = dict.fromkeys(resized, 'resized')
  statuses |= dict.fromkeys(adapted, 'adapted')
  rows = _rows(old_shapes, expected, loaded, statuses)
  report = Report(rows, grids, resize_positions)
  _log.info('weights of %s:\n%s', source, report)
  return official.unflatten(loaded | initial), report


def _select(weights, old_shapes, expected, removed):
  """Returns the weights that the model uses; raises if others do not fit."""
  problems = []
  if 'pre_logits' in removed and 'pre_logits/kernel' in expected:
    problems.append(
      "a new head has no hidden layer 'pre_logits', but the model has one; use"
      " head='keep_pre_logits', or a model with representation_size=None"
    )
  new_head = set(removed) == set(_HEAD_PARTS)
  old_pooling, new_pooling = _pooling_parts(weights), _pooling_parts(expected)
  exchanged = set()
  if new_head and old_pooling:
    exchanged = old_pooling ^ new_pooling
  loaded = {}
  for name, array in expected.items():
    if _part(name) in removed or _pooling_part(name) in exchanged:
      continue
    if name not in weights:
      problems.append(f'parameter {name!r} of shape {array.shape} is missing')
    elif weights[name].shape != array.shape:
      problems.append(
        f'parameter {name!r} has the shape {old_shapes[name]} in the checkpoint'
        f' and {array.shape} in the model'
      )
    else:
      loaded[name] = weights[name].astype(array.dtype, copy=False)
  parts = {_part(name) for name in expected} | {*_HEAD_PARTS, *_INPUT_PARTS}
  if not new_head:  # The head may depend on any part.
    parts |= {_part(name) for name in weights}.difference(_UNUSED_PARTS)
  for name in weights:
    if name in expected or _pooling_part(name) in exchanged:
      continue
    if _part(name) in parts.difference(removed):
      problems.append(
        f'parameter {name!r} of shape {old_shapes[name]} has no place in the'
        ' model'
      )
  if problems:
    params = official.unflatten(weights)
    axial = ', with axial attention' * description.is_axial(params)
    sizes = description.sizes(params)
    listed = ', '.join(f'{key}={value!r}' for key, value in sizes.items())
    if (more := len(problems) - 5) > 0:
      problems[5:] = [f'and {more} more']
    raise ValueError(
      f'{"; ".join(problems)}. Create a model for these weights{axial}:'
      f' {listed}.'
    )
  return loaded


def _rows(old_shapes, expected, loaded, statuses):
  rows = []
  for name, array in expected.items():
    if name in loaded:
      status = statuses.get(name, 'loaded')
      rows.append(Row(name, status, old_shapes[name], array.shape))
    else:
      rows.append(Row(name, 'initialized', None, array.shape))
  for name, shape in old_shapes.items():
    if name not in loaded:
      rows.append(Row(name, 'dropped', shape, None))
  return tuple(rows)


def _part(name):
  return name.split('/')[0]


def _pooling_part(name):
  """Returns the part of the pooling or the last norm; None for others."""
  parts = (*pooling.PARTS, _ENCODER_NORM)
  return next((p for p in parts if name.startswith(f'{p}/')), None)


def _pooling_parts(names):
  return set(map(_pooling_part, names)) - {None}


def _text(shape):
  return '-' if shape is None else str(shape)
