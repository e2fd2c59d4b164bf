"""What is known of a config key."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Key:
  """A key's default, meaning (with unit) and bounds.

  `on_resume` says that a run may go on after the key was changed; `derived`
  that the run sets the key itself where the config does not.
  """

  default: Any
  meaning: str
  low: float | None = None
  high: float | None = None
  choices: tuple[str, ...] = ()
  on_resume: bool = False
  derived: bool = False
