"""Few-shot linear evaluation on the datasets of a config."""

from collections.abc import Callable
import dataclasses
import functools
import logging
import os
import re
import statistics

from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import evaluator
from vit_jax.data import catalog, pipeline, preprocess, registry, table
from vit_jax.distributed import compilation
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import few_shot_regression
from vit_jax.workdir import console

_log = logging.getLogger(__name__)

# The public code resizes images to 256 px and crops the central 224 px; other
# sizes are in proportion.
PRECROP = 256 / 224

# Accuracy of each draw, by dataset and number of shots.
Accuracies = dict[str, dict[int, list[float]]]

_METRIC = 'few_shot/{}/{}shot'
_MEAN = 'mean'  # Over the datasets, in metrics.
_ITEM = re.compile(
  r'((?P<name>[\w.-]+)=)?(?P<dataset>[^|=][^|]*)'
  r'(\|(?P<train>[^|]+)\|(?P<test>[^|]+))?'
)


@dataclasses.dataclass(frozen=True)
class Item:
  """An item of `few_shot.datasets`.

  Attributes:
    name: name of the dataset in metrics.
    dataset: the dataset, in the syntax of `data.name`.
    train: split from which examples are drawn.
    test: split that is classified.
  """

  name: str
  dataset: str
  train: str
  test: str


def parse_datasets(config: ml_collections.ConfigDict) -> list[Item]:
  """Parses `few_shot.datasets`.

  The default name of a dataset is `short_name`. The default splits are those of
  the catalog, or train and test.

  Raises:
    ValueError: if the list is empty or malformed, or a name occurs twice.
  """
  syntax = (
    f'few_shot.datasets={config.few_shot.datasets!r}: write'
    ' [METRIC_NAME=]DATASET[|TRAIN|TEST], separated by commas, such as'
    ' caltech101,folder:PATH,digits|train|test'
  )
  items = {}
  for part in config.few_shot.datasets:
    match = _ITEM.fullmatch(part)
    if not match:
      raise ValueError(f'{syntax}; {part!r} does not match.')
    dataset = match['dataset']
    name = match['name'] or short_name(dataset)
    if name in items:
      raise ValueError(f'{syntax}; the name {name!r} occurs twice.')
    if name == _MEAN:
      raise ValueError(
        f'{syntax}; the name {name!r} is that of the mean over the datasets;'
        f' write NAME={part}.'
      )
    splits = catalog.Dataset.few_shot
    if dataset in catalog.DATASETS:
      splits = catalog.DATASETS[dataset].few_shot
    if match['train']:
      splits = match['train'], match['test']
    items[name] = Item(name, dataset, *splits)
  if not items:
    raise ValueError(f'{syntax}; the list is empty.')
  return list(items.values())


def metric_names(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the names of the metrics of `few_shot.datasets`.

  Several datasets also have a mean.

  Raises:
    ValueError: same as in `parse_datasets`.
  """
  names = [item.name for item in parse_datasets(config)]
  if len(names) > 1:
    names.insert(0, _MEAN)
  return [
    _METRIC.format(name, shots)
    for name in names
    for shots in config.few_shot.shots
  ]


def short_name(dataset: str) -> str:
  """Returns a short form of a dataset name.

  This is the last folder of `folder:PATH`, the file of `table:FILE` without its
  ending, the builder of `tfds:BUILDER`, and
  otherwise the name itself.
  """
  kind, _, path = dataset.partition(':')
  if kind == 'folder':
    return os.path.basename(os.path.abspath(os.path.expanduser(path)))
  if kind == 'table':
    return table.short_name(path)
  if kind == 'tfds':
    return path.partition(':')[0].replace('/', '-')
  return dataset


@dataclasses.dataclass(frozen=True)
class FewShotDataset:
  """A dataset with the examples drawn from its training split.

  Attributes:
    support: split that examples are drawn from.
    queries: split that is classified.
    rows: indices of all drawn examples, in ascending order.
    draws: positions in `rows`, for each number of shots and each seed.
  """

  support: registry.Source
  queries: registry.Source
  rows: np.ndarray
  draws: dict[int, list[np.ndarray]]


class FewShotEvaluator:
  """Few-shot accuracies of a model, which is compiled once.

  Attributes:
    datasets: the datasets by their names in metrics.
  """

  def __init__(self, config: ml_collections.ConfigDict, model, mesh: Mesh):
    """Opens the datasets and draws the examples.

    Raises:
      ValueError: if data is missing or unsuitable, or a key is malformed.
    """
    self._batch_size = build.eval_batch_size(config)
    self._l2 = config.few_shot.l2
    self._skip_corrupt = config.data.skip_corrupt
    self._mesh = mesh
    shots = config.few_shot.shots
    if not shots:
      raise ValueError(
        f'few_shot.shots={config.few_shot.shots!r} must contain one or more'
        ' positive integers (examples per class).'
      )
    with console.phase('drawing examples for few-shot evaluation'):
      self.datasets = {
        item.name: _open_dataset(config, item, shots)
        for item in parse_datasets(config)
      }
    image_size = config_lib.image_size(config)
    self._transform = preprocess.eval_transform(
      image_size=image_size,
      crop='resize_center',
      precrop_size=tuple(round(side * PRECROP) for side in image_size),
      decoder=build.decoder(config),
    )
    self._feature_step = compilation.jit(
      few_shot_regression.make_feature_step(model), mesh.local_devices[0]
    )

  def evaluate(self, params: PyTree) -> Accuracies:
    """Returns the accuracies on every dataset, and their mean over several.

    `params` are on the devices.
    """
    with evaluator.log_metrics('few-shot evaluation') as metrics:
      accuracies = {
        name: self._accuracies(params, dataset)
        for name, dataset in self.datasets.items()
      }
      if len(accuracies) > 1:
        accuracies = {_MEAN: _over_datasets(accuracies)} | accuracies
      metrics.update(means(accuracies))
    return accuracies

  def _accuracies(self, params, dataset):
    support = self._features(params, dataset.support, dataset.rows)
    queries = self._features(params, dataset.queries)
    return {
      shots: [
        few_shot_regression.accuracy(
          support.take(dataset.rows[rows]),
          queries,
          num_classes=dataset.support.num_classes,
          l2=self._l2,
        )
        for rows in draws
      ]
      for shots, draws in dataset.draws.items()
    }

  def _features(self, params, source, only=None):
    batches = build.eval_batches(
      source,
      self._transform,
      self._mesh,
      batch_size=self._batch_size,
      only=only,
      skip_corrupt=self._skip_corrupt,
    )
    return few_shot_regression.extract(
      self._feature_step,
      params,
      batches,
      functools.partial(mesh_lib.put_batch, mesh=self._mesh),
    )


def _open_dataset(config, item, shots) -> FewShotDataset:
  listed = {}
  support = build.open_split(config, item.dataset, item.train, listed=listed)
  queries = build.open_split(config, item.dataset, item.test, listed=listed)
  if support.multi_label:
    raise ValueError(
      f'the images of {item.dataset} have several labels each; few-shot'
      ' evaluation needs exactly one label per image.'
    )
  if support.class_names != queries.class_names:
    raise ValueError(
      f'{item.dataset}: {item.train} and {item.test} have different classes;'
      ' choose two splits of the same classes.'
    )
  labels = pipeline.labels(support)
  k, seeds = support.num_classes, range(config.few_shot.seeds)
  draws = {
    number: [
      few_shot_regression.choose_support(labels, k, number, s) for s in seeds
    ]
    for number in sorted(set(shots))
  }
  _warn_of_small_classes(item, np.bincount(labels, minlength=k), max(shots))
  rows = np.unique(np.concatenate(draws[max(shots)]))
  positions = {
    number: [np.searchsorted(rows, chosen) for chosen in drawn]
    for number, drawn in draws.items()
  }
  return FewShotDataset(support, queries, rows, positions)


def _warn_of_small_classes(item, counts, shots):
  small = int(np.sum(counts < shots))
  if small:
    _log.warning(
      '%s %s: %d of %d classes have fewer than %d examples (the smallest has'
      ' %d); all their examples are used',
      item.dataset, item.train, small, len(counts), shots, counts.min(),
    )  # fmt: skip


def _over_datasets(accuracies: Accuracies) -> dict[int, list[float]]:
  """Returns the mean accuracy of each draw, by number of shots."""
  datasets = list(accuracies.values())
  return {
    shots: [
      statistics.fmean(draw)
      for draw in zip(*(d[shots] for d in datasets), strict=True)
    ]
    for shots in datasets[0]
  }


def summary(
  accuracies: Accuracies, statistic: Callable[[list[float]], float]
) -> dict[str, float]:
  """Returns a statistic over the draws, by metric, few_shot/DATASET/5shot."""
  return {
    _METRIC.format(name, shots): statistic(values)
    for name, by_shots in accuracies.items()
    for shots, values in by_shots.items()
  }


def means(accuracies: Accuracies) -> dict[str, float]:
  """Returns means over the draws."""
  return summary(accuracies, statistics.fmean)


def spreads(accuracies: Accuracies) -> dict[str, float]:
  """Returns standard deviations over the draws; 0 for a single draw."""
  return summary(
    accuracies, lambda v: statistics.stdev(v) if len(v) > 1 else 0.0
  )
