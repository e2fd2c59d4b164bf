"""What the weights of a finished run are worth elsewhere.

By few-shot accuracy on `few_shot.datasets`, and by fine-tuning on
`study.finetune`; each in a folder of its own, so that a study goes on.
"""

import statistics

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax import recipes
from vit_jax.build import few_shot_evaluator
from vit_jax.jobs.compare import settings
from vit_jax.workdir import files, finished_run

MEAN = 'finetune/mean/accuracy'  # Of the datasets by their own labels.
_REAL = '-real/accuracy'

# Of the model, what belongs to pre-training or comes with the recipe.
_NOT_THE_MODEL = (
  'name',
  'representation_size',
  'dropout',
  'dtype',
  'head_bias',
)


def scores(
  config: ml_collections.ConfigDict,
  run: finished_run.FinishedRun,
  folder: epath.Path,
) -> dict[str, float]:
  """Accuracies by the names of metrics; none where none are asked for.

  Args:
    config: of the study.
    run: trained; of its weights the best, where those are kept.
    folder: for what is run here.

  Raises:
    ValueError: if a dataset is unknown or its data is missing.
    grid.Stopped: if it was asked to stop.
  """
  found = {}
  for name, dataset in finetune_on(config).items():
    found |= _finetune(config, run, name, dataset, folder / name)
  accuracies = [v for k, v in found.items() if not k.endswith(_REAL)]
  if len(accuracies) > 1:
    found = {MEAN: statistics.fmean(accuracies)} | found
  # A run that looks at few-shot accuracy ends with that of its last weights.
  if config.few_shot.datasets and (
    run.config.best_metric or not run.config.few_shot.every
  ):
    found |= _few_shot(config, run, folder / 'few_shot')
  return found


def finetune_on(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Datasets of `study.finetune` by their names in metrics."""
  found = {}
  for item in filter(None, map(str.strip, config.study.finetune.split(','))):
    name, equals, dataset = item.partition('=')
    if not equals:
      name, dataset = few_shot_evaluator.short_name(item), item
    found[name] = dataset
  return found


def finetune_config(
  config: ml_collections.ConfigDict, run: finished_run.FinishedRun, dataset: str
) -> ml_collections.ConfigDict:
  """Fine-tuning of a run's weights as Table 4 has it, with the study's changes.

  What is neither in Table 4 nor a folder gets the settings of a folder.

  Raises:
    ValueError: if `study.finetune_keys` cannot be read.
  """
  model = run.config.model
  known = dataset in recipes.TABLE_4
  own = recipes.finetuning(f'{model.name},{dataset if known else "folder:"}')
  own.data.name = dataset
  own.model.update(
    {key: value for key, value in model.items() if key not in _NOT_THE_MODEL}
  )
  _share(own, run)
  own.keep_checkpoints = 1
  _set_keys(config, own)
  return own


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses `study.finetune_keys` before anything is trained.

  Raises:
    ValueError: if they cannot be read, or are no keys.
  """
  _set_keys(config, config_lib.base())


def _set_keys(config, own) -> None:
  """Sets what the study changes in the recipe; one length takes the other's."""
  pairs = settings.pairs('study.finetune_keys', config.study.finetune_keys)
  for key, value in pairs:
    config_lib.set_key(own, key, value)
    if key == 'total_steps':
      own.total_epochs = 0.0
    elif key == 'total_epochs':
      own.total_steps = 0


def _finetune(config, run, name, dataset, folder):
  own = finetune_config(config, run, dataset)
  metrics = settings.run_or_read(own, folder)['metrics']
  (split, *_) = config_lib.eval_splits(own)
  found = {f'finetune/{name}/accuracy': metrics[f'{split}/accuracy']}
  if config.evaluate.real_json and dataset == 'imagenet2012':
    found[f'finetune/{name}{_REAL}'] = _real(config, own, folder)
  settings.clean(folder, keep_weights=False)
  return found


def _real(config, tuned, folder):
  """Accuracy of a fine-tuned model by ReaL's labels."""
  own = tuned.copy_and_resolve_references()
  own.job = 'evaluate'
  own.init_from = str(folder / files.FINAL_WEIGHTS)
  own.evaluate.real_json = config.evaluate.real_json
  results = settings.run_or_read(own, folder.with_name(f'{folder.name}-real'))
  return results['metrics']['real/accuracy']


def _few_shot(config, run, folder):
  own = run.config.copy_and_resolve_references()
  own.job = 'few_shot'
  own.few_shot.update(config.few_shot)
  own.few_shot.every = 0
  _share(own, run)
  metrics = settings.run_or_read(own, folder)['metrics']
  return {k: v for k, v in metrics.items() if not k.endswith('_std')}


def _share(own, run):
  """What transfer takes from the run: weights, seed, where data lies."""
  own.init_from = _weights(run)
  own.seed = run.config.seed
  own.best_metric = ''
  own.mesh = run.config.mesh
  for key in ('dir', 'manual_dir', 'download'):
    own.data[key] = run.config.data[key]


def _weights(run):
  name = files.BEST_WEIGHTS if run.config.best_metric else files.FINAL_WEIGHTS
  return str(run.workdir / name)
