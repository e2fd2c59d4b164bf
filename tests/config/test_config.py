import importlib.util
import pathlib

import pytest

from vit_jax import config as config_lib

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'


def load(name, *argument):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(*argument)


def test_base_with_a_length_passes_the_check():
  config_lib.check(config_lib.base(total_steps=10))


@pytest.mark.parametrize(
  ('key', 'value', 'message'),
  [
    ('total_steps', 0, 'total_steps=0 and total_epochs=0.0'),
    ('total_epochs', 1.0, 'total_steps=10 and total_epochs=1.0'),
    ('seed', -1, r'seed=-1 is outside \[0, '),
    ('loss', 'hinge', "loss='hinge' is not one of softmax, sigmoid"),
    ('label_smoothing', 1.5, 'label_smoothing=1.5 is outside'),
    ('label_smoothing', float('nan'), 'label_smoothing=nan is outside'),
    ('batch_size', 4097, 'optim.accumulate=2 micro-batches'),
  ],
)
def test_bad_values_are_named(key, value, message):
  config = config_lib.base(total_steps=10)
  config.optim.accumulate = 2
  config[key] = value
  with pytest.raises(ValueError, match=message):
    config_lib.check(config)


def test_wrong_type_is_named():
  config = config_lib.base(total_steps=10).copy_and_resolve_references()
  with config.ignore_type(), config.unlocked():
    config.data.flip = 3
  with pytest.raises(ValueError, match='data.flip=3 is of type int, but bool'):
    config_lib.check(config)


def test_unknown_and_missing_keys_are_named():
  config = config_lib.base(total_steps=10)
  with config.unlocked():
    config.optim.speed = 3
  with pytest.raises(ValueError, match='unknown config keys optim.speed'):
    config_lib.check(config)
  with config.unlocked():
    del config.optim['speed']
    del config.optim['lr']
  with pytest.raises(ValueError, match='optim.lr are missing'):
    config_lib.check(config)


def test_epochs_become_steps_after_overrides():
  config = config_lib.base(total_epochs=90.0)
  assert config_lib.total_steps(config, 1_281_167) == 28_151  # 28150.64...
  config.batch_size = 1024
  assert config_lib.total_steps(config, 1_281_167) == 112_603  # 112602.56...
  config.optim.warmup_steps = -1
  assert config_lib.warmup_steps(config, 112_603) == 10_000
  assert config_lib.warmup_steps(config, 2_000) == 200


def test_warmup_longer_than_the_run_is_refused():
  config = config_lib.base(total_steps=100)
  config.optim.warmup_steps = 100
  with pytest.raises(ValueError, match='leaves nothing of a run of 100 steps'):
    config_lib.warmup_steps(config, 100)


def test_eval_splits_have_names():
  config = config_lib.base()
  config.data.eval = 'val=train[99%:], test=validation,test2[:5]'
  assert config_lib.eval_splits(config) == {
    'val': 'train[99%:]',
    'test': 'validation',
    'test2': 'test2[:5]',
  }
  config.data.eval = 'test[:5],test[5:]'
  with pytest.raises(ValueError, match='needs a name of its own'):
    config_lib.eval_splits(config)


def test_images_may_be_rectangular():
  config = config_lib.base()
  assert config_lib.image_size(config) == (224, 224)
  config.data.image_width = 160
  assert config_lib.image_size(config) == (224, 160)


def test_changed_keys_leave_out_what_may_change():
  earlier = config_lib.flatten(config_lib.base()) | {'model.gelu': 'erf'}
  flat = config_lib.flatten(config_lib.base(seed=3, keep_checkpoints=9))
  assert config_lib.changed_keys(flat, earlier) == ['seed: 0 -> 3']


@pytest.mark.parametrize(
  'name', [path.stem for path in sorted(CONFIGS.glob('*.py'))]
)
def test_shipped_configs_pass_the_check(name):
  config_lib.check(load(name))


def test_set_key_parses_by_type():
  config = config_lib.base()
  config_lib.set_key(config, 'optim.lr', '1e-2')
  config_lib.set_key(config, 'data.flip', 'false')
  config_lib.set_key(config, 'seed', '3')
  assert (config.optim.lr, config.data.flip, config.seed) == (0.01, False, 3)
  for name, value in [('data.flip', 'no'), ('seed', '1.5')]:
    with pytest.raises(ValueError, match=f"{name}='{value}' is not of type"):
      config_lib.set_key(config, name, value)


def test_integers():
  config = config_lib.base()
  assert config_lib.integers(config, 'model.stage_depths') == ()
  config.model.stage_depths = '3,4, 6,3'
  assert config_lib.integers(config, 'model.stage_depths') == (3, 4, 6, 3)
