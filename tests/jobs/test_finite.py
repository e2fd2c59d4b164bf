"""Weights and results that are not finite end every job with an error."""

import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main, models
from vit_jax.checkpoints import finite
import weights

SIZES = {'depth': 1, 'width': 16, 'mlp_dim': 16, 'heads': 2}
BAD = 'Transformer/encoderblock_0/LayerNorm_0/scale'


def export(path, spoil=lambda params: None):
  """Writes weights of a model for the digits, without any check."""
  model = models.create('ViT-Ti/2', num_classes=10, **SIZES)
  checkpoints.export(weights.random_params(model, (8, 8)), path)
  arrays = dict(np.load(path))
  spoil(arrays)
  np.savez(path, **arrays)
  return str(path)


def configs(path, folder):
  """Returns a config of each job that uses weights, by its name."""
  few_shot = runs.load_config('few_shot', ',digits|train[:20]|test[:10]')
  few_shot.few_shot.update(shots=(1,), seeds=1)
  features = runs.override(
    runs.load_config('features', ',digits'),
    features__train=False,
    data__eval='test[:10]',
  )
  finetune = runs.shrink(runs.load_config('finetune', 'ViT-Ti/2,cifar10'))
  finetune.data.image_size = 8
  applied = {
    'evaluate': runs.load_config('evaluate', ',digits'),
    'predict': runs.load_config('predict', str(folder / 'photo.png')),
    'few_shot': few_shot,
    'features': features,
    'finetune': finetune,
    'inspect_model': runs.load_config('inspect_model', ',digits'),
  }
  for config in applied.values():
    config.init_from = path
  Image.new('RGB', (9, 9)).save(folder / 'photo.png')
  interpolate = runs.load_config('interpolate', f'{path},{path}')
  return applied | {'interpolate': interpolate}


JOBS = [
  'evaluate', 'predict', 'few_shot', 'finetune', 'inspect_model', 'interpolate'
]  # fmt: skip


@pytest.mark.parametrize('job', JOBS)
def test_one_nan_in_a_weight_file_is_an_error(job, tmp_path):
  def spoil(arrays):
    arrays[BAD][3] = np.nan

  path = export(tmp_path / 'weights.npz', spoil)
  config = configs(path, tmp_path)[job]
  with pytest.raises(ValueError, match=f'{path}: .*{BAD}'):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('job', 'message'),
  [
    ('evaluate', 'outputs of the model: NaN or infinite values in loss'),
    ('predict', 'photo.png: NaN or infinite values in top/0/probability'),
    ('few_shot', 'outputs of the model: NaN or infinite values in features'),
    ('features', 'outputs of the model: NaN or infinite values in features'),
    (
      'inspect_model',
      'outputs of the model: NaN or infinite values in distances',
    ),
  ],
)
def test_an_overflow_of_finite_weights_is_an_error(job, message, tmp_path):
  def spoil(arrays):
    arrays['embedding/kernel'][:] = 3e38
    arrays['Transformer/encoder_norm/scale'][:] = 3e38
    arrays['head/kernel'][:] = 3e38

  config = configs(export(tmp_path / 'weights.npz', spoil), tmp_path)[job]
  if job == 'evaluate':
    config.data.eval = 'test[:45]'
  with pytest.raises(finite.NonFiniteError, match=message):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run' / 'results.json').exists()
