"""How a run was started, and with which versions.

Its devices stand in `results.json`; here none is touched, since another process
may be using them.
"""

from importlib import metadata
import platform
import shlex
import sys
from typing import Any

_PACKAGES = (
  'vit_jax',
  'jax',
  'jaxlib',
  'libtpu',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
  'tensorflow-cpu',
  'tensorflow',
  'tensorflow-datasets',
)


def describe() -> dict[str, Any]:
  """Of this process: `command`, `versions` and `platform`."""
  return {
    'command': shlex.join(_command()),
    'versions': {'python': platform.python_version()} | _versions(),
    'platform': platform.platform(),
  }


def _command() -> list[str]:
  """As it was typed, but for the path of the interpreter."""
  name, *arguments = sys.orig_argv
  return ['python' if 'python' in name else name, *arguments]


def _versions() -> dict[str, str]:
  found = {}
  for package in _PACKAGES:
    try:
      found[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      continue
  return found
