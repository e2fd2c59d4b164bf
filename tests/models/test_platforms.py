"""Kinds of devices."""

import types

import jax
import pytest

from vit_jax.models import platforms


@pytest.mark.parametrize(
  'platform, capability, expected',
  [
    ('gpu', '9.0', platforms.FLASH),
    ('gpu', '8.0', platforms.FLASH),
    ('gpu', '12.0', platforms.FLASH),
    ('gpu', '7.5', 'gpu'),
    ('gpu', 'gfx90a', 'gpu'),
    ('gpu', None, 'gpu'),
    ('tpu', None, 'tpu'),
  ],
)
def test_kind_of_a_device_that_is_not_here(platform, capability, expected):
  device = types.SimpleNamespace(
    platform=platform, compute_capability=capability
  )
  assert platforms.of(device) == expected


def test_kind_of_this_device():
  assert platforms.of(jax.devices()[0]) == 'cpu'
