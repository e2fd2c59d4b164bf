"""Pictures in the page: themed, small, and with their words."""

import base64
import io
import re

from etils import epath
from matplotlib.figure import Figure
import numpy as np
from PIL import Image

from vit_jax.page import pictures


def decode(picture):
  code = re.search(r'base64,([^"]*)"', str(picture.markup))[1]
  return Image.open(io.BytesIO(base64.b64decode(code)))


def test_a_figure_takes_the_colours_of_the_page():
  figure = Figure(figsize=(3, 2))
  axes = figure.add_subplot()
  axes.plot([0, 1], [0, 1], color='#3a82c4')
  axes.set_title('a < b')
  markup = str(pictures.drawing(figure, 'A "line" & more').markup)
  assert 'aria-label="A &#34;line&#34; &amp; more"' in markup
  assert 'stroke: currentColor' in markup
  assert '#000000' not in markup
  assert '#ffffff' not in markup
  assert '#3a82c4' in markup
  assert 'a &lt; b' in markup
  assert 'max-width: 288px' in markup


def test_drawings_share_no_names():
  def ids():
    figure = Figure()
    figure.add_subplot().plot([0, 1])
    markup = str(pictures.drawing(figure, 'A line').markup)
    return re.findall(r' id="([^"]*)"', markup)

  first, second = ids(), ids()
  assert first
  assert not set(first) & set(second)


def test_small_images_keep_their_pixels():
  pixels = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
  picture = pictures.photo(pixels, 'Digits')
  assert 'class="pixels"' in str(picture.markup)
  np.testing.assert_array_equal(np.asarray(decode(picture)), pixels)


def test_large_images_become_thumbnails():
  picture = pictures.photo(np.full((400, 800, 3), 200, np.uint8), 'A wall')
  image = decode(picture)
  assert (image.format, image.size) == ('JPEG', (224, 112))
  assert abs(np.asarray(image).astype(int) - 200).max() <= 3


def test_files_take_the_shorter_form(tmp_path):
  rng = np.random.default_rng(0)
  flat, noise = tmp_path / 'flat.png', tmp_path / 'noise.png'
  Image.new('RGB', (200, 100), 'teal').save(flat)
  Image.fromarray(rng.integers(0, 256, (100, 200, 3), np.uint8)).save(noise)
  for path, form in ((flat, 'PNG'), (noise, 'JPEG')):
    picture = pictures.file(epath.Path(path), 'A picture')
    assert decode(picture).format == form
    assert decode(picture).size == (200, 100)
