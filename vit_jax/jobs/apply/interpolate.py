"""Weights between checkpoints of one shape, or their mean, as npz files.

Each is evaluated on the splits of `data.eval`, if that is not empty.
"""

import logging
import time

from etils import epath
import ml_collections

from vit_jax import build, checkpoints
from vit_jax import config as config_lib
from vit_jax.build import evaluator, pretrained
from vit_jax.checkpoints import arithmetic
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import processes
from vit_jax.workdir import claim, console, results

_log = logging.getLogger(__name__)

MEAN = 'mean'


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Writes `mean.npz`, or `alpha_A.npz` for each alpha, and their scores.

  Raises:
    ValueError: if the checkpoints are missing or of different shapes, or there
      are not two of them to go between.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  alphas = config.interpolate.alphas
  config = config.copy_and_resolve_references()
  with console.phase('reading the checkpoints'):
    first, *others = _load_all(config)
  build.record_derived(config, first.model)
  trees = [first.params, *(other.params for other in others)]
  points = _points(trees, alphas)
  scorer = None
  if config.data.eval:
    data = build.open_eval_data(first.config)
    mesh = mesh_lib.create(**config.mesh)
    scorer = evaluator.Evaluator(
      data, first.model, mesh, loss=first.config.loss
    )
  claim.start(config_lib.flatten(config), workdir)

  metrics = {}
  for name, make in points.items():
    params = make()
    if processes.is_first():
      checkpoints.export(params, workdir / f'{name}.npz')
    if scorer:
      params = mesh_lib.put(params, mesh_lib.replicated(mesh))
      scores, _ = scorer.evaluate(params)
      metrics |= {f'{name}/{key}': value for key, value in scores.items()}
    _log.info('%s is written', workdir / f'{name}.npz')
  if metrics:
    _print_table(list(points), metrics)
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    metrics=metrics,
    class_names=first.class_names,
  )


def _load_all(
  config: ml_collections.ConfigDict,
) -> list[pretrained.PretrainedModel]:
  paths = config.interpolate.paths
  if len(paths) < 2 or (config.interpolate.alphas and len(paths) > 2):
    raise ValueError(
      f'interpolate.paths={paths!r} names'
      f' {len(paths)} checkpoints, separated by commas; two are needed for'
      ' interpolate.alphas, two or more for their mean.'
    )
  loaded = []
  for path in paths:
    own = config.copy_and_resolve_references()
    own.init_from = path
    loaded.append(pretrained.load_classifier(own))
  return loaded


def _points(trees, alphas):
  """Functions that make the weights of each point, by its name."""
  if not alphas:
    return {MEAN: lambda: arithmetic.average(trees)}
  start, end = trees
  return {
    f'alpha_{alpha:g}': lambda alpha=alpha: arithmetic.interpolate(
      start, end, alpha
    )
    for alpha in alphas
  }


def _print_table(names: list[str], metrics: dict[str, float]) -> None:
  columns = list(dict.fromkeys(name.partition('/')[2] for name in metrics))
  rows = [('weights', *columns)]
  for name in names:
    values = [metrics[f'{name}/{column}'] for column in columns]
    rows.append((name, *(f'{value:.4f}' for value in values)))
  console.show(console.table(rows))
