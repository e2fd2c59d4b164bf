"""How a run was started, and with which versions of which packages.

The devices of a run are in `results.json`. They are not queried here: some jobs
use none, and another process may hold them.
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
  """Returns `command`, `versions` and `platform` of this process."""
  return {
    'command': shlex.join(_command()),
    'versions': {'python': platform.python_version()} | _versions(),
    'platform': platform.platform(),
  }


def _command() -> list[str]:
  """Returns the command as typed, without the path of the interpreter."""
  name, *arguments = sys.orig_argv
  return ['python' if 'python' in name else name, *arguments]


def _versions() -> dict[str, str]:
  versions = {}
  for package in _PACKAGES:
    try:
      versions[package] = metadata.version(package)
    except metadata.PackageNotFoundError:
      continue
  return versions
