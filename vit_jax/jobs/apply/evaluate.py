"""Scores a checkpoint on any dataset: top-1, top-5, class by class.

ImageNet's validation images also by the labels of ReaL, and ObjectNet by a
model of ImageNet's classes. The head of the checkpoint stays as it is.
"""

import csv
import dataclasses
import functools
import io
import logging
import time

from etils import epath
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import evaluator, pretrained
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import classification, objectnet, real
from vit_jax.workdir import claim, console, files, results
from vit_jax.workdir import predictions as predictions_lib

_log = logging.getLogger(__name__)

MOST_PRINTED = 40  # Classes; per_class.csv has all.
REAL = 'real'


@dataclasses.dataclass(frozen=True)
class _Score:
  """Predictions among the classes of the labels, and their metrics."""

  predictions: classification.Predictions
  class_names: tuple[str, ...]
  metrics: dict[str, float]

  def rows(self) -> list[tuple[str, int, float | None]]:
    """Name, number of examples and accuracy of every class."""
    k = len(self.class_names)
    counts = self.predictions.class_counts(k).tolist()
    accuracies = self.predictions.class_accuracy(k)
    return list(zip(self.class_names, counts, accuracies, strict=True))


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Evaluates `init_from` on the splits of `data.eval`.

  Prints tables, and leaves `results.json`, `per_class.csv` and for each split
  `predictions_SPLIT.jsonl`.

  Raises:
    ValueError: if the checkpoint, the data and the config do not fit.
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
    groups = None
    if config.evaluate.objectnet_mappings:
      data, groups = _objectnet(config, model, data)
    else:
      _check_classes(config, model, data)
    real_labels = _real_labels(config, model, data)
  restricted = config.evaluate.objectnet_restricted and groups is not None
  mesh = mesh_lib.create(**config.mesh)
  scorer = evaluator.Evaluator(
    data,
    model.model,
    mesh,
    loss=model.config.loss,
    project=functools.partial(objectnet.restrict, classes=groups)
    if restricted
    else None,
  )
  params = mesh_lib.put(model.params, mesh_lib.replicated(mesh))
  claim.start(config_lib.flatten(config), workdir)

  scores = {}
  for name, source in data.evals.items():
    names, k = source.class_names, source.num_classes
    with console.phase(f'evaluating {name}, {source.num_examples} images'):
      predictions = scorer.predict(name, params)
    chosen_among = names
    mapped = predictions
    if groups is not None and not restricted:
      chosen_among, k = model.class_names, model.num_classes
      mapped = objectnet.map_predictions(predictions, groups)
    predictions_lib.write(
      workdir / f'predictions_{name}.jsonl',
      predictions,
      chosen_among,
      source.describe,
      label_names=names,
    )
    scores[name] = _Score(mapped, names, mapped.metrics(k))
    if real_labels is not None:
      relabelled = dataclasses.replace(
        predictions, label=real_labels[predictions.index], loss=None
      )
      scores[REAL] = _Score(relabelled, names, relabelled.metrics(k))
  _print(scores)
  _write_classes(scores, workdir / 'per_class.csv')
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    params=model.params,
    metrics={
      f'{name}/{metric}': value
      for name, score in scores.items()
      for metric, value in score.metrics.items()
    },
    init_from=config.init_from,
    num_examples={
      name: int(score.predictions.labelled.sum())
      for name, score in scores.items()
    },
    class_names=model.class_names,
    class_accuracy={
      name: {label: accuracy for label, _, accuracy in score.rows()}
      for name, score in scores.items()
    },
  )


def _check_classes(
  config: ml_collections.ConfigDict,
  model: pretrained.PretrainedModel,
  data: build.EvalData,
) -> None:
  """Refuses labels that are not those of the head."""
  source = next(iter(data.evals.values()))
  if source.num_classes != model.num_classes:
    raise ValueError(
      f'{config.init_from} tells {model.num_classes} classes apart, and'
      f' {source.name} has {source.num_classes}; evaluate on data with the'
      ' classes that the model was trained on, or fine-tune it on these.'
      ' (ObjectNet needs evaluate.objectnet_mappings.)'
    )
  for k, (own, other) in enumerate(
    zip(model.class_names, source.class_names, strict=True)
  ):
    if own not in (other, str(k)):
      _log.warning(
        'class %d is %r by the checkpoint and %r by the data; labels are'
        ' compared by their numbers alone',
        k, own, other,
      )  # fmt: skip
      return


def _objectnet(
  config: ml_collections.ConfigDict,
  model: pretrained.PretrainedModel,
  data: build.EvalData,
) -> tuple[build.EvalData, list[tuple[int, ...]]]:
  """The images of classes that ImageNet has too, and its classes for each."""
  _check_imagenet('ObjectNet', config, model)
  if not config.data.name.startswith('folder:'):
    raise ValueError(
      f'data.name={config.data.name!r}, but ObjectNet is read from the folder'
      ' `images` of its release; write folder:PATH/images.'
    )
  mapping = objectnet.read_mapping(config.evaluate.objectnet_mappings)
  evals = {
    name: source.of_classes(mapping) for name, source in data.evals.items()
  }
  (class_names, *_) = (source.class_names for source in evals.values())
  groups = [mapping[name] for name in class_names]
  _log.info(
    'ObjectNet: %d of %d classes are known to ImageNet',
    len(groups),
    next(iter(data.evals.values())).num_classes,
  )
  return dataclasses.replace(data, evals=evals), groups


def _real_labels(
  config: ml_collections.ConfigDict,
  model: pretrained.PretrainedModel,
  data: build.EvalData,
) -> np.ndarray | None:
  """ReaL's labels of the split's examples by index; None if not asked for."""
  path = config.evaluate.real_json
  if not path:
    return None
  _check_imagenet('ReaL', config, model)
  if len(data.evals) > 1 or REAL in data.evals:
    raise ValueError(
      f'data.eval={config.data.eval!r}: evaluate.real_json needs one split'
      f' alone, under another name than {REAL!r}.'
    )
  (source,) = data.evals.values()
  return real.labels(source.file_names(), real.read(path))


def _check_imagenet(what, config, model) -> None:
  if model.num_classes != real.NUM_CLASSES:
    raise ValueError(
      f"{what} needs a model of ImageNet's {real.NUM_CLASSES} classes, and"
      f' {config.init_from} tells {model.num_classes} apart.'
    )


def _print(scores: dict[str, _Score]) -> None:
  """Prints all metrics, and the classes from the least accurate."""
  metrics = list(
    dict.fromkeys(m for score in scores.values() for m in score.metrics)
  )
  rows = [('split', 'images', *metrics)]
  for name, score in scores.items():
    values = [score.metrics.get(metric) for metric in metrics]
    images = int(score.predictions.labelled.sum())
    rows.append((name, str(images), *map(_text, values)))
  console.show(console.table(rows))
  for name, score in scores.items():
    classes = [row for row in score.rows() if row[2] is not None]
    classes.sort(key=lambda row: row[2])
    rows = [(f'{name}, class', 'images', 'accuracy')]
    rows += [(n, str(c), _text(a)) for n, c, a in classes[:MOST_PRINTED]]
    console.show(f'\n{console.table(rows)}')
    if len(classes) > MOST_PRINTED:
      more = len(classes) - MOST_PRINTED
      console.show(f'... and {more} more in per_class.csv')


def _text(value: float | None) -> str:
  return '' if value is None else f'{value:.4f}'


def _write_classes(scores: dict[str, _Score], path: epath.Path) -> None:
  """A line a split and class; the accuracy is empty where there is no image."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(['split', 'class', 'images', 'accuracy'])
  for name, score in scores.items():
    writer.writerows([name, *row] for row in score.rows())
  files.write_text(path, text.getvalue())
