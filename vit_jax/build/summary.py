"""A summary of what a config runs, without data, devices or compilation."""

import os

import jax
import jax.numpy as jnp
import ml_collections

from vit_jax import config as config_lib
from vit_jax.build import dataset_facts
from vit_jax.build.model import create_model
from vit_jax.checkpoints import names
from vit_jax.models import flops


def describe(
  config: ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  has_model: bool = True,
  reads_weights: bool = False,
) -> list[str]:
  """Returns the lines of `--show`.

  Args:
    config: a config that has passed `config.check`.
    workdir: work directory of the run.
    has_model: whether the job runs the model of the config.
    reads_weights: whether the job starts from the weights of `init_from`.

  Raises:
    ValueError: if the model, the training split or the warm-up is invalid.
  """
  lines = [
    f'job {config.job}, work directory {workdir}',
    'config keys that differ from the defaults:',
    *_changed(config),
  ]
  facts = None
  if config.total_steps or config.total_epochs:  # Only jobs that train.
    embedded = config.data.name == 'digits'  # Quick to open.
    find = dataset_facts.look_up_or_open if embedded else dataset_facts.look_up
    facts = find(config)
    lines += _training(config, facts)
  if reads_weights:
    weights = names.describe(config.init_from) or 'init_from is empty'
    lines.append(f'weights: {weights}')
  if has_model:
    lines += _models(config, facts)
  return lines


def _changed(config) -> list[str]:
  lines = []
  for name, value in config_lib.flatten(config).items():
    if value != config_lib.KEYS[name].default:
      text = config_lib.as_text(value, name) or 'empty'
      # One point of a study per line.
      text = text.replace('; ', ';\n' + 32 * ' ')
      lines.append(f'  {name:<28}  {text}')
  return lines


def _training(config, facts) -> list[str]:
  c = config.optim
  num_examples = facts.num_examples if facts else 0
  size = f'{num_examples:,} examples' if facts else 'of unknown size'
  split = f'training split: {config.data.train} of {config.data.name}, {size}'
  if not facts and not config.total_steps:
    epochs = f'epochs: {config.total_epochs:g}'
    return [split, f'{epochs}; steps: known once the data is opened']
  steps = config_lib.total_steps(config, num_examples)
  length = f'{steps:,} of {config.batch_size:,} examples'
  if facts:
    length += f', {steps * config.batch_size / num_examples:.3g} epochs'
  return [
    split,
    f'steps: {length}',
    f'optimizer: {c.name}, learning rate {c.lr:g} after'
    f' {config_lib.warmup_steps(config, steps):,} steps of warm-up,'
    f' {c.schedule} decay, weight decay {c.weight_decay:g}',
  ]


def _models(config, facts) -> list[str]:
  models = config.plan.models if config.job == 'plan' else ()
  models = models or config.inference.models or (config.model.name,)
  height, width = config_lib.image_size(config)
  if not (all(models) and height):
    return ['model: determined by the checkpoint']
  has_head = facts and config.job != 'masked_patch'
  num_classes = facts.num_classes if has_head else 0
  label = 'base model of the points' if config.study.points else 'model'
  lines = []
  for name in models:
    config = config.copy_and_resolve_references()
    config.model.name = name
    parameters, operations = _count(config, num_classes)
    lines.append(
      f'{label}: {name}, {parameters:,} parameters'
      + ('' if num_classes else ' without a head')
      + f', {operations / 1e9:.3f} GFLOPs per image of {height}x{width} px'
    )
  return lines


def _count(config, num_classes: int) -> tuple[int, int]:
  """Returns the parameter count and the forward-pass FLOPs per image."""
  model = create_model(config, num_classes)
  if hasattr(model, 'scan'):
    # Traces only one block, without querying the devices.
    model = model.clone(scan=True, platform='tpu')
  parameters = 0

  def forward(key, image):
    nonlocal parameters
    outputs, variables = model.init_with_output(key, image)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables))
    return outputs

  # Abstract, since a concrete key would initialize the devices.
  key = jax.eval_shape(lambda: jax.random.key(0))
  size = config_lib.image_size(config)
  image = jax.ShapeDtypeStruct((1, *size, model.channels), jnp.float32)
  operations = flops.count(forward, key, image)
  return parameters, operations
