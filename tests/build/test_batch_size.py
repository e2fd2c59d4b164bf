"""The number of images of an evaluation step."""

import jax
import pytest

from vit_jax import build
from vit_jax import config as config_lib


@pytest.mark.parametrize(
  ('keys', 'backend', 'expected'),
  [
    ({}, 'cpu', 16),
    ({'data.image_size': 32}, 'cpu', 784),  # 16 * 7 * 7
    ({'data.image_size': 384}, 'cpu', 16),
    ({'batch_size': 8}, 'cpu', 8),
    ({'eval_batch_size': 100}, 'cpu', 100),
    ({}, 'tpu', 1024),
  ],
)
def test_evaluation_batches_are_small_on_cpus(
  keys, backend, expected, monkeypatch
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  config = config_lib.base(batch_size=1024)
  config_lib.set_keys(config, keys)
  assert build.eval_batch_size(config) == expected
