"""Interpolates between two checkpoints, or averages several.

The results are npz files; each is evaluated on the splits of `data.eval`, if
there are any.
"""

from collections.abc import Callable, Sequence
import logging
import time

from etils import epath
from jaxtyping import PyTree
import ml_collections

from vit_jax import build, checkpoints
from vit_jax import config as config_lib
from vit_jax.build import evaluator as evaluator_lib
from vit_jax.build import pretrained
from vit_jax.checkpoints import arithmetic
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import processes
from vit_jax.workdir import claim, console, results

_NOT_IN_SHAPES = ('positions', 'pool')

_log = logging.getLogger(__name__)


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Writes `alpha_ALPHA.npz` for each alpha or `mean.npz`, and their metrics.

  Raises:
    ValueError: if there are too few or too many checkpoints, or they are
      missing, of different shapes or of different classes.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  alphas = config.interpolate.alphas
  config = config.copy_and_resolve_references()
  with console.phase('reading the checkpoints'):
    models = _load_all(config)
  first = models[0]
  build.record_derived(config, first.model)
  _check_recorded(config, first)
  for key in ('eval_crop', 'eval_interpolation', 'precrop_size', 'trim_px'):
    config.data[key] = first.config.data[key]
  config.loss = first.config.loss
  interpolations = _interpolations([model.params for model in models], alphas)
  evaluator = None
  if config.data.eval:
    data = build.open_eval_data(first.config)
    match = build.match_classes(
      first.config, data, first.recorded_names, first.num_classes
    )
    data = build.with_labels_of(data, match)
    mesh = mesh_lib.create(**config.mesh)
    evaluator = evaluator_lib.Evaluator(
      data,
      first.model,
      mesh,
      loss=first.config.loss,
      threshold=config.label_threshold,
    )
  claim.start(config_lib.flatten(config), workdir)

  metrics = {}
  for name, compute in interpolations.items():
    path = workdir / f'{name}.npz'
    params = compute()
    if processes.is_first():
      checkpoints.export(params, path)
    if evaluator:
      params = mesh_lib.put(params, mesh_lib.replicated(mesh))
      scores, _ = evaluator.evaluate(params)
      metrics |= {f'{name}/{key}': value for key, value in scores.items()}
    _log.info('weights in %s', path)
  if metrics:
    _print_table(list(interpolations), metrics)
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    metrics=metrics,
    class_names=first.class_names,
    multi_label=first.multi_label,
  )


def _load_all(
  config: ml_collections.ConfigDict,
) -> list[pretrained.PretrainedModel]:
  paths = config.interpolate.paths
  if len(paths) < 2 or (config.interpolate.alphas and len(paths) > 2):
    raise ValueError(
      f'interpolate.paths={paths!r}: expected two checkpoints, separated by'
      ' commas, for interpolate.alphas, or two or more for their mean; got'
      f' {len(paths)}.'
    )
  models = []
  for path in paths:
    path_config = config.copy_and_resolve_references()
    path_config.init_from = path
    models.append(pretrained.load_classifier(path_config))
  _check_same_model(paths, models)
  return models


def _check_recorded(
  config: ml_collections.ConfigDict, model: pretrained.PretrainedModel
) -> None:
  """Checks that config.json will record the options that weights do not."""
  sizes = checkpoints.description.sizes(model.params)
  found = {name: getattr(model.model, name, None) for name in _NOT_IN_SHAPES}
  hidden = {k: v for k, v in found.items() if sizes.get(k, v) != v}
  if 'pool' in hidden:
    hidden['class_token'] = True
  if any(config.model[name] != value for name, value in hidden.items()):
    listed = ' '.join(f'model.{name}={value}' for name, value in hidden.items())
    raise ValueError(
      'weight files do not record all options of these models; set them for the'
      f' config.json beside the new files: {listed}.'
    )


def _check_same_model(
  paths: Sequence[str], models: Sequence[pretrained.PretrainedModel]
) -> None:
  """Checks settings and classes, which shapes of weights do not determine."""
  first = models[0]
  for path, model in zip(paths, models, strict=True):
    for name in ('gelu', 'norm_eps', *_NOT_IN_SHAPES):
      one, other = (getattr(m.model, name, None) for m in (first, model))
      if one != other:
        raise ValueError(
          f'the model of {paths[0]} has {name}={one!r}, but that of {path} has'
          f' {other!r}; set model.{name} to use one of them for all.'
        )
    names = first.recorded_names or (), model.recorded_names or ()
    for k, (one, other) in enumerate(zip(*names, strict=False)):
      if one != other:
        raise ValueError(
          f'class {k} is {one!r} in {paths[0]} but {other!r} in {path};'
          ' interpolate checkpoints of the same classes in the same order.'
        )


def _interpolations(
  trees: Sequence[PyTree], alphas: Sequence[float]
) -> dict[str, Callable[[], PyTree]]:
  """Returns functions that compute the weights of each file, by its name."""
  if not alphas:
    return {'mean': lambda: arithmetic.average(trees)}
  start, end = trees
  return {
    f'alpha_{_format(alpha)}': lambda alpha=alpha: arithmetic.interpolate(
      start, end, alpha
    )
    for alpha in alphas
  }


def _format(alpha: float) -> str:
  """Returns alpha with six significant digits, or all if it has more."""
  return f'{alpha:g}' if float(f'{alpha:g}') == alpha else repr(alpha)


def _print_table(names: list[str], metrics: dict[str, float]) -> None:
  columns = list(dict.fromkeys(name.partition('/')[2] for name in metrics))
  rows = [('weights', *columns)]
  for name in names:
    values = [metrics[f'{name}/{column}'] for column in columns]
    rows.append((name, *(f'{value:.4f}' for value in values)))
  console.show(console.table(rows))
