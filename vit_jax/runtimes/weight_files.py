"""Weight files, as `checkpoints.export` writes them."""

from etils import epath

from vit_jax import checkpoints
from vit_jax.runtimes.network import Network


def write_official(network: Network, path: epath.Path) -> None:
  """Writes an .npz file; config.json beside it has the settings."""
  checkpoints.export(network.params, path)


def write_big_vision(network: Network, path: epath.Path) -> None:
  """Writes an .npz file without class names and preprocessing.

  Raises:
    ValueError: if the format cannot hold the model.
  """
  lost = ('class_names', 'evaluation')
  write(network, path, format='big_vision', drop=lost)


def write(
  network: Network, path: epath.Path, *, format: str, drop: tuple[str, ...] = ()
) -> None:
  """Writes weights with all settings of the model.

  Raises:
    ImportError: if the library for the format is not installed.
    ValueError: if the format cannot hold the model.
  """
  checkpoints.export(
    network.params, path, format=format, drop=drop, **network.settings
  )
