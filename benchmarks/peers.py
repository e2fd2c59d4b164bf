"""The same networks in PyTorch, by Hugging Face and timm, where they import."""

from collections.abc import Callable
import contextlib
import importlib.util

import numpy as np

from vit_jax.models import variants

NUM_CLASSES = 1000
LR, MOMENTUM = 0.01, 0.9

KINDS = ('hf', 'timm')


def installed() -> list[str]:
  """KINDS, eager and compiled, that can be imported here."""
  if importlib.util.find_spec('torch') is None:
    return []
  found = []
  if importlib.util.find_spec('transformers'):
    found += ['hf', 'hf-compiled']
  # timm needs torchvision, which is not there for every build of PyTorch.
  with contextlib.suppress(ImportError, RuntimeError):
    import timm  # noqa: F401

    found += ['timm', 'timm-compiled']
  return found


def create(kind: str, name: str, image_size: int):
  """A model of the size that `name`, such as ViT-S/16, has here."""
  variant = variants.parse(name)
  size, patch = variant.encoder, variant.patch_size
  if kind == 'hf':
    import transformers

    config = transformers.ViTConfig(
      hidden_size=size.width,
      num_hidden_layers=size.depth,
      num_attention_heads=size.heads,
      intermediate_size=size.mlp_dim,
      image_size=image_size,
      patch_size=patch,
      num_labels=NUM_CLASSES,
      hidden_dropout_prob=0.0,
      attention_probs_dropout_prob=0.0,
    )
    model = transformers.ViTForImageClassification(config)
    return model, lambda images: model(images).logits
  from timm.models import vision_transformer

  model = vision_transformer.VisionTransformer(
    img_size=image_size,
    patch_size=patch,
    embed_dim=size.width,
    depth=size.depth,
    num_heads=size.heads,
    mlp_ratio=size.mlp_dim / size.width,
    num_classes=NUM_CLASSES,
  )
  return model, model


def on_device(device: str) -> tuple[str, Callable[[], None]]:
  """PyTorch's name of a device of jax's, and what waits for its work."""
  import torch

  if device == 'cpu':
    return 'cpu', lambda: None
  return 'cuda', torch.cuda.synchronize


def step(
  peer: str,
  name: str,
  *,
  image_size: int,
  batch_size: int,
  dtype: str,
  device: str,
  train: bool,
) -> Callable[[], None]:
  """One forward pass, or one training step with momentum, and waiting for it.

  Args:
    peer: of `installed`.
    name: of the model.
    image_size: side in px.
    batch_size: images.
    dtype: float32, or bfloat16 by autocast.
    device: 'cpu' or 'gpu'.
    train: whether to train.
  """
  import torch

  kind, _, compiled = peer.partition('-')
  place, wait = on_device(device)
  rng = np.random.default_rng(0)
  images = rng.uniform(-1, 1, (batch_size, 3, image_size, image_size))
  images = torch.tensor(images, dtype=torch.float32, device=place)
  labels = torch.tensor(rng.integers(0, NUM_CLASSES, batch_size), device=place)
  model, logits = create(kind, name, image_size)
  model.to(place).train(train)
  cast = torch.autocast(
    place, dtype=torch.bfloat16, enabled=dtype == 'bfloat16'
  )

  def loss():
    return torch.nn.functional.cross_entropy(logits(images), labels)

  work = loss if train else lambda: logits(images)
  if compiled:
    work = torch.compile(work)
  if not train:

    def forward():
      with torch.inference_mode(), cast:
        work()
      wait()

    return forward
  optimizer = torch.optim.SGD(
    model.parameters(), lr=LR, momentum=MOMENTUM, fused=True
  )

  def train_step():
    with cast:
      value = work()
    value.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    wait()

  return train_step
