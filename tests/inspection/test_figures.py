"""Content of figures, read from their axes."""

import numpy as np
from PIL import Image

from vit_jax.inspection import figures


def test_position_similarity_has_one_tile_per_patch(tmp_path):
  similarity = np.arange(24 * 24.0).reshape(6, 4, 6, 4)
  figure = figures.position_similarity(similarity)
  (drawn,) = figure.axes[0].images
  shown = drawn.get_array()
  # Tiles of 6x4 with gaps of one cell.
  assert shown.shape == (6 * 7 - 1, 4 * 5 - 1)
  np.testing.assert_array_equal(shown[7:13, 10:14], similarity[1, 2])
  assert np.ma.getmaskarray(shown)[6].all()
  labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
  assert labels == ['1', '2', '3', '4', '5', '6']
  figures.save(figure, tmp_path / 'a.png')
  with Image.open(tmp_path / 'a.png') as image:
    assert image.height > image.width > 300
  assert [path.name for path in tmp_path.iterdir()] == ['a.png']


def test_colour_scale_ends_at_the_most_similar_pair():
  similarity = np.array([[1, 0.25], [0.25, 1]]).reshape(1, 2, 1, 2)
  (drawn,) = figures.position_similarity(similarity).axes[0].images
  assert drawn.get_clim() == (-0.25, 0.25)


def test_position_similarity_of_a_single_patch():
  figures.position_similarity(np.ones((1, 1, 1, 1)))


def test_attention_distance_has_one_dot_per_head():
  distances = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])
  (axes,) = figures.attention_distance(distances, uniform=8.0).axes
  dots = np.concatenate([c.get_offsets() for c in axes.collections])
  expected = {(1, 1), (1, 5), (2, 2), (2, 6), (3, 3), (3, 7)}
  assert {tuple(dot) for dot in dots} == expected
  mean, uniform = axes.lines
  np.testing.assert_array_equal(mean.get_ydata(), [3, 4, 5])
  assert set(uniform.get_ydata()) == {8}
  assert axes.get_ylim()[1] > 8


def test_filters_are_centered_on_grey():
  components = np.zeros((3, 2, 2, 3))
  components[1, 0, 1, 2] = -4
  components[[0, 2]] = 1
  figure = figures.filters(components, np.array([0.5, 0.3, 0.2]))
  shown = [image for axes in figure.axes for image in axes.images]
  assert len(shown) == 3
  expected = np.full((2, 2, 3), 0.5)
  expected[0, 1, 2] = 0
  np.testing.assert_array_equal(shown[1].get_array(), expected)
  titles = [axes.get_title() for axes in figure.axes]
  assert titles == ['50.0%', '30.0%', '20.0%']


def test_rollouts_are_next_to_their_images():
  images = np.full((5, 8, 12, 3), -1, np.float32)
  images[1] = 1
  shares = np.zeros((5, 2, 3), np.float32)
  shares[:, 0, 0] = 1
  figure = figures.rollouts(images, shares, [f'image {i}' for i in range(5)])
  shown = [axes.images[0].get_array() for axes in figure.axes if axes.images]
  assert len(shown) == 15
  np.testing.assert_array_equal(shown[3], np.ones((8, 12, 3)))
  assert shown[4][0, 0, 0] == 1
  assert shown[4][-1, -1, 0] == 0
  assert shown[5][0, 0, 0] > shown[5][-1, -1, 0] > 0.4  # Of a white image.
  titles = [axes.get_title() for axes in figure.axes]
  assert list(filter(None, titles)) == [f'image {i}' for i in range(5)]


def test_attention_maps_are_scaled_individually():
  maps = np.zeros((2, 3, 1, 2), np.float32)
  maps[0, 0] = [0.01, 0.005]
  maps[1, 2] = [0.2, 0.4]
  left, right = figures.attention_maps(
    np.zeros((4, 8, 3)), maps, 'a name that is too long to be shown'
  ).axes
  assert left.get_title().startswith('…')
  assert len(left.get_title()) <= 24
  shown = right.images[0].get_array()
  assert shown.shape == (3, 8)
  np.testing.assert_allclose(shown[0, :2], [1, 0.5])
  np.testing.assert_allclose(shown[2, 6:], [0.5, 1])
  np.testing.assert_array_equal(shown[2, :2], [0, 0])
