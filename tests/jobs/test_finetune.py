"""Fine-tuning on digits, end to end, from a miniature pre-training run."""

import numpy as np
import pytest

import runs
from vit_jax import checkpoints, main


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
  """A run at 8 px with the hidden layer of a pre-training head."""
  workdir = tmp_path_factory.mktemp('pretrained')
  config = runs.shrink(runs.load_config('digits'))
  runs.override(config, model__representation_size=-1, optim__ema_decay=0.9)
  runs.run(config, workdir)
  return workdir


def finetuning(pretrained, **values):
  config = runs.shrink(runs.load_config('finetune'))
  config.init_from = str(pretrained / 'final.npz')
  config.model.name = 'ViT-Ti/2'
  config.data.image_size = 8
  return runs.override(config, **values)


def test_starts_from_the_weights_at_a_higher_resolution(pretrained, tmp_path):
  before = checkpoints.load(pretrained / 'final.npz')
  config = finetuning(pretrained, data__image_size=12, optim__lr=0.0)
  runs.run(config, tmp_path)
  after = checkpoints.load(tmp_path / 'final.npz')
  assert 'pre_logits' not in after
  np.testing.assert_array_equal(
    after['embedding']['kernel'], before['embedding']['kernel']
  )
  assert not after['head']['kernel'].any()
  positions = 'Transformer', 'posembed_input', 'pos_embedding'
  old, new = before, after
  for name in positions:
    old, new = old[name], new[name]
  assert old.shape == (1, 1 + 4 * 4, 16)
  assert new.shape == (1, 1 + 6 * 6, 16)
  corners = [1, 4, -4, -1], [1, 6, -6, -1]
  np.testing.assert_allclose(new[0, corners[1]], old[0, corners[0]], rtol=1e-6)


def test_linear_probe_trains_only_the_head(pretrained, tmp_path):
  config = finetuning(pretrained, optim__freeze='(?!head/).*')
  runs.run(config, tmp_path)
  before = checkpoints.load(pretrained / 'final.npz')
  after = checkpoints.load(tmp_path / 'final.npz')
  assert after['head']['kernel'].any()
  block = 'Transformer', 'encoderblock_0', 'MlpBlock_0', 'Dense_0', 'kernel'
  for name in block:
    before, after = before[name], after[name]
  np.testing.assert_array_equal(after, before)


def test_bit_recipe_and_class_weights_run(pretrained, tmp_path):
  config = finetuning(
    pretrained,
    mixup=0.1,
    class_weights='balanced',
    data__crop='random',
    optim__schedule='steps',
    optim__boundaries='1',
    init_head='keep_pre_logits',
    model__representation_size=-1,
  )
  results = runs.run(config, tmp_path)
  assert np.isfinite(results['metrics']['test/loss'])
  assert 'pre_logits' in checkpoints.load(tmp_path / 'final.npz')


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'init_from': ''}, 'fine-tuning needs a checkpoint'),
    ({'init_from': '/nowhere.npz'}, '/nowhere.npz: no such file'),
    ({'job': 'pretrain'}, "set job='finetune'"),
    ({'model__width': 32}, r'parameter .* has the shape .*width=16'),
    ({'optim__freeze': 'nothing'}, 'matches no weight'),
    ({'optim__boundaries': 'x'}, "optim.boundaries='x' is not a list"),
  ],
)
def test_invalid_configs_are_refused(pretrained, tmp_path, values, message):
  with pytest.raises(ValueError, match=message):
    main.run(finetuning(pretrained, **values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
