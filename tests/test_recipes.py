"""Table 3 of the paper, typed in a second time and by columns."""

import pytest

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
  with pytest.raises(ValueError, match='jft300m,7 and jft300m and imagenet21k'):
    recipes.pretraining('ViT-L/16', argument)
