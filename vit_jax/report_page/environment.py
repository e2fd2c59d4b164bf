"""What a run ran on: command, versions, devices."""

from importlib import metadata
import platform
import shlex
import sys
from typing import Any

import jax

FILE = 'environment.json'
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
  """Of this process: `command`, `versions`, `platform` and `devices`."""
  return {
    'command': shlex.join(_command()),
    'versions': {'python': platform.python_version()} | _versions(),
    'platform': platform.platform(),
    'devices': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
  }


def _command() -> list[str]:
  """As it was typed: `python -m` leaves the path of the module's file."""
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
