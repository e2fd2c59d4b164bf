"""Scores the weights of a finished run by transfer to other datasets.

Few-shot accuracy on `few_shot.datasets` and fine-tuning on `study.finetune`
each run in a folder of their own, so an interrupted study resumes.
"""

from collections.abc import Sequence
import logging
import re
import statistics

from etils import epath
import ml_collections

from vit_jax import build, recipes
from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator
from vit_jax.jobs.compare import selection, settings
from vit_jax.workdir import files, finished_run

_log = logging.getLogger(__name__)

# The mean over datasets of the accuracy by their original labels.
MEAN = 'finetune/mean/accuracy'
_REAL = '-real/accuracy'
_IMAGENET = 'imagenet2012'
# Names of other metrics and folders.
_RESERVED = ('mean', 'few_shot', 'train')
_NAME = re.compile(r'\w[\w.:+ -]{0,99}')

# Keys of `model` that belong to pre-training, or that the recipe sets.
_NOT_TRANSFERRED = (
  'name',
  'representation_size',
  'dropout',
  'stochastic_depth',
  'dtype',
  'head_bias',
)


def scores(
  config: ml_collections.ConfigDict,
  run: finished_run.FinishedRun,
  folder: epath.Path,
) -> dict[str, float]:
  """Returns accuracies by metric name; empty if none are requested.

  Args:
    config: the study's config.
    run: a finished training run. Its best weights are used if it kept them, and
      its final weights otherwise.
    folder: where the runs of the transfer are kept.

  Raises:
    ValueError: if a dataset is unknown or its data is missing.
    settings.Stopped: if a run was preempted.
  """
  metrics = {}
  for name, dataset in finetune_datasets(config).items():
    metrics |= _finetune(config, run, name, dataset, folder / name)
  accuracies = [v for k, v in metrics.items() if not k.endswith(_REAL)]
  if len(accuracies) > 1:
    metrics = {MEAN: statistics.fmean(accuracies)} | metrics
  # A run that measures few-shot accuracy during training has that of its final
  # weights already.
  if config.few_shot.datasets and (
    run.config.best_metric or not run.config.few_shot.every
  ):
    metrics |= _few_shot(config, run, folder / 'few_shot')
  return metrics


def metric_names(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the names of the metrics that `scores` can return."""
  datasets = finetune_datasets(config)
  names = [f'finetune/{name}/accuracy' for name in datasets]
  if len(datasets) > 1:
    names.insert(0, MEAN)
  if _has_real(config):
    names += [
      f'finetune/{name}{_REAL}'
      for name, dataset in datasets.items()
      if dataset == _IMAGENET
    ]
  if config.few_shot.datasets:
    names += few_shot_evaluator.metric_names(config)
  return names


def finetune_datasets(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Returns the datasets of `study.finetune` by their names in metrics.

  Raises:
    ValueError: if a name occurs twice or cannot be that of a folder.
  """
  datasets = {}
  for item in config.study.finetune:
    name, equals, dataset = item.partition('=')
    if not equals:
      name, dataset = few_shot_evaluator.short_name(item), item
    if name in (*datasets, *_RESERVED) or not _NAME.fullmatch(name):
      raise ValueError(
        f'study.finetune={config.study.finetune!r}: each dataset needs a unique'
        ' name of letters, digits, spaces and _.:+- other than'
        f' {", ".join(_RESERVED)}, as in NAME={dataset}; got {name!r}.'
      )
    datasets[name] = dataset
  return datasets


def finetune_config(
  config: ml_collections.ConfigDict,
  run_config: ml_collections.ConfigDict,
  workdir: epath.Path,
  dataset: str,
) -> ml_collections.ConfigDict:
  """Returns the config that fine-tunes a run's weights.

  The recipe is that of Table 4, or that of an image folder for datasets that
  Table 4 does not list. `study.finetune_keys` change it.

  Args:
    config: the study's config.
    run_config: config of the run.
    workdir: work directory of the run.
    dataset: dataset to fine-tune on.

  Raises:
    ValueError: if `study.finetune_keys` are invalid.
  """
  model = run_config.model
  recipe = dataset if dataset in recipes.TABLE_4 else 'folder:'
  tuned = recipes.finetuning(f'{model.name},{recipe}')
  tuned.data.name = dataset
  tuned.model.update(
    {key: value for key, value in model.items() if key not in _NOT_TRANSFERRED}
  )
  _transfer_keys(tuned, run_config, workdir)
  tuned.keep_checkpoints = 1
  config_lib.set_keys(tuned, config.study.finetune_keys)
  return tuned


def check(
  config: ml_collections.ConfigDict,
  runs: Sequence[tuple[ml_collections.ConfigDict, epath.Path]],
) -> None:
  """Rejects invalid transfers before anything is trained.

  Args:
    config: the study's config.
    runs: config of a run of each point, and the folder of its transfer.

  Raises:
    ValueError: if a dataset is unknown, data is missing, or a run is invalid.
  """
  tuned = []
  for run_config, folder in runs:
    for name, dataset in finetune_datasets(config).items():
      final = finetune_config(config, run_config, folder, dataset)
      tuned.append((final, folder / name))
      sweep, candidates = trials(config, final)
      tuned += [
        (
          selection.held_out_config(settings.run_config(sweep, c)),
          folder / name,
        )
        for c in candidates
        if len(candidates) > 1
      ]
  for tuned_config, _ in tuned:
    settings.check(tuned_config)
  settings.check_data(tuned)
  if _has_real(config) and _IMAGENET in finetune_datasets(config).values():
    _open_real(config, tuned[0][0])
  if config.few_shot.datasets:
    for item in few_shot_evaluator.parse_datasets(config):
      for split in (item.train, item.test):
        build.open_split(config, item.dataset, split)


def _finetune(config, run, name, dataset, folder):
  tuned = finetune_config(config, run.config, run.workdir, dataset)
  sweep, candidates = trials(config, tuned)
  choices = folder.with_name(f'{folder.name}-choose')

  def score(setting):
    trial = choices / settings.setting_name(setting)
    accuracy = selection.held_out_score(
      settings.run_config(sweep, setting), trial
    )
    settings.clean(trial, keep_weights=False)
    return accuracy

  selected, scores = selection.select(candidates, score)
  if scores:
    _log.info(
      '%s: selected %s; accuracies on held-out images: %s',
      folder, settings.setting_name(selected), selection.by_name(scores),
    )  # fmt: skip
  tuned = settings.run_config(tuned, selected)
  results = settings.run_or_read(tuned, folder)
  (split, *_) = config_lib.eval_splits(tuned)
  accuracy = results['metrics'][f'{split}/accuracy']
  metrics = {f'finetune/{name}/accuracy': accuracy}
  if _has_real(config) and dataset == _IMAGENET:
    metrics[f'finetune/{name}{_REAL}'] = _real_accuracy(config, tuned, folder)
  settings.clean(folder, keep_weights=False)
  return metrics


def trials(
  config: ml_collections.ConfigDict, tuned: ml_collections.ConfigDict
) -> tuple[ml_collections.ConfigDict, list[settings.Setting]]:
  """Returns a config of trials before a fine-tuning, and their settings.

  The keys of `study.finetune_keys` are not tried. Without
  `study.finetune_sweep`, there is a single setting, which changes nothing.

  Args:
    config: the study's config.
    tuned: a result of `finetune_config`.
  """
  if not config.study.finetune_sweep:
    return tuned, [()]
  sweep = tuned.copy_and_resolve_references()
  sweep.sweep.update(recipes.trials(tuned))
  candidates = [
    tuple(pair for pair in setting if pair[0] not in config.study.finetune_keys)
    for setting in settings.settings(sweep)
  ]
  return sweep, list(dict.fromkeys(candidates))


def _has_real(config) -> bool:
  return bool(config.study.real or config.evaluate.real_json)


def _real_config(config, tuned):
  """Returns the config that evaluates a fine-tuned model by ReaL labels."""
  evaluation = tuned.copy_and_resolve_references()
  evaluation.job = 'evaluate'
  evaluation.evaluate.real_json = config.evaluate.real_json
  if not config.evaluate.real_json:
    evaluation.data.update(name='imagenet2012_real', eval='real=validation')
  return evaluation


def _open_real(config, tuned) -> None:
  """Raises an error if the images with ReaL labels are missing."""
  evaluation = _real_config(config, tuned)
  for split in config_lib.eval_splits(evaluation).values():
    build.open_split(evaluation, evaluation.data.name, split)


def _real_accuracy(config, tuned, folder):
  """Returns a fine-tuned model's accuracy by the ReaL labels."""
  evaluation = _real_config(config, tuned)
  evaluation.init_from = str(folder / files.FINAL_WEIGHTS)
  real_folder = folder.with_name(f'{folder.name}-real')
  return settings.run_or_read(evaluation, real_folder)['metrics'][
    'real/accuracy'
  ]


def _few_shot(config, run, folder):
  evaluation = run.config.copy_and_resolve_references()
  evaluation.job = 'few_shot'
  evaluation.few_shot.update(config.few_shot)
  evaluation.few_shot.every = 0
  _transfer_keys(evaluation, run.config, run.workdir)
  metrics = settings.run_or_read(evaluation, folder)['metrics']
  return {k: v for k, v in metrics.items() if not k.endswith('_std')}


def _transfer_keys(config, run_config, workdir):
  """Copies weights, seed, mesh and data folders from the run."""
  weights = files.FINAL_WEIGHTS
  if run_config.best_metric:
    weights = files.BEST_WEIGHTS
  config.init_from = str(workdir / weights)
  config.seed = run_config.seed
  config.best_metric = ''
  config.mesh = run_config.mesh
  for key in ('dir', 'manual_dir', 'download'):
    config.data[key] = run_config.data[key]
