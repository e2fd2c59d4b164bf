import importlib.util
import json
import pathlib

import pytest

from vit_jax import config as config_lib
from vit_jax import jobs
from vit_jax.checkpoints import fitting
from vit_jax.config import values
from vit_jax.data import preprocess
from vit_jax.jobs.compare import settings, summaries
from vit_jax.jobs.measure import plan
from vit_jax.models import factory, pooling, stacking
from vit_jax.training import optim, patch_targets, steps

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
    ('label_smoothing', float('nan'), 'label_smoothing=nan is not finite'),
    ('mixup', float('inf'), 'mixup=inf is not finite'),
    ('batch_size', 4097, 'optim.accumulate=2 micro-batches'),
    ('batch_size', 2**31, r'outside \[1, 2147483647\]'),
    ('optim.lr', 1e39, r'outside \[0, 3.402823466e\+38\]'),
    ('optim.b2', 1.0, r'outside \[0, 0.999999\]'),
    ('optim.boundaries', (3, 0), r'boundaries=0 is outside \[1, '),
    ('optim.boundaries', (True,), 'items that are not of type int'),
    ('interpolate.alphas', (0.5, float('nan')), 'alphas=nan is not finite'),
    ('predict.paths', ('a', 'b\0'), 'contains a null character'),
    ('model.name', 'ViT-X/16', "unknown model 'ViT-X/16'"),
    ('optim.freeze', '(a', 'is not a regular expression .missing'),
    ('optim.layer_decay', 0.0, r'layer_decay=0.0 is outside \[1e-06, 1\]'),
    ('optim.layer_decay', 1.5, 'layer_decay=1.5 is outside'),
    ('optim.lr_factors', (('(a', 1.0),), "='.a' is not a regular expression"),
    ('optim.lr_factors', (('a', -1.0),), r'factors=-1.0 is outside \[0, '),
    ('optim.lr_factors', (('a', float('nan')),), 'factors=nan is not finite'),
    ('optim.lr_factors', ('a', 1.0), "'a' is not a pattern and a factor"),
    ('optim.lr_factors', (('a', True),), 'is not a pattern and a factor'),
    ('profile_steps', '5:3', 'FIRST:LAST, .* in this order'),
    ('profile_steps', '\u00b2:3', 'FIRST:LAST'),
    ('data.eval', '../x=test', "'../x=test' is not unique or is not a file"),
    ('data.eval', '..=test', 'is not a file name'),
    ('data.eval', f'{"x" * 101}=test', 'is not a file name'),
  ],
)
def test_bad_values_are_named(key, value, message):
  config = config_lib.base(total_steps=10)
  config.optim.accumulate = 2
  config.update_from_flattened_dict({key: value})
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
  config.optim.warmup_steps = 500
  assert config_lib.warmup_steps(config, 501) == 500
  assert config_lib.warmup_steps(config, 500) == 50


def test_warmup_longer_than_the_run_is_refused():
  config = config_lib.base(total_steps=100)
  config.optim.warmup_steps = 100
  with pytest.raises(
    ValueError, match='all of a run of 100 steps.* a tenth .*, at most 10,000'
  ):
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
  with pytest.raises(ValueError, match='needs a unique name'):
    config_lib.eval_splits(config)


def test_images_may_be_rectangular():
  config = config_lib.base()
  assert config_lib.image_size(config) == (224, 224)
  config.data.image_width = 160
  assert config_lib.image_size(config) == (224, 160)


def test_epochs_that_are_too_many_steps_are_refused():
  config = config_lib.base(total_epochs=1e30, batch_size=1)
  with pytest.raises(ValueError, match='more than 2,147,483,647; train for'):
    config_lib.total_steps(config, 100)


def test_evaluation_may_change_until_a_training_run_has_finished():
  earlier = config_lib.flatten(config_lib.base())
  config = config_lib.base(eval_every=7, log_every=3)
  config.data.eval = 'val=test[:9]'
  config.optim.accumulate = 2
  keys = config_lib.flatten(config)
  assert config_lib.changed_keys(keys, earlier, in_training=True) == []
  assert config_lib.changed_keys(keys, earlier) == [
    'eval_every: 0 -> 7',
    "data.eval: 'test' -> 'val=test[:9]'",
  ]


def test_long_values_are_shortened_in_messages():
  with pytest.raises(ValueError, match='is not of type int') as error:
    values.parse('seed', 'x' * 5000)
  assert len(str(error.value)) < 300


def test_changed_keys_leave_out_what_may_change():
  earlier = config_lib.flatten(config_lib.base()) | {'model.gelu': 'erf'}
  keys = config_lib.flatten(config_lib.base(seed=3, keep_checkpoints=9))
  assert config_lib.changed_keys(keys, earlier) == ['seed: 0 -> 3']


@pytest.mark.parametrize(
  'name', [path.stem for path in sorted(CONFIGS.glob('*.py'))]
)
def test_shipped_configs_pass_the_check(name):
  config = load(name)
  config_lib.check(config, takes_steps=jobs.JOBS[config.job].takes_steps)


def test_set_keys_parses_text_by_type():
  config = config_lib.base()
  texts = {'optim.lr': '1e-2', 'data.flip': 'false', 'seed': '3'}
  config_lib.set_keys(config, texts)
  assert (config.optim.lr, config.data.flip, config.seed) == (0.01, False, 3)
  for name, value in [('data.flip', 'no'), ('seed', '1.5')]:
    with pytest.raises(ValueError, match=f"{name}='{value}' is not of type"):
      config_lib.set_keys(config, {name: value})
  for text in ('head', 'a=', '=1', 'a=1,b', 'a=x', 'a=1-1'):
    with pytest.raises(ValueError, match=f"'{text}' is not PATTERN=FACTOR"):
      config_lib.set_keys(config, {'optim.lr_factors': text})


def test_lists_are_tuples_and_on_the_command_line_text():
  config = config_lib.base()
  assert config.model.stage_depths == ()
  config_lib.set_keys(config, {'model.stage_depths': '3,4, 6,3'})
  assert config.model.stage_depths == (3, 4, 6, 3)
  with pytest.raises(ValueError, match="'3x4' is not a list of whole numbers"):
    config_lib.set_keys(config, {'model.stage_depths': '3x4'})
  config.model.stage_depths = ('3', '4')
  with pytest.raises(ValueError, match='items that are not of type int'):
    config_lib.check(config)


def test_a_length_replaces_the_other():
  config = config_lib.base(total_epochs=90.0)
  config_lib.set_keys(config, {'total_steps': '20'})
  assert (config.total_steps, config.total_epochs) == (20, 0.0)
  config_lib.set_keys(config, {'total_epochs': 3})
  assert (config.total_steps, config.total_epochs) == (0, 3.0)
  config_lib.set_keys(config, {'total_steps': 20, 'total_epochs': 3.0})
  with pytest.raises(ValueError, match='total_steps=20 and total_epochs=3.0'):
    config_lib.check(config)


SETTINGS = {
  'sweep.grid': (
    'optim.lr=0.01|3e-2 model.dropout=0|0.1',
    {'optim.lr': (0.01, 0.03), 'model.dropout': (0.0, 0.1)},
  ),
  'sweep.also': (
    'mixup=0.1 data.flip=false; optim.boundaries=3,6 optim.lr_factors=a=2,b=3',
    (
      {'mixup': 0.1, 'data.flip': False},
      {
        'optim.boundaries': (3, 6),
        'optim.lr_factors': (('a', 2.0), ('b', 3.0)),
      },
    ),
  ),
  'study.points': (
    'A (fam): model.name=ViT-S/16; B: ; seed=3',
    {
      'A': {'family': 'fam', 'model.name': 'ViT-S/16'},
      'B': {},
      'seed=3': {'seed': 3},
    },
  ),
  'study.finetune_keys': (
    'total_steps=1 data.eval=test[:16]',
    {'total_steps': 1, 'data.eval': 'test[:16]'},
  ),
  'optim.lr_factors': (
    r'(?=h)head/.*=1e1, .*_\d{1,2}/.*=0',
    (('(?=h)head/.*', 10.0), (r'.*_\d{1,2}/.*', 0.0)),
  ),
}


@pytest.mark.parametrize('name', SETTINGS)
def test_settings_from_text_and_back(name):
  text, value = SETTINGS[name]
  assert values.parse(name, text) == value
  values.check(name, value)
  again = values.as_text(values.parse(name, text), name)
  assert values.parse(name, again) == value
  config = config_lib.base(total_steps=1)
  config_lib.set_keys(config, {name: value})
  config_lib.check(config)
  assert config_lib.flatten(config)[name] == value


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('sweep.grid', {'optim.lr': 0.01}, 'is not a tuple of values'),
    ('sweep.grid', {'optim.rl': (0.01,)}, 'did you mean optim.lr'),
    ('sweep.also', ({'seed': 'x'},), "seed='x' is of type str"),
    ('study.points', {'a': {'loss': 'hinge'}}, 'not one of softmax, sigmoid'),
    ('study.finetune_keys', {'mixup': -1.0}, 'outside'),
    ('sweep.grid', {'job': ('vtab',)}, 'sweep.grid sets job='),
    ('sweep.also', ({'sweep.seeds': 2},), 'set sweep.seeds for the whole job'),
    ('study.points', {'a': {'study.across': 'step'}}, 'single training run'),
    ('study.points', {3: {}}, 'point 3: names and families are strings'),
    ('study.points', {'a': ()}, r"point 'a': \(\) is not a dict"),
    ('study.points', {'a': {1: 2}}, '1 is not a config key'),
    (
      'sweep.grid',
      {key: tuple(range(200)) for key in ('seed', 'total_steps')},
      'has 40,000 settings, more than 10,000',
    ),
  ],
)
def test_invalid_settings_are_named(name, value, message):
  with pytest.raises(ValueError, match=message):
    values.check(name, value)


def test_an_old_config_file_with_texts_equals_the_new_one():
  texts = {name: text for name, (text, _) in SETTINGS.items()}
  texts |= {'model.stage_depths': '3,4', 'few_shot.shots': '1,5'}
  texts |= {'dedup.against': 'cifar10=test', 'interpolate.alphas': '0,0.5'}
  config = config_lib.base()
  config_lib.set_keys(config, texts)
  keys = config_lib.flatten(config)
  stored = json.loads(json.dumps(keys))
  assert stored['model.stage_depths'] == [3, 4]
  assert config_lib.from_json(stored) == keys
  old = stored | texts | {'no.longer': 'a,b'}
  assert config_lib.from_json(old) == keys | {'no.longer': 'a,b'}
  assert config_lib.changed_keys(keys, old) == []
  old['few_shot.shots'] = '5'
  assert config_lib.changed_keys(keys, old) == [
    'few_shot.shots: (5,) -> (1, 5)'
  ]


def test_choices_are_the_alternatives_themselves():
  owners = {
    'init_head': fitting.HEADS,
    'class_weights': steps.CLASS_WEIGHTS,
    'masked_patch.target': patch_targets.TARGETS,
    'model.pool': pooling.POOLS,
    'model.remat': stacking.REMAT_POLICIES,
    'model.dtype': factory.DTYPES,
    'data.crop': preprocess.CROPS,
    'optim.name': optim.OPTIMIZERS,
    'optim.schedule': optim.DECAYS,
  }
  for name, owner in owners.items():
    assert config_lib.KEYS[name].choices is owner, name
  optional = {  # Empty: the checkpoint's.
    'loss': steps.LOSSES,
    'data.eval_crop': preprocess.EVAL_CROPS,
    'data.eval_interpolation': preprocess.INTERPOLATIONS,
  }
  for name, owner in optional.items():
    assert config_lib.KEYS[name].choices == ('', *owner), name
  # These owners are above the config in the order of imports.
  across = (*summaries.COSTS, 'step', 'name')
  assert config_lib.KEYS['study.across'].choices == across
  assert config_lib.KEYS['plan.fit'].choices == tuple(plan.CANDIDATES)
  assert set(config_lib.KEYS['sweep.job'].choices) <= set(settings.RUN_JOBS)


def test_model_options_leave_out_what_is_unset():
  config = config_lib.base()
  options = config_lib.model_options(config)
  assert options.pop('name') == 'ViT-B/16'
  for name in ('depth', 'stage_depths', 'gelu', 'representation_size'):
    assert name not in options
  assert factory.create('ViT-B/16', num_classes=1, **options).pool == 'token'
  config.model.update(depth=3, representation_size=-1)
  options = config_lib.model_options(config)
  assert (options['depth'], options['representation_size']) == (3, 'width')


@pytest.mark.parametrize(
  'name', ['evaluate', 'features', 'few_shot', 'inspect_model']
)
def test_a_mistyped_run_or_model_is_an_error_with_both_readings(name, tmp_path):
  message = (
    r"'runs/typo' is neither a run \(no such file or folder\) nor a model:"
    ' unknown model .* such as ViT-B/16'
  )
  with pytest.raises(ValueError, match=message):
    load(name, 'runs/typo,cifar10')
  message = "'runs/typo' is neither MODEL,DATASET nor a run: no such file"
  with pytest.raises(ValueError, match=message):
    load(name, 'runs/typo')
  with pytest.raises(ValueError, match='run: .* has no config.json'):
    load(name, str(tmp_path))
  assert load(name, 'ViT-B/16,cifar10').model.name == 'ViT-B/16'


def test_names_of_models_have_priority_over_folders(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  _write_run(tmp_path / 'ViT-B' / '16')
  assert config_lib.parse_subject('ViT-B/16,digits').model == 'ViT-B/16'
  assert config_lib.parse_subject(',digits').weights == ''
  assert config_lib.parse_subject('./ViT-B/16,digits').weights.endswith('npz')


def _write_run(folder):
  folder.mkdir(parents=True)
  keys = {
    'loss': 'sigmoid',
    'data.name': 'digits',
    'data.dir': '/data',
    'data.trim_px': 2,
    'data.skip_corrupt': True,
  }
  (folder / 'config.json').write_text(json.dumps(keys))
  (folder / 'final.npz').touch()


@pytest.mark.parametrize('folder', ['run', 'lr=1,2'])
@pytest.mark.parametrize(
  'name', ['evaluate', 'features', 'few_shot', 'inspect_model']
)
def test_a_run_has_its_own_data_or_a_given_dataset(name, folder, tmp_path):
  run = tmp_path / folder
  _write_run(run)
  own = load(name, str(run))
  if name == 'few_shot':
    assert own.few_shot.datasets == ('digits',)
    assert own.data.skip_corrupt
  else:
    assert (own.data.name, own.data.trim_px) == ('digits', 2)
  given = load(name, f'{run},cifar100')
  assert given.init_from == str(run / 'final.npz')
  assert given.model.name == ''
  assert (given.data.dir, given.data.trim_px) == ('/data', 0)
  if name == 'few_shot':
    assert given.few_shot.datasets == ('cifar100',)
  else:
    assert given.data.name == 'cifar100'
    assert 'test' in given.data.eval
  if name == 'evaluate':
    assert own.loss == given.loss == 'sigmoid'


def test_a_tilde_in_the_path_of_a_run_is_the_home(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  (tmp_path / 'run').mkdir()
  (tmp_path / 'run' / 'config.json').write_text('{"data.name": "digits"}')
  (tmp_path / 'run' / 'final.npz').touch()
  keys, weights = config_lib.load_run('~/run')
  assert keys == {'data.name': 'digits'}
  assert weights == str(tmp_path / 'run' / 'final.npz')
