"""Agreement with the official code, on numbers it computed."""

import json
import pathlib

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import checkpoints, models

GOLDENS = pathlib.Path(__file__).resolve().parents[3] / 'shared' / 'goldens'
pytestmark = pytest.mark.skipif(
  not GOLDENS.exists(), reason='The golden numbers are missing.'
)


@pytest.mark.parametrize(
  'name, checkpoint',
  [
    ('vit_token', 'vit_token'),
    ('vit_token', 'vit_token_published_names'),
    ('vit_token_prelogits', 'vit_token_prelogits'),
    ('vit_gap', 'vit_gap'),
    ('hybrid_r_vit', 'hybrid_r_vit'),
    ('hybrid_stem_vit', 'hybrid_stem_vit'),
  ],
)
def test_outputs_and_gradients(name, checkpoint):
  golden = json.loads((GOLDENS / f'{name}.json').read_text())
  numbers = np.load(GOLDENS / f'{name}.io.npz')
  params = checkpoints.load(GOLDENS / f'{checkpoint}.ckpt.npz')
  settings = golden['model']
  encoder = settings['transformer']
  resnet = settings.get('resnet')
  model = models.create(
    'R50+ViT-Ti/16' if resnet else 'ViT-Ti/16',
    stage_depths=resnet and resnet['num_layers'],
    width_factor=resnet and resnet['width_factor'],
    num_classes=golden['num_classes'],
    depth=encoder['num_layers'],
    width=settings['hidden_size'],
    mlp_dim=encoder['mlp_dim'],
    heads=encoder['num_heads'],
    patch_size=settings['patches']['size'],
    pool=settings['classifier'],
    representation_size=settings['representation_size'],
  )

  @jax.jit
  @jax.grad
  def gradients(params):
    logits, _ = forward(params)
    return loss_of(logits)

  @jax.jit
  def forward(params):
    return model.apply({'params': params}, numbers['image'])

  def loss_of(logits):
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.mean(log_probabilities[jnp.arange(3), numbers['label']])

  logits, features = forward(params)
  outputs = {
    'encoded': features['encoded'],
    'pre_logits': features['pre_logits'],
    'logits': logits,
    'loss': loss_of(logits),
  }
  for key, output in outputs.items():
    expected = numbers[key]
    error = np.abs(output - expected).max() / np.abs(expected).max()
    assert error < 1e-5, f'{key} is off by {error:.1e} of its largest value.'

  norms = jax.tree.map(jnp.linalg.norm, _flatten(gradients(params)))
  assert norms == {
    # That of a key bias is zero but for rounding.
    key: pytest.approx(value, rel=1e-4, abs=1e-6)
    for key, value in golden['grad_norms'].items()
  }


def _flatten(tree):
  flat = traverse_util.flatten_dict(tree, sep='/')
  return {name: jnp.ravel(value) for name, value in flat.items()}
