"""Fine-tuning of a checkpoint (section 3.2, Appendix B.1.1, Table 4)."""

from etils import epath
import ml_collections

from vit_jax.jobs import classification


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Trains a model that starts from the weights of `init_from`.

  Raises:
    ValueError: if the config names no checkpoint, or does not fit it or the
      data.
  """
  check(config)
  classification.train(config, workdir)


def check(config: ml_collections.ConfigDict) -> None:
  """Refuses a config without a checkpoint.

  Raises:
    ValueError: saying so.
  """
  if not config.init_from:
    raise ValueError(
      'fine-tuning needs a checkpoint to start from: set init_from to its path'
      " (npz, safetensors, or the folder of a run), or choose job='pretrain' to"
      ' train from scratch.'
    )
