"""Options of later plain ViTs through the command line, in miniature.

python -m pytest -o addopts= tests/slow/test_model_options.py
"""

import shutil

import numpy as np
import pytest

import runs
from vit_jax import checkpoints

OPTIONS = {
  'attention': {
    'model__pool': 'map',
    'model__positions': 'sincos2d',
    'model__registers': 2,
  },
  'mean': {
    'model__pool': 'gap',
    'model__class_token': True,
    'model__registers': 2,
  },
  'norm': {'model__pool': 'gap_norm', 'model__scan': True},
}


def config_of(name, config='digits', *arguments):
  config = runs.shrink(runs.load_config(config, *arguments))
  return runs.override(config, **OPTIONS[name])


@pytest.mark.parametrize('name', OPTIONS)
def test_train_resume_evaluate_inspect_and_fine_tune(name, tmp_path):
  first, again = tmp_path / 'first', tmp_path / 'again'

  def config():
    return runs.override(
      config_of(name), total_steps=4, checkpoint_every=2, optim__lr=0.01
    )

  results = runs.run(config(), first, page=True)
  assert (first / 'report.html').exists()
  shutil.copytree(first, again)
  shutil.rmtree(again / 'checkpoints' / '4')
  for file in ('results.json', 'final.npz'):
    (again / file).unlink()
  assert runs.run(config(), again)['metrics'] == results['metrics']
  old, new = (np.load(folder / 'final.npz') for folder in (first, again))
  assert set(old) == set(new)
  for key in old:
    np.testing.assert_array_equal(old[key], new[key])

  evaluation = runs.load_config('evaluate', str(first))
  found = runs.run(evaluation, tmp_path / 'evaluation')['metrics']
  key = 'test/accuracy'
  assert found[key] == pytest.approx(results['metrics'][key])
  params, description = checkpoints.load_with_description(first / 'final.npz')
  copy = tmp_path / 'copy' / 'config.json'
  copy.parent.mkdir()
  shutil.copy(first / 'config.json', copy)
  checkpoints.export(params, copy.parent / 'weights.npz')
  _, same = checkpoints.load_with_description(copy.parent / 'weights.npz')
  assert same.overrides == description.overrides

  inspection = runs.load_config('inspect_model', str(first))
  runs.run(inspection, tmp_path / 'inspection')
  assert (tmp_path / 'inspection' / 'rollout.png').exists()

  tuning = runs.override(
    config_of(name, 'finetune'),
    model__name='ViT-Ti/2',
    init_from=str(first / 'final.npz'),
    init_positions='bicubic',
    data__image_size=12,
  )
  tuned = runs.run(tuning, tmp_path / 'tuned')
  assert np.isfinite(tuned['metrics']['test/loss'])


def test_masked_patch_prediction_with_registers(tmp_path):
  config = runs.shrink(runs.load_config('masked_patch', 'digits'))
  runs.override(config, model__positions='sincos2d', model__registers=2)
  results = runs.run(config, tmp_path / 'run')
  assert results['metrics']
  for pool in ('map', 'gap_norm'):
    runs.override(config, model__pool=pool)
    with pytest.raises(ValueError, match='does not train'):
      runs.run(config, tmp_path / pool)
