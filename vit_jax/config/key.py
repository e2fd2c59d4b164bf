"""Description of a config key."""

import dataclasses
import math
from typing import Any

import numpy as np

# The numbers of a run are int32 and float32 on its devices.
_LARGEST = {int: 2**31 - 1, float: float(np.finfo(np.float32).max)}


@dataclasses.dataclass(frozen=True)
class Key:
  """A config key.

  Attributes:
    default: value in configs that do not set the key. Its type is the type of
      the key; integers are accepted for floats.
    meaning: meaning of the value, with its unit.
    low: smallest valid number, also for the items of a tuple.
    high: largest valid number, also for the items of a tuple.
    choices: valid values, where possible the dict of alternatives itself; empty
      if there are other valid values.
    items: type of the items of a tuple.
    form: for keys with a form of their own, a key of `values.FORMS`.
    unset: for model options, the value that leaves the choice to the model's
      name or to the checkpoint; it is not passed to the model.
    derived: whether the run sets the key itself if the config does not.
  """

  default: Any
  meaning: str
  low: float = -math.inf
  high: float = math.inf
  choices: Any = ()
  items: type = str
  form: str = ''
  unset: Any = None
  derived: bool = False

  @property
  def type(self) -> type:
    """The type of its values."""
    return type(self.default)

  @property
  def range(self) -> tuple[float, float]:
    """The smallest and the largest valid number."""
    largest = _LARGEST[self.items if self.type is tuple else self.type]
    return max(self.low, -largest), min(self.high, largest)


@dataclasses.dataclass(frozen=True)
class Adjustable(Key):
  """A config key that may change when a run resumes."""


@dataclasses.dataclass(frozen=True)
class Reporting(Key):
  """A config key that changes only what a training run measures.

  It may change until the run has finished.
  """
