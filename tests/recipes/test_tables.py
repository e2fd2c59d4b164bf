"""Table 3 of the paper, typed in a second time and by columns."""

import pytest

import runs
from vit_jax import config as config_lib
from vit_jax import recipes

MODELS = ['ViT-B/32', 'ViT-B/16', 'ViT-L/32', 'ViT-L/16', 'ViT-H/14']


@pytest.mark.parametrize(
  ('data', 'epochs', 'lrs', 'decay', 'weight_decay', 'dropout'),
  [
    ('jft300m', (7, 7, 7, 14, 14), (8, 8, 6, 4, 3), 'linear', 0.1, 0.0),
    ('imagenet21k', (90,) * 5, (10,) * 5, 'linear', 0.03, 0.1),
    ('imagenet2012', (300,) * 5, (30,) * 5, 'cosine', 0.3, 0.1),
  ],
)
def test_table_3(data, epochs, lrs, decay, weight_decay, dropout):
  for model, length, lr in zip(MODELS, epochs, lrs, strict=True):
    config = recipes.pretraining(model, data)
    assert config.model.name == model
    assert config.total_epochs == length
    assert config.optim.lr == pytest.approx(lr * 1e-4)
    assert config.optim.schedule == decay
    assert config.optim.weight_decay == weight_decay
    assert config.model.dropout == dropout
    assert config.batch_size == 4096
    assert config.optim.warmup_steps == 10_000
    assert (config.optim.b1, config.optim.b2) == (0.9, 0.999)
    assert config.data.image_size == 224
    assert config.optim.clip_norm == (1.0 if data == 'imagenet2012' else 0.0)
    sigmoid = data != 'imagenet2012'
    assert config.loss == ('sigmoid' if sigmoid else 'softmax')
    assert config.model.head_bias == (-10.0 if sigmoid else 0.0)


def test_second_length_of_table_3():
  assert recipes.pretraining('ViT-L/16', 'jft300m,7').total_epochs == 7
  assert recipes.pretraining('ViT-L/32', 'imagenet21k,30').total_epochs == 30


@pytest.mark.parametrize('argument', ['cifar10', 'jft300m,30', 'jft300m,x'])
def test_unknown_row_lists_the_known(argument):
  with pytest.raises(
    ValueError, match='on jft300m,7; ViT-L/16 on jft300m; .* on imagenet21k,30'
  ):
    recipes.pretraining('ViT-L/16', argument)


@pytest.mark.parametrize(
  ('model', 'lr'),
  [
    ('R50x1', 10e-4),
    ('R50x2', 10e-4),
    ('R101x1', 8e-4),
    ('R152x1', 6e-4),
    ('R152x2', 6e-4),
    ('R50+ViT-B/32', 8e-4),
    ('R50+ViT-B/16', 8e-4),
    ('R50+ViT-L/32', 2e-4),
    ('R50+ViT-L/16', 4e-4),
  ],
)
def test_table_3_of_resnets_and_hybrids(model, lr):
  two = model in ('R152x2', 'R50+ViT-L/16')
  config = recipes.pretraining(model, 'jft300m,7')
  assert config.total_epochs == 7
  assert recipes.pretraining(model, 'jft300m').total_epochs == (
    14 if two else 7
  )
  assert config.optim.lr == pytest.approx(lr)
  assert config.optim.schedule == 'linear'
  assert (config.optim.weight_decay, config.model.dropout) == (0.1, 0.0)
  hidden_layer = -1 if 'ViT' in model else 0
  assert config.model.representation_size == hidden_layer


def test_unknown_model_lists_all():
  with pytest.raises(ValueError, match='ViT-B/32 on jft300m; .*R200x3'):
    recipes.pretraining('ViT-X/16', 'imagenet21k')


@pytest.mark.parametrize(
  ('data', 'steps', 'warmup', 'lrs', 'share'),
  [
    ('imagenet2012', 20_000, 500, (0.003, 0.01, 0.03, 0.06), '99%'),
    ('cifar100', 10_000, 500, (0.001, 0.003, 0.01, 0.03), '98%'),
    ('cifar10', 10_000, 500, (0.001, 0.003, 0.01, 0.03), '98%'),
    ('oxford_iiit_pet', 500, 100, (0.001, 0.003, 0.01, 0.03), '90%'),
    ('oxford_flowers102', 500, 100, (0.001, 0.003, 0.01, 0.03), '80%'),
  ],
)
def test_table_4(data, steps, warmup, lrs, share):
  row = recipes.TABLE_4[data]
  assert row.lrs == lrs
  assert row.select.endswith(f'[:{share}]')
  assert row.val.endswith(f'[{share}:]')
  config = recipes.finetuning(f'ViT-B/16,{data}')
  config_lib.check(config)
  assert config.total_steps == steps
  assert config.optim.warmup_steps == warmup
  assert config.batch_size == 512
  assert config.data.image_size == 384
  assert (config.optim.name, config.optim.momentum) == ('sgd', 0.9)
  assert (config.optim.clip_norm, config.optim.weight_decay) == (1.0, 0.0)
  assert config.optim.schedule == 'cosine'
  assert config.optim.ema_decay == 0
  assert config.model.dropout == 0


def test_finetuning_settings():
  config = recipes.finetuning('ViT-H/14,imagenet2012,table2')
  assert (config.data.image_size, config.optim.ema_decay) == (518, 0.9999)
  assert not config.optim.ema_ramp
  assert config.model.dropout == 0.1
  config = recipes.finetuning('R50x1,cifar100,bit')
  assert config.optim.schedule == 'steps'
  assert config.optim.boundaries == (3000, 6000, 9000)
  assert (config.mixup, config.optim.lr) == (0.1, 0.003)
  assert (config.data.precrop_size, config.data.image_size) == (160, 128)
  config = recipes.finetuning('R50x1,imagenet2012,bit')
  assert (config.data.precrop_size, config.data.image_size) == (512, 480)
  config = recipes.finetuning('R50x1,imagenet2012,bit384')
  assert (config.data.precrop_size, config.data.image_size) == (0, 384)
  assert recipes.finetuning('R50x1,oxford_iiit_pet,bit').mixup == 0


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('ViT-B/16', 'MODEL,DATASET'),
    ('ViT-B/16,mnist', 'not a dataset of Table 4'),
    ('ViT-B/16,imagenet2012,table2', 'ViT-L/16 and ViT-H/14 on imagenet2012'),
    ('ViT-B/16,cifar10,table3', 'MODEL,DATASET,SETTING'),
    ('R50x1,folder:/photos,bit', '500, 10,000 and 20,000 steps'),
  ],
)
def test_unknown_finetuning_is_explained(argument, message):
  with pytest.raises(ValueError, match=message):
    recipes.finetuning(argument)


def test_sweep_of_table_4_and_the_bit_recipe():
  config = runs.load_config('sweep', 'ViT-B/16,imagenet2012')
  assert config.sweep.grid == {'optim.lr': (0.003, 0.01, 0.03, 0.06)}
  assert config.sweep.train == 'train[:99%]'
  assert config.sweep.also == ()
  (also,) = runs.load_config('sweep', 'R50x1,cifar10').sweep.also
  assert also == {
    'mixup': 0.1,
    'data.image_size': 128,
    'data.precrop_size': 160,
    'data.crop': 'random',
    'optim.lr': 0.003,
    'optim.schedule': 'steps',
    'optim.boundaries': (3000, 6000, 9000),
    'optim.clip_norm': 0.0,
  }
  own = runs.load_config('sweep', 'ViT-S/16,folder:/photos')
  assert own.sweep.grid == {'optim.lr': (0.000125, 0.000375, 0.00125, 0.00375)}


@pytest.mark.parametrize('model', MODELS)
def test_config_files_show_the_rows_of_table_3(model):
  name = model.lower().replace('-', '_').replace('/', '')
  for data in ('jft300m', 'imagenet21k', 'imagenet2012'):
    row = recipes.TABLE_3[model, data]
    for epochs in row.epochs:
      argument = f'{data},{epochs}'
      config = runs.load_config(name, argument)
      assert config == recipes.pretraining(model, argument)


def test_masked_patches_as_in_appendix_b_1_2():
  config = runs.load_config('masked_patch', 'jft300m')
  config_lib.check(config)
  assert config.model.name == 'ViT-B/16'
  assert (config.batch_size, config.total_steps) == (4096, 1_000_000)
  assert (config.optim.name, config.optim.lr) == ('adam', 2e-4)
  assert (config.optim.warmup_steps, config.optim.schedule) == (10000, 'cosine')
  assert config.optim.weight_decay == 0.1
  assert config.masked_patch.rate == 0.5
  assert config.masked_patch.target == 'mean_colour'
  assert (config.data.image_size, config.data.crop) == (224, 'inception')
  assert config.data.flip
  for argument in ('imagenet2012', 'digits', 'folder:/photos'):
    config_lib.check(runs.load_config('masked_patch', argument))
