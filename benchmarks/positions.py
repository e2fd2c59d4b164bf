"""Trains the models of Table 8 on CIFAR-10, on one accelerator.

  python benchmarks/positions.py cifar10.tar.xz --epochs=2,10

The points and settings are those of configs/ablation.py:positions on an image
folder. All images are in memory, and crops and flips are drawn in JAX, so
TensorFlow is not needed; seeds train side by side. Prints a line for each kind
of position embedding and length: test accuracies, their mean and their standard
deviation. The archive holds {train,test}/CLASS/*.jpg.
"""

import argparse
import functools
import importlib.util
import io
import pathlib
import statistics
import tarfile
import time

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.training import optim, steps
from vit_jax.training import state as state_lib

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / 'configs'


def read(archive: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
  """Returns uint8 images (n, 32, 32, 3) and labels of each split."""
  found = {'train': [], 'test': []}
  with tarfile.open(archive) as tar:
    for member in tar:
      if member.name.endswith('.jpg'):
        split, label = member.name.split('/')[-3:-1]
        found[split].append((label, tar.extractfile(member).read()))
  classes = sorted({label for label, _ in found['train']})
  return {
    split: (
      np.stack([np.asarray(Image.open(io.BytesIO(raw))) for _, raw in items]),
      np.array([classes.index(label) for label, _ in items], np.int32),
    )
    for split, items in found.items()
  }


def augment(image, key, area):
  """Returns a random crop of an image, resized and mirrored at random.

  The crop has a share in [area, 1] of the image and an aspect ratio in [3/4,
  4/3], as in the input pipeline.
  """
  size = image.shape[0]
  keys = jax.random.split(key, 5)
  share = jax.random.uniform(keys[0], minval=area)
  ratio = jnp.exp(
    jax.random.uniform(keys[1], minval=-1, maxval=1) * np.log(4 / 3)
  )
  extent = jnp.minimum(
    size * jnp.sqrt(share * jnp.stack([1 / ratio, ratio])), size
  )
  begin = jax.random.uniform(keys[2], (2,)) * (size - extent)
  scale = size / extent
  crop = jax.image.scale_and_translate(
    image / 127.5 - 1,
    image.shape,
    (0, 1),
    scale,
    -begin * scale,
    'bilinear',
    antialias=False,
  )
  return jnp.where(jax.random.bernoulli(keys[3]), crop[:, ::-1], crop)


def accuracies(config, data, epochs, num_seeds):
  """Trains a point with several seeds; returns their test accuracies."""
  images, labels = (jnp.asarray(x) for x in data['train'])
  batch_size = config.batch_size
  per_epoch = len(images) // batch_size
  total_steps = per_epoch * epochs
  model = build.create_model(config, num_classes=10)
  learning_rate = optim.schedule(
    config.optim.schedule,
    lr=config.optim.lr,
    total_steps=total_steps,
    warmup_steps=config_lib.warmup_steps(config, total_steps),
  )
  update = optim.create(
    config.optim.name,
    learning_rate,
    weight_decay=config.optim.weight_decay,
    clip_norm=config.optim.clip_norm,
  )
  objective = steps.classification(model, num_classes=10, loss=config.loss)
  train_step = steps.make_train_step(objective, update, learning_rate)

  def init(seed):
    size = images.shape[1:3]
    params = build.initial_params(model, size, seed)
    return state_lib.create(params, update, average=False)

  def step(state, seed, order):
    index = lax.dynamic_slice_in_dim(
      order, state.step % per_epoch * batch_size, batch_size
    )
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    crop = functools.partial(augment, area=config.data.crop_area)
    batch = {
      'image': jax.vmap(crop)(images[index], jax.random.split(key, batch_size)),
      'label': labels[index],
      'mask': jnp.ones(batch_size),
    }
    return train_step(state, batch, seed)

  @functools.partial(jax.jit, donate_argnums=0)
  def train_epoch(states, seeds, orders):
    def advance(states, _):
      states, metrics = jax.vmap(step)(states, seeds, orders)
      total, count = metrics['loss']
      return states, total / count

    states, losses = lax.scan(advance, states, length=per_epoch)
    return states, losses.mean(0)

  @jax.jit
  def correct(params, images, labels):
    def logits(params):
      inputs = images / 127.5 - 1
      return model.apply({'params': params}, inputs, train=False)[0]

    return jnp.sum(jax.vmap(logits)(params).argmax(-1) == labels, axis=1)

  seeds = jnp.arange(num_seeds, dtype=jnp.uint32)
  states = jax.jit(jax.vmap(init))(seeds)
  for epoch in range(epochs):
    orders = np.stack(
      [
        np.random.default_rng((seed, epoch)).permutation(len(images))
        for seed in range(num_seeds)
      ]
    )
    states, losses = train_epoch(states, seeds, jnp.asarray(orders))
  test_images, test_labels = data['test']
  hits = sum(
    correct(states.params, test_images[i : i + 1000], test_labels[i : i + 1000])
    for i in range(0, len(test_labels), 1000)
  )
  print('  training loss', np.round(losses, 3))
  return [int(hit) / len(test_labels) for hit in hits]


def main():
  """Prints a line for each kind and length."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('archive')
  parser.add_argument('--epochs', default='2,10')
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--images', type=int, default=50_000)
  parser.add_argument('--kinds', default='', help='names of points; all')
  flags = parser.parse_args()
  data = read(flags.archive)
  rows = np.random.default_rng(0).permutation(len(data['train'][1]))
  data['train'] = tuple(x[rows[: flags.images]] for x in data['train'])
  path = CONFIGS / 'ablation.py'
  spec = importlib.util.spec_from_file_location('ablation', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  study = module.get_config('positions,folder:CIFAR10')
  print(jax.devices()[0].device_kind, jax.__version__)
  for epochs in map(int, flags.epochs.split(',')):
    for name, keys in study.study.points.items():
      if flags.kinds and name not in flags.kinds.split(','):
        continue
      config = study.copy_and_resolve_references()
      keys = {key: value for key, value in keys.items() if key != 'family'}
      config_lib.set_keys(config, keys)
      begin = time.perf_counter()
      values = accuracies(config, data, epochs, flags.seeds)
      std = statistics.stdev(values) if len(values) > 1 else 0.0
      print(
        f'{epochs} epochs, {name}:',
        ' '.join(f'{100 * value:.2f}' for value in values),
        f' mean {100 * statistics.fmean(values):.2f}, std {100 * std:.2f},'
        f' {time.perf_counter() - begin:.0f} s',
        flush=True,
      )


if __name__ == '__main__':
  main()
