"""The argument of configs that use a trained model: its weights, and data.

MODEL,DATASET   a model, whose weights are those of init_from
RUN             the weights of a run, and its own data
RUN,DATASET     the weights of a run, and other data
"""

import dataclasses
from typing import Any

import ml_collections

from vit_jax.checkpoints import location, run_folder
from vit_jax.config import values as values_lib
from vit_jax.config.keys import KEYS
from vit_jax.models import variants

# Where datasets are stored.
_STORAGE = ('data.dir', 'data.manual_dir', 'data.download')


@dataclasses.dataclass(frozen=True)
class Subject:
  """The argument of a config in parts.

  Attributes:
    model: name of the model; empty for a run, or if the weights determine it.
    weights: value of `init_from` for a run; empty for a model.
    run: all keys of the run by their dotted names; empty for a model.
    dataset: the given dataset; None: that of the run.
  """

  model: str = ''
  weights: str = ''
  run: dict[str, Any] = dataclasses.field(default_factory=dict)
  dataset: str | None = None

  def apply(self, config: ml_collections.ConfigDict) -> None:
    """Sets the model, its weights, and the data of a run that are used.

    If a dataset is given, the config only inherits where datasets are stored.
    """
    config.model.name, config.init_from = self.model, self.weights
    is_own = self.dataset is None
    config.update_from_flattened_dict(
      {
        name: value
        for name, value in self.run.items()
        if name in _STORAGE or (is_own and name.startswith('data.'))
      }
    )


def parse_subject(argument: str) -> Subject:
  """Reads 'MODEL,DATASET', 'RUN' or 'RUN,DATASET'.

  MODEL is the name of a model, empty if the weights determine it, and RUN the
  path of a run; 'ViT-B/16,...' is a model even if there is a folder ./ViT-B/16.

  Raises:
    ValueError: if it is neither a model nor an existing run.
  """
  name, comma, dataset = argument.partition(',')
  if comma:
    try:
      if name:
        variants.parse(name)
    except ValueError as error:
      if not _existing_part(argument):
        raise ValueError(
          f'{name!r} is neither a run (no such file or folder) nor a model:'
          f' {error}'
        ) from error
    else:
      return Subject(model=name, dataset=dataset)
  path = _existing_part(argument) or argument
  run, weights = load_run(path)
  rest = argument.removeprefix(path)
  return Subject(weights=weights, run=run, dataset=rest[1:] if rest else None)


def _existing_part(argument: str) -> str:
  """Returns the longest path that exists, which may contain commas, or ''."""
  while argument and not location.expand(argument).exists():
    argument = argument.rpartition(',')[0]
  return argument


def load_run(path: str) -> tuple[dict[str, Any], str]:
  """Reads the config of a run, to work with its weights.

  Args:
    path: the workdir of the run, or a weight file in it.

  Returns:
    All keys by their dotted names, without those that no longer exist, and the
    value of `init_from`: the given file, or the final weights.

  Raises:
    ValueError: if there is no run.
  """
  given = location.expand(path)
  folder = given if given.is_dir() else given.parent
  flat = run_folder.read_json(folder / run_folder.CONFIG)
  if flat is None:
    problem = f'{folder} has no config.json'
    if not given.exists():
      problem = 'no such file or folder'
    raise ValueError(
      f'{path!r} is neither MODEL,DATASET nor a run: {problem}. Check the path,'
      ' or write MODEL,DATASET, such as ViT-B/16,cifar10.'
    )
  flat = values_lib.from_json(flat, folder / run_folder.CONFIG)
  weights = run_folder.final_weights(given)
  return {k: v for k, v in flat.items() if k in KEYS}, str(weights)
