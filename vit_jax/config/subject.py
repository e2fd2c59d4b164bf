"""The argument of configs that use a trained model: its weights, and data.

MODEL,DATASET   a model, whose weights are those of init_from
RUN             the weights of a run, and its own data
RUN,DATASET     the weights of a run, and other data
"""

import dataclasses
from typing import Any

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

  @property
  def storage_keys(self) -> dict[str, Any]:
    """The keys that say where the run's datasets are stored."""
    return {name: self.run[name] for name in _STORAGE if name in self.run}

  @property
  def data_keys(self) -> dict[str, Any]:
    """The keys for reading the run's own data, or else `storage_keys`."""
    if self.dataset is not None:
      return self.storage_keys
    return {k: v for k, v in self.run.items() if k.startswith('data.')}


def parse_subject(argument: str) -> Subject:
  """Reads 'MODEL,DATASET', 'RUN' or 'RUN,DATASET'.

  MODEL is the name of a model, empty if the weights determine it, and RUN the
  path of a run; 'ViT-B/16,...' is a model even if there is a folder ./ViT-B/16.

  Raises:
    ValueError: if it is neither a model nor an existing run.
  """
  name, comma, dataset = argument.partition(',')
  no_model = None
  if comma:
    try:
      if name:
        variants.parse(name)
      return Subject(model=name, dataset=dataset)
    except ValueError as error:
      no_model = error
  path = argument  # The longest that exists, since it may contain commas.
  while ',' in path and not location.expand(path).exists():
    path = path.rpartition(',')[0]
  if no_model and not location.expand(path).exists():
    raise ValueError(
      f'{name!r} is neither a run (no such file or folder) nor a model:'
      f' {no_model}'
    ) from no_model
  run, weights = load_run(path)
  rest = argument.removeprefix(path)
  return Subject(weights=weights, run=run, dataset=rest[1:] if rest else None)


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
