"""The device mesh of a config."""

from collections.abc import Sequence

import jax
import ml_collections

from vit_jax.distributed import mesh as mesh_lib


def create_mesh(
  config: ml_collections.ConfigDict,
  devices: Sequence[jax.Device] | None = None,
) -> jax.sharding.Mesh:
  """The mesh that the config asks for, of all devices unless given some.

  Raises:
    ValueError: if it does not fit them.
  """
  c = config.mesh
  return mesh_lib.create(c.data, c.fsdp, c.tensor, devices)
