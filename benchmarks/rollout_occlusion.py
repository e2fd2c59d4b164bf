"""Tests whether a model depends on the patches that rollout highlights.

  python benchmarks/rollout_occlusion.py RUN

RUN is the work directory of a ViT. In every image of its test split, a quarter
of the patches is painted grey: those with the largest rollout weights, those
with the smallest, random ones, and those with the largest rollout weights of a
randomly initialized network of the same shape. Prints the accuracy in each
case, and the correlation over patches between rollouts of the trained and of
the random network.

Expected: patches that the class token attends to matter most, so accuracy drops
most when those with the largest rollout weights are hidden.
"""

import argparse

import jax
import numpy as np

from vit_jax import build, models
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.data import pipeline
from vit_jax.inspection import attention_maps

SHARE = 0.25
BATCH_SIZE = 60


def hide(images, weights):
  """Paints the patches with the largest weights grey."""
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
  """Returns Pearson's correlation over the patches of each image."""
  a, b = (x.reshape(len(x), -1) for x in (a, b))
  a, b = ((x - x.mean(1, keepdims=True)) / x.std(1)[:, None] for x in (a, b))
  return (a * b).mean(1)


def main() -> None:
  """Prints one line per choice of patches."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('run')
  of_run, weights = config_lib.load_run(parser.parse_args().run)
  config = config_lib.base(job='evaluate', init_from=weights)
  config.update_from_flattened_dict(
    {k: v for k, v in of_run.items() if k.startswith('data.')}
  )
  config.model.name = ''
  trained = pretrained.load_classifier(config)
  model = trained.model
  (split,) = config_lib.eval_splits(config).values()
  source = build.open_split(config, config.data.name, split)
  predict = jax.jit(
    lambda x: model.apply({'params': trained.params}, x)[0].argmax(-1)
  )
  size = config_lib.image_size(trained.config)
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
  correct, correlation = {}, []
  for batch in pipeline.eval_batches(
    source, build.eval_transform(trained.config), batch_size=BATCH_SIZE
  ):
    images, is_real = batch['image'], batch['mask'] > 0
    rollouts, random_rollouts = (
      np.asarray(attention_maps.summarize(m, p, images)['rollouts'])
      for m, p in ((model, trained.params), (untrained, random_params))
    )
    variants = {
      'nothing hidden': images,
      'largest rollout': hide(images, rollouts),
      'smallest rollout': hide(images, -rollouts),
      'random patches': hide(images, rng.random(rollouts.shape)),
      'largest rollout of random weights': hide(images, random_rollouts),
    }
    for name, inputs in variants.items():
      hits = np.asarray(predict(inputs)) == batch['label']
      correct.setdefault(name, []).append(hits[is_real])
    correlation.append(correlations(rollouts, random_rollouts)[is_real])
  print(f'{source.num_examples} images, {SHARE:.0%} of the patches hidden')
  for name, hits in correct.items():
    print(f'{name:34} {np.concatenate(hits).mean():.4f}')
  mean = np.concatenate(correlation).mean()
  print(f'correlation with random weights    {mean:.3f}')


if __name__ == '__main__':
  main()
