"""Draws what a model has learnt: filters, positions, attention."""

from collections.abc import Iterable, Iterator
import dataclasses
import io
import logging
import time

from etils import epath
import jax
from matplotlib.figure import Figure
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.checkpoints import atomic
from vit_jax.data import photos, pipeline, registry
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import classification
from vit_jax.inspection import (
  attention_distance,
  attention_maps,
  figures,
  filters,
  position_similarity,
)
from vit_jax.workdir import claim, console, results

_log = logging.getLogger(__name__)

ARRAYS = 'inspection.npz'
_LAYER = 'attention_distance/layer_'
_SPREAD = {'min': np.min, 'max': np.max, 'std': np.std}


@dataclasses.dataclass(frozen=True)
class _Findings:
  """What an inspection leaves, by name."""

  arrays: dict[str, np.ndarray]
  figures: dict[str, Figure]
  metrics: dict[str, float]


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Inspects `init_from`, or random weights, on images of a split and photos.

  Leaves a PNG for every figure, their arrays in `inspection.npz`, and numbers
  in `results.json`. What the model does not have is said and left out.

  Raises:
    ValueError: if the checkpoint, the images and the config do not fit.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  with console.phase('reading the checkpoint'):
    model = pretrained.load_backbone(config)
  try:
    attention_maps.check_has_attention(model.model)
  except ValueError as absent:
    _log.warning('%s Its filters and positions alone are drawn', absent)
    parts = [_filters(model), *_positions(model)]
    claim.start(config_lib.flatten(config), workdir)
  else:
    mesh = mesh_lib.create(**config.mesh)
    with console.phase('opening the images'):
      images = _open_images(model.config, mesh)
    claim.start(config_lib.flatten(config), workdir)
    parts = [_filters(model), *_positions(model)]
    with console.phase(f'following attention, {images.num_examined} images'):
      parts.append(_attention(model, images, mesh))
  arrays, drawn, metrics = {}, {}, {}
  for part in parts:
    arrays |= part.arrays
    drawn |= part.figures
    metrics |= part.metrics
  with console.phase(f'drawing {len(drawn)} pictures'):
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    atomic.write_bytes(workdir / ARRAYS, archive.getvalue())
    for name, figure in drawn.items():
      figures.save(figure, workdir / f'{name}.png')
  _print(metrics, arrays.get('attention_distance'))
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    params=model.params,
    metrics=metrics,
    init_from=config.init_from,
    figures=[f'{name}.png' for name in drawn],
  )


def _filters(model: pretrained.PretrainedModel) -> _Findings:
  components, shares = filters.principal_components(
    filters.rgb_filters(model.params)
  )
  first = figures.MAX_FILTERS
  return _Findings(
    {'filter_components': components, 'filter_variance': shares},
    {'filters': figures.filters(components, shares)},
    {
      'filters/components': len(components),
      f'filters/variance_of_first_{first}': float(shares[:first].sum()),
      'filters/components_for_90_percent': int(
        np.searchsorted(np.cumsum(shares), 0.9) + 1
      ),
      'filters/smoothness': float(shares @ filters.smoothness(components)),
    },
  )


def _positions(model: pretrained.PretrainedModel) -> Iterator[_Findings]:
  """Nothing of models that add no position embeddings."""
  try:
    embeddings = position_similarity.embeddings(model.params)
  except ValueError as absent:
    _log.warning('no similarity of positions is drawn: %s', absent)
    return
  similarity = position_similarity.similarity(
    embeddings,
    model.model.grid_shape(config_lib.image_size(model.config)),
  )
  contrast = position_similarity.contrast(similarity)
  yield _Findings(
    {'position_similarity': similarity},
    {'position_similarity': figures.position_similarity(similarity)},
    {f'positions/{name}': value for name, value in contrast.items()},
  )


@dataclasses.dataclass(frozen=True)
class _Images:
  """What is looked at.

  Attributes:
    num_examined: over how many images attention is averaged.
    examined: one pass over them, in batches.
    pictured: (k, h, w, 3), those to draw.
    captions: of these.
  """

  num_examined: int
  examined: Iterable[pipeline.Batch]
  pictured: np.ndarray
  captions: list[str]


def _open_images(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> _Images:
  """Opens the split and reads the photos that the config names.

  Raises:
    ValueError: if there is neither, or no photo can be read.
  """
  number = config.inspect.num_images
  from_split = bool(config.data.name and number)
  if not from_split and not config.inspect.paths:
    raise ValueError(
      'there are no images to look at: give inspect.paths image files or'
      f' folders, or data.name={config.data.name!r} a dataset and'
      f' inspect.num_images={number} more than 0.'
    )
  pictured, captions = _read_photos(config)
  if not from_split:
    size = mesh_lib.round_up(min(config.batch_size, len(pictured)), mesh)
    return _Images(
      len(pictured), list(_batches(pictured, size)), pictured, captions
    )
  splits = config_lib.eval_splits(config)
  if not splits:
    raise ValueError('data.eval is empty; name a split to take images from.')
  split = splits.get('test') or next(iter(splits.values()))
  source = build.open_split(config, config.data.name, split)
  if not captions:
    pictured, captions = _pictured(config, source)
  rows = _spread(source.num_examples, number)
  examined = pipeline.eval_batches(
    source,
    build.eval_transform(config),
    batch_size=mesh_lib.round_up(min(config.batch_size, len(rows)), mesh),
    only=rows,
  )
  return _Images(len(rows), examined, pictured, captions)


def _read_photos(
  config: ml_collections.ConfigDict,
) -> tuple[np.ndarray, list[str]]:
  """The first photos of `inspect.paths`; what cannot be read is left out."""
  paths = photos.find(config.inspect.paths)
  transform = build.eval_transform(config)
  images, names = [], []
  for path in paths:
    if len(images) == config.inspect.pictures:
      _log.warning(
        'the first %d of %d photos are drawn; inspect.pictures says how many',
        len(images), len(paths),
      )  # fmt: skip
      break
    try:
      images.append(photos.read(path, transform))
      names.append(epath.Path(path).name)
    except ValueError as error:
      _log.warning('%s cannot be read: %s', path, error)
  if paths and not images:
    raise ValueError(
      f'none of {len(paths)} files can be read as an image, such as {paths[0]}.'
    )
  return np.array(images), names


def _pictured(
  config: ml_collections.ConfigDict, source: registry.Source
) -> tuple[np.ndarray, list[str]]:
  """Some images of the split, with the names of their classes."""
  rows = _spread(source.num_examples, config.inspect.pictures)
  (batch,) = pipeline.eval_batches(
    source,
    build.eval_transform(config),
    batch_size=len(rows),
    only=rows,
  )
  names = np.array(source.class_names)
  captions = [
    ', '.join(names[label > 0] if label.ndim else [names[label]])
    for label in batch['label']
  ]
  return batch['image'], captions


def _spread(number: int, wanted: int) -> np.ndarray:
  """Rising indices of `wanted` of `number` examples, or all, evenly spread."""
  wanted = min(wanted, number)
  return np.linspace(0, number - 1, wanted).round().astype(np.int64)


def _batches(images: np.ndarray, batch_size: int) -> Iterator[pipeline.Batch]:
  """Images as the pipeline gives them, the last batch padded."""
  for start in range(0, len(images), batch_size):
    part = images[start : start + batch_size]
    missing = batch_size - len(part)
    yield {
      'image': np.pad(part, [(0, missing), *[(0, 0)] * 3]),
      'label': np.zeros(batch_size, np.int32),
      'index': np.arange(start, start + batch_size),
      'mask': np.arange(batch_size) < len(part),
    }


def _attention(
  model: pretrained.PretrainedModel, images: _Images, mesh: jax.sharding.Mesh
) -> _Findings:
  """Distances over all images; rollouts and maps of those to draw."""
  config = model.config
  params = jax.device_put(model.params, mesh_lib.replicated(mesh))

  def look(batches, wanted):
    def step(params, batch):
      found = attention_maps.summarize(
        model.model,
        params,
        batch['image'],
        renormalise=config.inspect.renormalise,
      )
      return {name: found[name] for name in wanted}

    return classification.collect(
      step, params, batches, lambda batch: mesh_lib.put_batch(batch, mesh)
    )

  examined = look(images.examined, ('distances', 'rollouts'))
  size = min(config.batch_size, len(images.pictured))
  drawn = look(
    _batches(images.pictured, mesh_lib.round_up(size, mesh)),
    ('rollouts', 'maps'),
  )
  distances = examined['distances'].mean(axis=0)
  uniform = _uniform_distance(model)
  pictures = {
    'attention_distance': figures.attention_distance(
      distances, uniform=uniform
    ),
    'rollout': figures.rollouts(
      images.pictured, drawn['rollouts'], images.captions
    ),
  }
  for k, maps in enumerate(drawn['maps']):
    pictures[f'attention_maps_{k + 1}'] = figures.attention_maps(
      images.pictured[k], maps, images.captions[k]
    )
  arrays = {
    'attention_distance': distances,
    'rollout': drawn['rollouts'],
    'attention_maps': drawn['maps'],
    'images': np.round(255 * figures.to_pixels(images.pictured)).astype('u1'),
    'captions': np.array(images.captions),
  }
  metrics = _distance_metrics(distances) | {
    'attention_distance/uniform': uniform,
    **_rollout_metrics(examined['rollouts']),
  }
  return _Findings(arrays, pictures, metrics)


def _uniform_distance(model: pretrained.PretrainedModel) -> float:
  """Attention distance of a head that attends to all tokens alike."""
  grid = model.model.grid_shape(config_lib.image_size(model.config))
  between = attention_distance.token_distances(grid, model.model.token_size)
  class_token = model.model.pool == 'token'
  tokens = len(between) + class_token
  (distances,) = attention_distance.attention_distance(
    np.full((1, 1, tokens, tokens), 1 / tokens),
    between,
    class_token=class_token,
    renormalise=model.config.inspect.renormalise,
  )
  return float(distances[0])


def _distance_metrics(distances: np.ndarray) -> dict[str, float]:
  """Of each layer's heads, the mean and how they differ."""
  metrics = {}
  for i, heads in enumerate(distances, start=1):
    metrics[f'{_LAYER}{i}'] = float(heads.mean())
    for kind, statistic in _SPREAD.items():
      metrics[f'{_LAYER}{i}_{kind}'] = float(statistic(heads))
  return metrics


def _print(metrics: dict[str, float], distances: np.ndarray | None) -> None:
  """Prints all numbers, those of layers in a table of their own."""
  rows = [('metric', 'value')]
  rows += [
    (name, f'{value:.4g}')
    for name, value in metrics.items()
    if not name.startswith(_LAYER)
  ]
  print(console.table(rows))
  if distances is not None:
    rows = [('attention distance [px]', 'mean', *_SPREAD)]
    for i in range(1, len(distances) + 1):
      names = f'{_LAYER}{i}', *(f'{_LAYER}{i}_{kind}' for kind in _SPREAD)
      rows.append((f'layer {i}', *(f'{metrics[name]:.2f}' for name in names)))
    print(f'\n{console.table(rows)}')


def _rollout_metrics(rollouts: np.ndarray) -> dict[str, float]:
  """How unevenly rollouts weigh patches, as multiples of the mean weight.

  `centre` is the mean weight in the middle half of the rows and columns, and
  `peak` the largest of all, each on average over images.
  """
  _, rows, columns = rollouts.shape
  relative = rollouts / rollouts.mean(axis=(1, 2), keepdims=True)
  middle = relative[
    :, rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4
  ]
  return {
    'rollout/centre': float(middle.mean()),
    'rollout/peak': float(relative.max(axis=(1, 2)).mean()),
  }
