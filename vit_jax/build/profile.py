"""The steps of a config to profile."""

import ml_collections


def profiled_steps(config: ml_collections.ConfigDict) -> tuple[int, int] | None:
  """First and last step of `profile_steps`, or None.

  Raises:
    ValueError: if it is not FIRST:LAST.
  """
  if not config.profile_steps:
    return None
  first, colon, last = config.profile_steps.partition(':')
  if not (colon and first.isdigit() and last.isdigit()):
    raise ValueError(
      f'profile_steps={config.profile_steps!r} is not FIRST:LAST, such as'
      ' 10:15.'
    )
  return int(first), int(last)
