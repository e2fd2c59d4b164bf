"""The same models in PyTorch, from Hugging Face and timm if installed."""

from collections.abc import Callable
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import sys

import numpy as np

from vit_jax.models import variants

NUM_CLASSES = 1000
LR, MOMENTUM = 0.01, 0.9

KINDS = ('hf', 'timm')


def installed() -> list[str]:
  """Lists the KINDS that can be imported, eager and compiled."""
  if importlib.util.find_spec('torch') is None:
    return []
  names = []
  if importlib.util.find_spec('transformers'):
    names += ['hf', 'hf-compiled']
  if importlib.util.find_spec('timm'):
    names += ['timm', 'timm-compiled']
  return names


class _Stub(type):
  """A class whose attributes are all classes of this kind."""

  def __getattr__(cls, name: str):
    if name.startswith('__'):
      raise AttributeError(name)
    return _Stub(name, (), {})


class _StubFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Imports a package as modules of stubs, within a `with` statement."""

  def __init__(self, package: str):
    self._package = package

  def __enter__(self):
    sys.meta_path.insert(0, self)

  def __exit__(self, *error):
    sys.meta_path.remove(self)
    for name in filter(self._is_in_package, list(sys.modules)):
      del sys.modules[name]

  def _is_in_package(self, name):
    return name.split('.')[0] == self._package

  def find_spec(self, name, path=None, target=None):
    """Finds the package and anything below it."""
    if self._is_in_package(name):
      return importlib.machinery.ModuleSpec(name, self, is_package=True)
    return None

  def create_module(self, spec):
    """Creates an ordinary module."""

  def exec_module(self, module):
    """Gives the module any attribute."""
    module.__getattr__ = functools.partial(_Stub.__getattr__, _Stub)


def _import_timm():
  """Imports timm's ViT.

  timm imports torchvision, of which its ViT uses nothing and which is not
  available for every build of PyTorch; a stub then stands in for it during the
  import.
  """
  try:
    import torchvision  # noqa: F401
  except (ImportError, RuntimeError):
    with _StubFinder('torchvision'):
      importlib.import_module('timm')
  from timm.models import vision_transformer

  return vision_transformer


def create(kind: str, name: str, image_size: int):
  """Creates the PyTorch model of the same size as `name`, such as ViT-S/16.

  Returns:
    The module, and a function from images to logits.
  """
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
  model = _import_timm().VisionTransformer(
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
  """Returns PyTorch's name for a jax device, and its synchronize function."""
  import torch

  if device == 'cpu':
    return 'cpu', lambda: None
  return 'cuda', torch.cuda.synchronize


def peak_bytes() -> int:
  """Returns the peak of the memory that PyTorch took from a GPU."""
  import torch

  return torch.cuda.max_memory_allocated()


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
  """Returns a function that runs one forward pass or one step with momentum.

  The function returns when the work is done.

  Args:
    peer: one of `installed()`.
    name: model name, such as 'ViT-S/16'.
    image_size: side in px.
    batch_size: images per call.
    dtype: 'float32', or 'bfloat16' with autocast.
    device: 'cpu' or 'gpu'.
    train: whether to take a training step.
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
