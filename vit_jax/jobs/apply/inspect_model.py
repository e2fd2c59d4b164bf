"""Draws what a model has learned: filters, position embeddings, attention."""

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

from vit_jax import build, printing
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.checkpoints import finite
from vit_jax.data import photos, pipeline
from vit_jax.data.source import Source
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import classification
from vit_jax.inspection import (
  attention_distance,
  attention_maps,
  figures,
  filters,
  position_similarity,
)
from vit_jax.page import attention_page
from vit_jax.workdir import claim, console, files, results

_log = logging.getLogger(__name__)

_ARRAYS = 'inspection.npz'
_LAYER = 'attention_distance/layer_'
# Statistics over the heads of a layer, by the suffix of the metric.
_STATISTICS = {'': np.mean, '_min': np.min, '_max': np.max, '_std': np.std}


@dataclasses.dataclass(frozen=True)
class _Findings:
  """Results of a part of the inspection, by name."""

  arrays: dict[str, np.ndarray]
  figures: dict[str, Figure]
  metrics: dict[str, float]


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Inspects `init_from`, or random weights, on images of a split and photos.

  Writes figures as PNG, interactive attention pages as HTML, arrays to
  `inspection.npz`, and metrics to `results.json`. Skips parts that do not apply
  to the model, with a warning.

  Raises:
    ValueError: if checkpoint, images and config do not match.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  with console.phase('reading the checkpoint'):
    model = pretrained.load_backbone(config)
  try:
    attention_maps.check_has_attention(model.model)
  except ValueError as error:
    _log.warning('%s Drawing only filters and position embeddings.', error)
    images = None
  else:
    mesh = mesh_lib.create(**config.mesh)
    with console.phase('opening the images'):
      images = _open_images(model.config, mesh)
  claim.start(config_lib.flatten(config), workdir)
  parts = [_filters(model), *_positions(model)]
  if images:
    with console.phase(f'computing attention of {images.num_examined} images'):
      parts.append(_attention(model, images, mesh))
  arrays, drawn, metrics = {}, {}, {}
  for part in parts:
    arrays |= part.arrays
    drawn |= part.figures
    metrics |= part.metrics
  numbers = {name: x for name, x in arrays.items() if x.dtype.kind != 'U'}
  finite.check(numbers | metrics, 'results of the inspection', '.')
  with console.phase(f'drawing {len(drawn)} pictures'):
    archive = io.BytesIO()
    np.savez(archive, **arrays)
    files.write_bytes(workdir / _ARRAYS, archive.getvalue())
    for name, figure in drawn.items():
      figures.save(figure, workdir / f'{name}.png')
  pages = _write_pages(model, images, workdir) if images else []
  _print(metrics, arrays.get('attention_distance'))
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    params=model.params,
    metrics=metrics,
    init_from=config.init_from,
    figures=[f'{name}.png' for name in drawn],
    pages=pages,
  )


def _filters(model: pretrained.PretrainedModel) -> _Findings:
  kernel = filters.rgb_filters(model.params)
  components, shares = filters.principal_components(kernel)
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
  """Yields the similarity of position embeddings, if the model adds any."""
  try:
    embeddings = position_similarity.embeddings(model.params)
  except ValueError as error:
    _log.warning('skipping the similarity of positions: %s', error)
    return
  similarity = position_similarity.similarity(embeddings, model.grid)
  contrast = position_similarity.contrast(similarity)
  yield _Findings(
    {'position_similarity': similarity},
    {'position_similarity': figures.position_similarity(similarity)},
    {f'positions/{name}': value for name, value in contrast.items()},
  )


@dataclasses.dataclass(frozen=True)
class _Images:
  """Images to inspect.

  Attributes:
    num_examined: number of images over which attention is averaged.
    examined: one pass over these images, in batches.
    pictured: (b, h, w, c) images to draw.
    captions: captions of the images to draw.
  """

  num_examined: int
  examined: Iterable[pipeline.Batch]
  pictured: np.ndarray
  captions: list[str]


def _open_images(
  config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh
) -> _Images:
  """Opens the split and reads the photos of the config.

  Raises:
    ValueError: if the config has neither, or no photo can be read.
  """
  number = config.inspect.num_images
  from_split = bool(config.data.name and number)
  if not from_split and not config.inspect.paths:
    raise ValueError(
      'no images to inspect: set inspect.paths to image files or folders, or'
      f' data.name (got {config.data.name!r}) to a dataset and'
      f' inspect.num_images (got {number}) to more than 0.'
    )
  pictured, captions = _read_photos(config)
  if not from_split:
    size = mesh_lib.round_up(min(config.batch_size, len(pictured)), mesh)
    return _Images(
      len(pictured), list(_batches(pictured, size)), pictured, captions
    )
  splits = config_lib.eval_splits(config)
  if not splits:
    raise ValueError('data.eval is empty; name a split to read images from.')
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
    skip_corrupt=config.data.skip_corrupt,
  )
  return _Images(len(rows), examined, pictured, captions)


def _read_photos(
  config: ml_collections.ConfigDict,
) -> tuple[np.ndarray, list[str]]:
  """Reads the first photos of `inspect.paths`; skips unreadable files."""
  paths = photos.find(config.inspect.paths)
  transform = build.eval_transform(config)
  images, names = [], []
  for path in paths:
    if len(images) == config.inspect.pictures:
      _log.warning(
        'only the first %d of %d photos are drawn; see inspect.pictures',
        len(images), len(paths),
      )  # fmt: skip
      break
    try:
      images.append(photos.read(path, transform))
      names.append(epath.Path(path).name)
    except ValueError as error:
      _log.warning('%s cannot be read: %s', printing.printable(path), error)
  if paths and not images:
    raise ValueError(
      f'no file can be read as an image; the first of {len(paths)} is'
      f' {paths[0]}.'
    )
  return np.array(images), names


def _pictured(
  config: ml_collections.ConfigDict, source: Source
) -> tuple[np.ndarray, list[str]]:
  """Returns some images of the split, and the names of their classes."""
  rows = _spread(source.num_examples, config.inspect.pictures)
  (batch,) = pipeline.eval_batches(
    source,
    build.eval_transform(config),
    batch_size=len(rows),
    only=rows,
    skip_corrupt=config.data.skip_corrupt,
  )
  readable = batch['mask'] > 0
  if not readable.any():
    raise ValueError(
      f'none of the images to draw of {source.name} {source.split} can be read;'
      ' the log lists them.'
    )
  batch = {name: values[readable] for name, values in batch.items()}
  names = np.array(source.class_names)
  captions = [
    ', '.join(names[label > 0] if label.ndim else [names[label]])
    for label in batch['label']
  ]
  return batch['image'], captions


def _spread(num_examples: int, count: int) -> np.ndarray:
  """Returns increasing, evenly spread indices of at most `count` examples."""
  count = min(count, num_examples)
  return np.linspace(0, num_examples - 1, count).round().astype(np.int64)


def _batches(images: np.ndarray, batch_size: int) -> Iterator[pipeline.Batch]:
  """Yields batches like those of the pipeline; the last one is padded."""
  for start in range(0, len(images), batch_size):
    batch = images[start : start + batch_size]
    padding = batch_size - len(batch)
    yield {
      'image': np.pad(batch, [(0, padding), *[(0, 0)] * 3]),
      'label': np.zeros(batch_size, np.int32),
      'index': np.arange(start, start + batch_size),
      'mask': np.arange(batch_size) < len(batch),
    }


def _attention(
  model: pretrained.PretrainedModel, images: _Images, mesh: jax.sharding.Mesh
) -> _Findings:
  """Returns distances over all images; rollouts and maps of those drawn."""
  config = model.config
  params = jax.device_put(model.params, mesh_lib.replicated(mesh))

  def summarize(batches, names):
    def step(params, batch):
      summary = attention_maps.summarize(
        model.model,
        params,
        batch['image'],
        renormalise=config.inspect.renormalise,
      )
      return {name: summary[name] for name in names}

    return classification.collect(
      step, params, batches, lambda batch: mesh_lib.put_batch(batch, mesh)
    )

  examined = summarize(images.examined, ('distances', 'rollouts'))
  size = min(config.batch_size, len(images.pictured))
  drawn = summarize(
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
  metrics = {
    f'{_LAYER}{i}{suffix}': float(statistic(heads))
    for i, heads in enumerate(distances, start=1)
    for suffix, statistic in _STATISTICS.items()
  }
  metrics['attention_distance/uniform'] = uniform
  metrics |= _rollout_metrics(examined['rollouts'])
  return _Findings(arrays, pictures, metrics)


def _write_pages(
  model: pretrained.PretrainedModel, images: _Images, workdir: epath.Path
) -> list[dict[str, str]]:
  """Writes interactive attention pages; see `attention_page.write`."""
  c = model.config.inspect
  shown = slice(c.pages)
  return attention_page.write(
    workdir,
    model.model,
    jax.device_put(model.params),
    images.pictured[shown],
    images.captions[shown],
    weights_name=model.config.init_from or 'random weights',
    max_mb=c.page_mb,
  )


def _uniform_distance(model: pretrained.PretrainedModel) -> float:
  """Returns the attention distance of a head with uniform attention."""
  between = attention_distance.token_distances(
    model.grid, model.model.token_size
  )
  num_prefix = len(model.model.prefix)
  tokens = num_prefix + len(between)
  (distances,) = attention_distance.attention_distance(
    np.full((1, 1, tokens, tokens), 1 / tokens),
    between,
    num_prefix=num_prefix,
    renormalise=model.config.inspect.renormalise,
  )
  return float(distances[0])


def _print(metrics: dict[str, float], distances: np.ndarray | None) -> None:
  """Prints all metrics; those of layers have a separate table."""
  rows = [('metric', 'value')]
  rows += [
    (name, f'{value:.4g}')
    for name, value in metrics.items()
    if not name.startswith(_LAYER)
  ]
  console.show(console.table(rows))
  if distances is not None:
    rows = [('attention distance [px]', 'mean', 'min', 'max', 'std')]
    for i in range(1, len(distances) + 1):
      values = (metrics[f'{_LAYER}{i}{suffix}'] for suffix in _STATISTICS)
      rows.append((f'layer {i}', *(f'{value:.2f}' for value in values)))
    console.show(f'\n{console.table(rows)}')


def _rollout_metrics(rollouts: np.ndarray) -> dict[str, float]:
  """Returns how unevenly rollouts weigh patches, relative to their mean weight.

  `centre` is the mean weight in the middle half of the rows and columns, and
  `peak` the largest weight; both are averages over images.
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
