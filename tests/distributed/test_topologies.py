import pytest

from vit_jax.distributed import mesh, topologies


@pytest.mark.parametrize(
  ('name', 'cores', 'links'),
  [
    ('v2:2x2', 8, 2),
    ('v3:1x1', 2, 0),
    ('v3:2x2', 8, 2),
    ('v3:4x4', 32, 2),
    ('v4:2x2x1', 4, 2),
    ('v5e:1x1', 1, 0),
    ('v5e:2x4', 8, 2),
    ('v5p:2x2x1', 4, 2),
    ('v6e:2x2', 4, 2),
    ('v4:4x4x4', 64, 6),
    ('v5e:8x16', 128, 3),
  ],
)
def test_number_of_cores_and_links(name, cores, links):
  pytest.importorskip('libtpu')
  described = topologies.describe(name)
  assert len(described.devices) == cores
  assert described.links == links
  assert described.devices[0].platform == 'tpu'
  assert mesh.create(devices=described.devices).size == cores


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
