"""Supervised pre-training (section 4.1, Appendix B.1, Table 3)."""

from etils import epath
import ml_collections

from vit_jax.jobs import supervised


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains a model from its random initialisation."""
  supervised.train(config, workdir)
