"""Supervised pre-training (section 4.1, Appendix B.1, Table 3)."""

from etils import epath
import ml_collections

from vit_jax.jobs import classification


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains a model from its random initialisation.

  Raises:
    ValueError: if the config names a checkpoint to start from, or does not fit
      the data.
  """
  if config.init_from:
    raise ValueError(
      f'init_from={config.init_from!r}: pre-training starts from random'
      " weights; leave it empty, or choose job='finetune'."
    )
  classification.train(config, workdir)
