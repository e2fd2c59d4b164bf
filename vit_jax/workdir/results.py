"""The final numbers of a run: `results.json`."""

from typing import Any

import jax


def device_use(seconds: float) -> dict[str, Any]:
  """Device kind and count, and what `seconds` of them cost in core-days."""
  count = jax.device_count()
  return {
    'device_kind': jax.devices()[0].device_kind,
    'device_count': count,
    'core_days': seconds * count / 86400,
  }
