"""Whether what attention rollout shows is what a model decides by.

  python benchmarks/rollout_occlusion.py RUN

RUN is the workdir of a run of a ViT. On all images of its test split, a quarter
of the patches is painted grey: those with the largest rollout weights, those
with the smallest, random ones, and those with the largest weights by a network
of the same shape with random weights. Prints the accuracy on each, and how
rollouts of trained and of random weights are correlated over the patches of an
image.

Expected: patches that the class token gathers from matter most, so that
accuracy falls furthest without the first.
"""

import argparse

import jax
import numpy as np

from vit_jax import build, models
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.data import pipeline
from vit_jax.inspection import attention_summary

SHARE = 0.25
BATCH_SIZE = 60


def hide(images, weights):
  """Images whose patches with the largest weights are grey."""
  b, rows, columns = weights.shape
  flat = weights.reshape(b, -1)
  hidden = np.argsort(-flat, axis=1)[:, : round(SHARE * flat.shape[1])]
  visible = np.ones_like(flat)
  np.put_along_axis(visible, hidden, 0, axis=1)
  visible = visible.reshape(b, rows, columns)
  height, width = images.shape[1:3]
  visible = visible.repeat(height // rows, 1).repeat(width // columns, 2)
  return images * visible[..., None]


def correlations(a, b):
  """Pearson's, of the patches of each image."""
  a, b = (x.reshape(len(x), -1) for x in (a, b))
  a, b = ((x - x.mean(1, keepdims=True)) / x.std(1)[:, None] for x in (a, b))
  return (a * b).mean(1)


def main() -> None:
  """Prints a line for each way to choose patches."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('run')
  of_run, weights = config_lib.load_run(parser.parse_args().run)
  config = config_lib.base(job='evaluate', init_from=weights)
  config.update_from_flattened_dict(
    {k: v for k, v in of_run.items() if k.startswith('data.')}
  )
  config.model.name = ''
  found = pretrained.load_classifier(config)
  model = found.model
  (split,) = config_lib.eval_splits(config).values()
  source = build.open_split(config, config.data.name, split)
  predict = jax.jit(
    lambda x: model.apply({'params': found.params}, x)[0].argmax(-1)
  )
  size = config_lib.image_size(found.config)
  image = np.zeros((1, *size, 3), np.float32)
  untrained = models.create(
    'ViT-B/16',
    num_classes=0,
    **{
      name: getattr(model, name)
      for name in ('depth', 'width', 'mlp_dim', 'heads', 'patch_size', 'pool')
    },
  )
  random_params = untrained.init(jax.random.key(0), image)['params']
  rng = np.random.default_rng(0)
  right, alike = {}, []
  for batch in pipeline.eval_batches(
    source, build.eval_transform(found.config), batch_size=BATCH_SIZE
  ):
    images, real = batch['image'], batch['mask'] > 0
    rolled, other = (
      np.asarray(attention_summary.summarise(m, p, images)['rollouts'])
      for m, p in ((model, found.params), (untrained, random_params))
    )
    ways = {
      'nothing': images,
      'largest rollout': hide(images, rolled),
      'smallest rollout': hide(images, -rolled),
      'random patches': hide(images, rng.random(rolled.shape)),
      'largest rollout of random weights': hide(images, other),
    }
    for name, seen in ways.items():
      hits = np.asarray(predict(seen)) == batch['label']
      right.setdefault(name, []).append(hits[real])
    alike.append(correlations(rolled, other)[real])
  print(f'{source.num_examples} images, {SHARE:.0%} of the patches hidden')
  for name, hits in right.items():
    print(f'{name:34} {np.concatenate(hits).mean():.4f}')
  print(
    f'correlation with random weights    {np.concatenate(alike).mean():.3f}'
  )


if __name__ == '__main__':
  main()
