"""How a run was started, and with which package versions.

The devices of a run are in `results.json`. They are not queried here: some jobs
use none, and another process may hold them.
"""

import contextlib
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
  # The command as typed, without the path of the interpreter.
  name, *arguments = sys.orig_argv
  command = ['python' if 'python' in name else name, *arguments]
  versions = {'python': platform.python_version()}
  for package in _PACKAGES:
    with contextlib.suppress(metadata.PackageNotFoundError):
      versions[package] = metadata.version(package)
  return {
    'command': shlex.join(command),
    'versions': versions,
    'platform': platform.platform(),
  }
