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
def test_slices_have_the_cores_that_they_are_known_for(name, cores):
  pytest.importorskip('libtpu')
  found = topologies.describe(name)
  assert len(found.devices) == cores
  assert found.devices[0].platform == 'tpu'


@pytest.mark.parametrize('name', ['v3-8', 'v9:2x2', 'v3', 'v3:2xb', 'v3:'])
def test_names_of_another_form(name):
  with pytest.raises(ValueError, match='write GENERATION:CHIPS'):
    topologies.describe(name)


def test_a_grid_of_other_dimensions():
  with pytest.raises(ValueError, match='3 dimensions, such as v4:2x2x2'):
    topologies.describe('v4:2x2')


def test_a_slice_that_does_not_exist():
  pytest.importorskip('libtpu')
  with pytest.raises(ValueError, match='no slice .v5e:3x3.'):
    topologies.describe('v5e:3x3')
