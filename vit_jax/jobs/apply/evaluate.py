"""Evaluates a checkpoint on a dataset: top-1, top-5 and per-class accuracy.

With several labels per image and the sigmoid loss, it also measures average
precision and F1 (`evaluation.multi_label`).

ImageNet's validation images are also scored by the labels of ReaL, and
ObjectNet by a model of ImageNet's classes. The head of the checkpoint is used
as it is.
"""

from collections.abc import Sequence
import csv
import dataclasses
import functools
import io
import logging
import operator
import time
from typing import Any

from etils import epath
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import evaluator as evaluator_lib
from vit_jax.build import pretrained
from vit_jax.data import class_matching
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import classification, objectnet, real
from vit_jax.workdir import claim, console, files, results
from vit_jax.workdir import predictions as predictions_lib

_log = logging.getLogger(__name__)

_MAX_PRINTED_CLASSES = 40  # per_class.csv has all of them.
_REAL = 'real'


@dataclasses.dataclass(frozen=True)
class _Score:
  """Predictions for a split, among the classes of its labels."""

  predictions: classification.Predictions
  class_names: tuple[str, ...]
  metrics: dict[str, float]

  @property
  def num_images(self) -> int:
    """Number of images: those with a label, or all for multi-label metrics."""
    if self.predictions.logits is not None:
      return len(self.predictions.index)
    return int(self.predictions.labelled.sum())

  def rows(self) -> list[dict[str, Any]]:
    """Returns name, number of images and metrics of every class, by heading."""
    k = len(self.class_names)
    columns = {
      'class': self.class_names,
      'images': self.predictions.class_counts(k).tolist(),
      **self.predictions.by_class(k),
    }
    return [
      dict(zip(columns, row, strict=True))
      for row in zip(*columns.values(), strict=True)
    ]


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Evaluates `init_from` on the splits of `data.eval`.

  Prints tables and writes `results.json`, `per_class.csv` and, for each split,
  `predictions_SPLIT.jsonl`.

  Raises:
    ValueError: if checkpoint, data and config do not match.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  with console.phase('reading the checkpoint'):
    model = pretrained.load_classifier(config)
  with console.phase('opening the data'):
    data = build.open_eval_data(model.config)
    if not data.evals:
      raise ValueError('data.eval is empty; name a split to evaluate.')
    groups = None  # ImageNet classes of each class of ObjectNet.
    class_names, project = model.class_names, None
    if config.evaluate.objectnet_mappings:
      data, groups = _objectnet(model, data)
      real_labels = _real_labels(model, data, model.recorded_names or ())
      if config.evaluate.objectnet_restricted or config.evaluate.restricted:
        project = functools.partial(objectnet.restrict, classes=groups)
    else:
      match = build.match_classes(
        model.config, data, model.recorded_names, model.num_classes
      )
      class_names = match.class_names
      real_labels = _real_labels(model, data, class_names)
      if config.evaluate.restricted:
        project = operator.itemgetter((slice(None), np.array(match.labels)))
      else:
        data = build.with_labels_of(data, match)
  mesh = mesh_lib.create(**config.mesh)
  evaluator = evaluator_lib.Evaluator(
    data,
    model.model,
    mesh,
    loss=model.config.loss,
    threshold=config.label_threshold,
    project=project,
  )
  params = mesh_lib.put(model.params, mesh_lib.replicated(mesh))
  claim.start(config_lib.flatten(config), workdir)

  scores = {}
  for split, source in data.evals.items():
    with console.phase(f'evaluating {split}, {source.num_examples} images'):
      predictions = evaluator.predict(split, params)
    label_names = predicted_names = source.class_names
    k = source.num_classes
    scored = predictions
    if groups is not None and project is None:
      predicted_names, k = model.class_names, model.num_classes
      scored = objectnet.map_predictions(predictions, groups)
    predictions_lib.write(
      workdir, split, predictions, predicted_names, source.describe, label_names
    )
    scores[split] = _Score(scored, label_names, scored.metrics(k))
    if real_labels is not None:
      relabelled = dataclasses.replace(
        predictions, label=real_labels[predictions.index], loss=None
      )
      scores[_REAL] = _Score(relabelled, label_names, relabelled.metrics(k))
  _print(scores)
  _write_classes(scores, workdir / 'per_class.csv')
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    params=model.params,
    metrics={
      f'{split}/{metric}': value
      for split, score in scores.items()
      for metric, value in score.metrics.items()
    },
    init_from=config.init_from,
    num_examples={split: score.num_images for split, score in scores.items()},
    class_names=class_names,
    **results.by_class(
      {split: score.predictions for split, score in scores.items()},
      data.class_names,
    ),
  )


def _objectnet(
  model: pretrained.PretrainedModel, data: build.EvalData
) -> tuple[build.EvalData, list[tuple[int, ...]]]:
  """Returns the images of classes in ImageNet, and their ImageNet classes."""
  config = model.config
  _check_imagenet('ObjectNet', model, model.recorded_names or ())
  if not config.data.name.startswith('folder:'):
    raise ValueError(
      f'data.name={config.data.name!r}, but ObjectNet is read from the folder'
      ' `images` of its release; write folder:PATH/images.'
    )
  mapping = objectnet.read_mapping(config.evaluate.objectnet_mappings)
  evals = {
    split: source.of_classes(mapping) for split, source in data.evals.items()
  }
  split, source = next(iter(data.evals.items()))
  groups = [mapping[name] for name in evals[split].class_names]
  _log.info(
    'ObjectNet: %d of %d classes are in ImageNet',
    len(groups), source.num_classes,
  )  # fmt: skip
  return dataclasses.replace(data, evals=evals), groups


def _real_labels(
  model: pretrained.PretrainedModel,
  data: build.EvalData,
  class_names: Sequence[str],
) -> np.ndarray | None:
  """Returns the ReaL labels of the split by example index, if requested."""
  path = model.config.evaluate.real_json
  if not path:
    return None
  _check_imagenet('ReaL', model, class_names)
  if len(data.evals) > 1 or _REAL in data.evals:
    raise ValueError(
      f'data.eval={model.config.data.eval!r}: evaluate.real_json needs exactly'
      f' one split, under a name other than {_REAL!r}.'
    )
  if model.config.evaluate.restricted:
    raise ValueError(
      'evaluate.real_json needs predictions over all classes of ImageNet; set'
      ' evaluate.restricted=false.'
    )
  (source,) = data.evals.values()
  return real.labels(source.file_names(), real.read(path))


def _check_imagenet(
  dataset: str, model: pretrained.PretrainedModel, class_names: Sequence[str]
) -> None:
  """Checks that the model has the labels of ImageNet.

  Raises:
    ValueError: if their number differs, or the names have another order.
  """
  if model.num_classes != real.NUM_CLASSES:
    raise ValueError(
      f"{dataset} needs a model of ImageNet's {real.NUM_CLASSES} classes, but"
      f' {model.config.init_from} has {model.num_classes} classes.'
    )
  if not class_matching.may_be_imagenet(class_names):
    raise ValueError(
      f"{dataset} numbers ImageNet's classes in the order of their WordNet IDs,"
      f' but those of {model.config.init_from} are in another order:'
      f' {", ".join(class_names[:3])} and so on.'
    )


def _print(scores: dict[str, _Score]) -> None:
  """Prints all metrics, and the classes, the worst first."""
  metrics = dict.fromkeys(m for score in scores.values() for m in score.metrics)
  rows = [('split', 'images', *metrics)]
  for split, score in scores.items():
    values = map(score.metrics.get, metrics)
    rows.append((split, str(score.num_images), *map(_text, values)))
  console.show(console.table(rows))
  for split, score in scores.items():
    classes = [row for row in score.rows() if row['images']]
    first, *names = list(classes[0])
    classes.sort(key=lambda row: row[names[-1]])
    rows = [(f'{split}, {first}', *names)]
    rows += [(r[first], *(_text(r[name]) for name in names)) for r in classes]
    console.show(f'\n{console.table(rows[: 1 + _MAX_PRINTED_CLASSES])}')
    if (more := len(classes) - _MAX_PRINTED_CLASSES) > 0:
      console.show(f'... and {more} more in per_class.csv')


def _text(value: float | int | None) -> str:
  if value is None:
    return ''
  return str(value) if isinstance(value, int) else f'{value:.4f}'


def _write_classes(scores: dict[str, _Score], path: epath.Path) -> None:
  """Writes one line per split and class; metrics are empty without images."""
  rows = [
    {'split': split, **row}
    for split, score in scores.items()
    for row in score.rows()
  ]
  text = io.StringIO()
  names = dict.fromkeys(name for row in rows for name in row)
  writer = csv.DictWriter(text, names, lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  files.write_text(path, text.getvalue())
