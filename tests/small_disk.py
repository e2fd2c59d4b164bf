"""A small file system that fills up."""

import contextlib
import subprocess

import pytest


@contextlib.contextmanager
def mounted(folder, mebibytes):
  """Yields a new folder with a tmpfs; skips the test if none can be mounted."""
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', f'size={mebibytes}m', 'tmpfs']
  try:
    subprocess.run([*mount, str(folder)], check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('needs the right to mount a tmpfs')
  try:
    yield folder
  finally:
    subprocess.run(['umount', '--lazy', str(folder)], check=True)
