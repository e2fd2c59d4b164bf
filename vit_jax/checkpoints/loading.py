"""Loads weights from every supported format."""

import logging
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.checkpoints import (
  description,
  layer_scale,
  names,
  normalization,
  regular_file,
  run_folder,
  structure,
)
from vit_jax.checkpoints.formats import (
  FORMATS,
  huggingface,
  npz,
  safetensors_file,
)

_log = logging.getLogger(__name__)

Params = dict[str, Any]

# In these formats, a model without learned positions computes them in a way not
# recorded in the file. In big_vision, there is only one way.
_ALWAYS_WITH_POSITIONS = ('timm', 'huggingface', 'siglip')


def load(path: str | os.PathLike[str], *, heads: int | None = None) -> Params:
  """Loads weights as a nested dict of arrays under official names.

  Same as `load_with_description`, without the description.
  """
  return load_with_description(path, heads=heads)[0]


def load_with_description(
  path: str | os.PathLike[str], *, heads: int | None = None
) -> tuple[Params, description.Description]:
  """Loads weights and a description of their model.

  The content of a file determines its format; its name does not matter.
  Settings in files next to it are used; a log line lists them and those that
  are assumed. Weights for images normalized with another mean and standard
  deviation are converted to weights for images in [-1, 1].

  Args:
    path: path, or URL such as gs://bucket/file.npz, of an .npz file of the
      official code (ViT, AugReg, SAM, hybrids), of BiT, of big_vision or of
      this project; of a .safetensors file of timm or Hugging Face, or a folder
      with one; or of the workdir of a run, whose final.npz is read or, until
      the run has finished, its latest checkpoint; or of its folder of
      checkpoints; or a name (`names`), such as augreg:B/16 or
      hf://facebook/dinov2-small.
    heads: number of attention heads; only needed for a .safetensors file of a
      model of unusual width, if neither it nor a config.json records them.

  Returns:
    NumPy arrays, with narrow floats widened to float32, and the description.

  Raises:
    ValueError: if the path does not exist; if the weights of a name cannot be
      downloaded; if the file is damaged, incomplete, of unknown format or
      contains anything but arrays of finite floats; or if a setting is not
      supported. The message starts with the path.
  """
  given, path = path, run_folder.final_weights(names.locate(path))
  try:
    return _read(path, heads)
  except ValueError as error:
    shown = f'{given} ({path})' if names.is_name(given) else path
    raise ValueError(f'{shown}: {error}') from error


def _read(path, heads):
  if path.is_dir():
    if run_folder.is_run(path):
      params = run_folder.read(path)
      settings = run_folder.settings(path)
      _check_settings(settings)
      return _apply_settings(path, params, 'run', settings)
    if (path / huggingface.WEIGHTS).exists():
      return _read_safetensors(path / huggingface.WEIGHTS, heads)
    raise ValueError(
      f'the folder contains neither {huggingface.WEIGHTS} nor the'
      f' {run_folder.FINAL_WEIGHTS} or checkpoints of a run; give the path of a'
      ' weight file in it.'
    )
  regular_file.check(path)
  if not path.exists():
    raise ValueError(
      'no such file or folder; give the path of an .npz or .safetensors file,'
      ' or of the folder of a run, or a name such as augreg:B/16.'
    )
  with path.open('rb') as file:
    start = file.read(9)
  suffix = path.suffix  # For a damaged file, whose reader explains the damage.
  if start.startswith((b'PK', b'\x93NUMPY')):
    suffix = '.npz'
  elif start.endswith(b'{'):  # Eight bytes, then the JSON header.
    suffix = '.safetensors'
  if suffix == '.npz':
    return _read_npz(path)
  if suffix == '.safetensors':
    return _read_safetensors(path, heads)
  raise ValueError(
    f'unknown format: neither the content nor the suffix {suffix!r} is that of'
    ' a weight file; known suffixes: .npz, .safetensors.'
  )


def _read_npz(path):
  with npz.open_archive(path) as archive:
    name = _match('.npz', archive)
    read = FORMATS[name].read
    _check_unread(read(archive.placeholders()))
    params = read(archive)
    _log_unread(path, archive)
    settings = _settings(name, path, {})
    return _apply_settings(path, params, name, settings, archive.unread)


def _read_safetensors(path, heads):
  regular_file.check(path)
  with safetensors_file.open_file(path) as (arrays, metadata):
    return _from_safetensors(path, arrays, metadata, heads)


def _from_safetensors(path, arrays, metadata, heads):
  name = _match('.safetensors', arrays)
  settings = _settings(name, path, metadata)
  if heads:
    settings['the argument `heads`'] = {'heads': heads}
  recorded = {}
  for source, found in settings.items():
    if number := found.get('heads'):
      recorded[number] = source
  if len(recorded) > 1:
    listed = ', '.join(f'{n} in {source}' for n, source in recorded.items())
    raise ValueError(
      f'conflicting numbers of attention heads: {listed}; correct one of them.'
    )
  heads = next(iter(recorded), None)
  read = FORMATS[name].read
  _check_unread(read(arrays.placeholders(), heads, settings))
  params = read(arrays, heads, settings)
  _log_unread(path, arrays)
  if not recorded:
    usual = description.sizes(params).get('heads')
    settings.setdefault(description.ASSUMED, {})['heads'] = usual
  return _apply_settings(path, params, name, settings, arrays.unread)


def _log_unread(path, arrays):
  if arrays.unread:
    _log.info(
      '%s: ignored arrays that do not belong to an image model: %d, such as %s',
      path,
      len(arrays.unread),
      arrays.unread[0],
    )


def _match(suffix, arrays):
  """Returns the name of the first format that matches the arrays of a file."""
  candidates = {n: f for n, f in FORMATS.items() if f.suffix == suffix}
  for name, format in candidates.items():
    if format.matches(arrays):
      return name
  raise ValueError(
    f'not a Vision Transformer of {" or ".join(candidates)}: the file has no'
    ' patch embedding under the names of these libraries; it contains'
    f' {", ".join(list(arrays)[:3])}.'
  )


def _settings(format, path, metadata):
  """Returns the settings recorded in and next to a file, after a check."""
  settings = FORMATS[format].settings(path, metadata)
  _check_settings(settings)
  return settings


def _check_settings(settings):
  for source, found in settings.items():
    for name, value in found.items():
      description.check_setting(name, value, source)


def _check_unread(placeholders):
  """Checks the parameters of a file before its data is read."""
  structure.check(placeholders)
  needed = sum(x.nbytes for x in jax.tree.leaves(placeholders))
  memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
  if needed > memory:
    raise ValueError(
      f'the weights take {needed / 2**30:,.1f} GiB, but this host has only'
      f' {memory / 2**30:,.1f} GiB of memory.'
    )


def _apply_settings(path, params, format, settings, ignored=()):
  """Applies the settings; returns float32 weights and their description."""
  structure.check(params)
  sizes = description.sizes(params)
  if sizes.get('positions') == 'none' and format in _ALWAYS_WITH_POSITIONS:
    raise ValueError(
      'there are no position embeddings; models with computed ones, such as'
      ' sinusoidal or rotary ones, are not supported.'
    )
  assumed = {'mean': normalization.NONE, 'std': normalization.NONE}
  if sizes.get('positions') == 'none' and format == 'big_vision':
    assumed['positions'] = 'sincos2d'
  if 'heads' in sizes:
    assumed |= {'gelu': 'tanh', 'norm_eps': 1e-6}
  if 'head' in params:
    assumed['loss'] = 'softmax'
  assumed['evaluation'] = description.Evaluation()
  assumed |= settings.pop(description.ASSUMED, {})
  values, sources = {}, {}
  for source, found in {description.ASSUMED: assumed, **settings}.items():
    for name, value in found.items():
      if value is not None:
        values[name], sources[name] = value, source
  pool = values.pop('pool', None)
  _log_settings(path, format, params, values, sources)
  recorded = {'pool': pool, 'positions': values.pop('positions', None)}
  for name, value in recorded.items():
    try:
      sizes = description.add_recorded(sizes, name, value)
    except ValueError as error:
      raise ValueError(f'{sources[name]} {error}') from error
  params = normalization.fold(params, values.pop('mean'), values.pop('std'))
  params = layer_scale.fold(params)
  values.pop('heads', None)
  return jax.tree.map(_widened, params), description.Description(
    format,
    sizes=sizes,
    num_classes=description.num_classes(params),
    axial=description.is_axial(params),
    ignored=tuple(ignored),
    **values,
  )


def _log_settings(path, format, params, values, sources):
  """Logs in one line where each setting comes from and what is converted."""
  listed = {}
  for name, value in values.items():
    if name != 'std':  # In one item with the mean.
      text = _setting_text(name, value, values)
      listed.setdefault(sources[name], []).append(text)
  listed[description.ASSUMED] = listed.pop(description.ASSUMED, [])  # Last.
  items = [
    f'{source}: {", ".join(texts)}' for source, texts in listed.items() if texts
  ]
  if layer_scale.is_in(params):
    items.append('LayerScale folded into the layers before it')
  dtypes = {x.dtype for x in jax.tree.leaves(params)}
  narrow = sorted(str(x) for x in dtypes if _is_narrow(x))
  if narrow:
    items.append(f'{" and ".join(narrow)} widened to float32')
  _log.info('%s, %s format; %s', path, format, '; '.join(items))


def _setting_text(name, value, values):
  if name == 'class_names':
    return f'{len(value)} class names'
  if name == 'image_size':
    return 'positions for {}x{} px'.format(*value)
  if name == 'mean':
    std = values['std']
    if normalization.is_none(value, std):
      return 'images in [-1, 1]'
    mean, std = (', '.join(f'{x:g}' for x in y) for y in (value, std))
    return f'mean ({mean}) and std ({std}) folded into the patch projection'
  return f'{name} {value}'


def _is_narrow(dtype):
  return jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4


def _widened(array):
  return array.astype(np.float32) if _is_narrow(array.dtype) else array
