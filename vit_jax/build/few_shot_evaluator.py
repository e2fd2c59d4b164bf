"""Few-shot accuracies of weights on the datasets of a config."""

from collections.abc import Callable
import dataclasses
import logging
import os
import re
import statistics
import time

import jax
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import config as config_lib
from vit_jax.data import registry
from vit_jax.evaluation import few_shot_regression
from vit_jax import build
from vit_jax.workdir import console
from vit_jax.data import catalog
from vit_jax.data import pipeline
from vit_jax.data import preprocess
from vit_jax.distributed import mesh as mesh_lib



_log = logging.getLogger(__name__)

# Images are resized to a square and cut to its middle, 256 and 224 px in the
# public code; other sizes in proportion.
PRECROP = 256 / 224

# By dataset and number of shots, an accuracy for each draw.
Accuracies = dict[str, dict[int, list[float]]]

_ITEM = re.compile(
  r'((?P<name>[\w.-]+)=)?(?P<dataset>[^|=][^|]*)'
  r'(\|(?P<train>[^|]+)\|(?P<test>[^|]+))?'
)


@dataclasses.dataclass(frozen=True)
class Named:
  """An item of `few_shot.datasets`."""

  name: str
  dataset: str
  train: str
  test: str


def datasets(config: ml_collections.ConfigDict) -> list[Named]:
  """Reads `few_shot.datasets`.

  Without a name of its own, a dataset goes by that of its folder or builder;
  without splits, by those that the catalogue has, or train and test.

  Raises:
    ValueError: if there is none, one cannot be read, or two have one name.
  """
  text = config.few_shot.datasets
  syntax = (
    f'few_shot.datasets={text!r}: write [METRIC_NAME=]DATASET[|TRAIN|TEST],'
    ' separated by commas, such as caltech101,folder:PATH,digits|train|test'
  )
  found = {}
  for item in filter(None, map(str.strip, text.split(','))):
    match = _ITEM.fullmatch(item)
    if not match:
      raise ValueError(f'{syntax}; {item!r} is not like that.')
    dataset = match['dataset']
    name = match['name'] or short_name(dataset)
    if name in found:
      raise ValueError(f'{syntax}; two of them go by the name {name!r}.')
    splits = catalog.Dataset.few_shot
    if dataset in catalog.DATASETS:
      splits = catalog.DATASETS[dataset].few_shot
    if match['train']:
      splits = match['train'], match['test']
    found[name] = Named(name, dataset, *splits)
  if not found:
    raise ValueError(f'{syntax}; none is given.')
  return list(found.values())


def short_name(dataset: str) -> str:
  """That of its folder or builder."""
  kind, _, path = dataset.partition(':')
  if kind == 'folder':
    return os.path.basename(os.path.abspath(path))
  if kind == 'tfds':
    return path.partition(':')[0].replace('/', '-')
  return dataset


@dataclasses.dataclass(frozen=True)
class FewShotDataset:
  """A dataset with the examples that are drawn to learn from.

  Attributes:
    support: the split that they are drawn from.
    queries: the split to test on.
    rows: all that are drawn, by rising index.
    draws: by number of shots, for each seed, positions in `rows`.
  """

  support: registry.Source
  queries: registry.Source
  rows: np.ndarray
  draws: dict[int, list[np.ndarray]]


class FewShotEvaluator:
  """Few-shot accuracies of weights; the model is compiled once."""

  def __init__(self, config: ml_collections.ConfigDict, model, mesh: Mesh):
    """Opens the datasets, and draws the examples to learn from.

    Raises:
      ValueError: if data is missing or unfit, or a key cannot be read.
    """
    self._batch_size = config.eval_batch_size or config.batch_size
    self._l2 = config.few_shot.l2
    self._mesh = mesh
    shots = config_lib.integers(config, 'few_shot.shots')
    if not shots or min(shots) < 1:
      raise ValueError(
        f'few_shot.shots={config.few_shot.shots!r} has to name at least one'
        ' number of examples, each at least 1.'
      )
    with console.phase('drawing examples for few-shot evaluation'):
      self.tasks = {
        item.name: _task(config, item, shots) for item in datasets(config)
      }
    image_size = config_lib.image_size(config)
    self._transform = preprocess.eval_transform(
      image_size=image_size,
      crop='resize_center',
      precrop_size=tuple(round(side * PRECROP) for side in image_size),
    )
    self._feature_step = jax.jit(few_shot_regression.make_feature_step(model))

  def score(self, params: PyTree) -> Accuracies:
    """Accuracies of every dataset; `params` are on the devices."""
    begin = time.perf_counter()
    accuracies = {name: self._score(params, name) for name in self.tasks}
    _log.info(
      'few-shot evaluation in %.1f s: %s',
      time.perf_counter() - begin,
      '  '.join(f'{k} {v:.4f}' for k, v in means(accuracies).items()),
    )
    return accuracies

  def _score(self, params, name):
    task = self.tasks[name]
    support = self._features(params, task.support, task.rows)
    queries = self._features(params, task.queries)
    return {
      shots: [
        few_shot_regression.accuracy(
          support.take(rows),
          queries,
          num_classes=task.support.num_classes,
          l2=self._l2,
        )
        for rows in draws
      ]
      for shots, draws in task.draws.items()
    }

  def _features(self, params, source, only=None):
    number = source.num_examples if only is None else len(only)
    batches = pipeline.eval_batches(
      source,
      self._transform,
      batch_size=mesh_lib.round_up(min(self._batch_size, number), self._mesh),
      only=only,
      **mesh_lib.input_share(self._mesh),
    )
    return few_shot_regression.extract(
      self._feature_step,
      params,
      batches,
      lambda batch: mesh_lib.put_batch(batch, self._mesh),
    )


def _task(config, item, shots) -> FewShotDataset:
  support = build.open_split(config, item.dataset, item.train)
  queries = build.open_split(config, item.dataset, item.test)
  if support.multi_label:
    raise ValueError(
      f'the images of {item.dataset} have several labels each; few-shot'
      ' evaluation needs exactly one.'
    )
  if support.class_names != queries.class_names:
    raise ValueError(
      f'{item.dataset}: the classes of {item.train} and of {item.test} differ.'
    )
  labels = pipeline.labels(support)
  k, seeds = support.num_classes, config.few_shot.seeds
  draws = {
    number: [few_shot_regression.choose_support(labels, k, number, s) for s in range(seeds)]
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
      '%s %s: %d of %d classes have fewer than %d examples, the smallest %d;'
      ' they take part with all they have',
      item.dataset, item.train, small, len(counts), shots, counts.min(),
    )  # fmt: skip


def summary(
  accuracies: Accuracies, statistic: Callable[[list[float]], float]
) -> dict[str, float]:
  """A statistic over the draws, as `few_shot/DATASET/5shot`."""
  return {
    f'few_shot/{name}/{shots}shot': statistic(values)
    for name, by_shots in accuracies.items()
    for shots, values in by_shots.items()
  }


def means(accuracies: Accuracies) -> dict[str, float]:
  """Means over the draws."""
  return summary(accuracies, statistics.fmean)


def spreads(accuracies: Accuracies) -> dict[str, float]:
  """Standard deviations over the draws; 0 of a single draw."""
  return summary(
    accuracies, lambda v: statistics.stdev(v) if len(v) > 1 else 0.0
  )
