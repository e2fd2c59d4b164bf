import pytest

from vit_jax.distributed import topologies


@pytest.mark.parametrize(
  ('name', 'cores'),
  [
    ('v2:2x2', 8),
    ('v3:1x1', 2),
    ('v3:2x2', 8),
    ('v3:4x4', 32),
    ('v4:2x2x1', 8),
    ('v5e:1x1', 1),
    ('v5e:2x4', 8),
    ('v5p:2x2x1', 4),
    ('v6e:2x2', 4),
  ],
)
def test_number_of_cores(name, cores):
  pytest.importorskip('libtpu')
  described = topologies.describe(name)
  assert len(described.devices) == cores
  assert described.devices[0].platform == 'tpu'


@pytest.mark.parametrize('name', ['v3-8', 'v9:2x2', 'v3', 'v3:2xb', 'v3:'])
def test_malformed_names_are_refused(name):
  with pytest.raises(ValueError, match='write GENERATION:CHIPS'):
    topologies.describe(name)


def test_wrong_number_of_dimensions_is_refused():
  with pytest.raises(ValueError, match='3 dimensions, such as v4:2x2x2'):
    topologies.describe('v4:2x2')


def test_unknown_slice_is_refused():
  pytest.importorskip('libtpu')
  with pytest.raises(ValueError, match='not know the slice .v5e:3x3.'):
    topologies.describe('v5e:3x3')
