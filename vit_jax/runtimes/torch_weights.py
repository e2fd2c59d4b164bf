"""Exported weights in the PyTorch libraries that they are for."""

import functools
import os

from etils import epath
import numpy as np

from vit_jax.runtimes.network import Network, Runner

# Pooling in timm, and whether a norm follows.
_POOLS = {
  'token': ('token', False),
  'gap': ('avg', False),
  'gap_norm': ('avg', True),
  'map': ('map', False),
}
_GELUS = {'tanh': 'gelu_tanh', 'erf': 'gelu'}


def load_timm(network: Network, path: epath.Path) -> tuple[Runner, str]:
  """Returns timm's VisionTransformer with the weights of a file.

  Raises:
    ImportError: if timm or safetensors is not installed.
  """
  import timm  # isort: split
  from safetensors.torch import load
  import torch

  model = network.model
  pool, has_norm = _POOLS[model.pool]
  theirs = timm.models.vision_transformer.VisionTransformer(
    img_size=network.image_size,
    patch_size=model.patch_size,
    in_chans=model.channels,
    num_classes=model.num_classes,
    embed_dim=model.width,
    depth=model.depth,
    num_heads=model.heads,
    mlp_ratio=model.mlp_dim / model.width,
    global_pool=pool,
    class_token=model.prefix.class_token,
    reg_tokens=model.registers,
    no_embed_class=model.registers > 0,
    fc_norm=has_norm,
    act_layer=_GELUS[model.gelu],
    norm_layer=functools.partial(torch.nn.LayerNorm, eps=model.norm_eps),
  )
  theirs.load_state_dict(load(path.read_bytes()), strict=True)
  return _runner(theirs), f'timm {timm.__version__}'


def load_transformers(network: Network, path: epath.Path) -> tuple[Runner, str]:
  """Returns the model of transformers in a folder.

  Raises:
    ImportError: if transformers or PyTorch is not installed.
  """
  import torch  # noqa: F401
  import transformers

  folder = os.fspath(path)
  if network.model.num_classes:
    theirs = transformers.AutoModelForImageClassification.from_pretrained(
      folder
    )
    runner = _runner(theirs, lambda outputs: outputs.logits)
  else:  # The class token.
    theirs = transformers.AutoModel.from_pretrained(folder)
    runner = _runner(theirs, lambda outputs: outputs.last_hidden_state[:, 0])
  return runner, f'transformers {transformers.__version__}'


def _runner(model, select=lambda outputs: outputs):
  import torch

  model = model.eval()

  def run(images):
    batch = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    with torch.no_grad():
      return select(model(batch)).numpy()

  return run
