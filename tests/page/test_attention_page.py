"""The interactive attention page: numbers in a browser, and file size."""

import re

from etils import epath
import numpy as np
import pytest

from browser import needs_browser
from vit_jax import models
from vit_jax.inspection import attention_maps
from vit_jax.page import attention_page
import weights

CAPTION = '<b>a</b> & "b".png'
ROWS, COLUMNS = 2, 3


def write(folder, model, params, image, max_mb=100):
  return attention_page.write(
    epath.Path(folder),
    model,
    params,
    [image],
    [CAPTION],
    weights_name='weights.npz',
    max_mb=max_mb,
  )


class Page:
  """The page of a small model in a browser, and the attention of the model."""

  def __init__(self, window, folder, **options):
    model = weights.tiny(**options)
    params = weights.random_params(model)
    image = weights.random_images()[0]
    (page,) = write(folder, model, params, image)
    self.path = folder / page['file']
    self.prefix = len(model.prefix)
    layers = attention_maps.by_layer(model, params, image[None])
    self.attention = np.stack([np.asarray(layer[0]) for layer in layers])
    summary = attention_maps.summarize(model, params, image[None])
    self.maps = np.asarray(summary['maps'][0])
    self.window = window
    window.open(self.path)

  def point(self, row, column, **options):
    right, down = (column + 0.5) / COLUMNS, (row + 0.5) / ROWS
    self.window.point('#photo', right, down, **options)

  def shows(self, weight, source, row, column):
    """Checks the number on the page, which has 3 digits."""
    words = self.window.text('#words')
    target = f'row {row + 1}, column {column + 1}'
    assert words.startswith(f'weight from {source} to {target}, '), words
    assert float(self.window.text('#weight')) == pytest.approx(weight, rel=0.03)
    times = float(re.search(r', (\S+) times', words)[1])
    tokens = self.attention.shape[-1]
    assert times == pytest.approx(weight * tokens, rel=0.08)

  def patch(self, row, column):
    """Returns the index of the token of a patch."""
    return self.prefix + row * COLUMNS + column


@needs_browser
def test_clicked_patches_show_the_attention_of_the_model(window, tmp_path):
  page = Page(window, tmp_path, registers=2)
  # The last layer and the mean of its heads are shown first.
  weights_shown = page.attention[1].mean(axis=0)
  for row, column in ((0, 0), (1, 2), (0, 1)):
    page.point(row, column, click=True)
    page.point(1, 0)
    source = f'row {row + 1}, column {column + 1}'
    weight = weights_shown[page.patch(row, column), page.patch(1, 0)]
    page.shows(weight, source, 1, 0)
  window.choose('#layer', '1')
  weight = page.attention[0].mean(axis=0)[page.patch(0, 1), page.patch(1, 0)]
  page.shows(weight, source, 1, 0)
  for head in range(3):
    window.choose('#head', f'{head + 1}')
    row = page.attention[0, head, page.patch(0, 1)]
    page.shows(row[page.patch(1, 0)], source, 1, 0)
    lines = window.run(
      "return [...document.querySelectorAll('#largest tr')]"
      '.map((x) => [...x.cells].map((cell) => cell.textContent))'
    )
    names = ['class token', 'register 1', 'register 2', 'all patches']
    assert [name for name, _ in lines[:4]] == names
    expected = [*row[:3], row[3:].sum(), *np.sort(row[3:])[:0:-1]]
    found = [float(weight) for _, weight in lines]
    np.testing.assert_allclose(found, expected, rtol=0.03)


@needs_browser
def test_the_keyboard_and_small_maps_do_what_clicks_do(window, tmp_path):
  page = Page(window, tmp_path)
  page.point(1, 2, click=True)
  window.press('#photo', 'ARROW_UP')
  window.press('#photo', 'ARROW_UP')  # Ends at the border.
  window.press('#photo', 'ARROW_LEFT')
  window.press('#photo', 'SHIFT', 'ARROW_LEFT')
  source = 'row 1, column 2'
  weight = page.attention[1].mean(axis=0)[page.patch(0, 1), page.patch(1, 1)]
  page.shows(weight, source, 1, 1)
  small = '#maps [data-layer="0"][data-head="2"]'
  window.point(small, 0.5, 0.5, click=True)
  weight = page.attention[0, 2, page.patch(0, 1), page.patch(1, 1)]
  page.shows(weight, source, 1, 1)
  assert window.count('.chosen') == 1
  assert window.count(f'{small}.chosen') == 1
  # Colours are those of the weights relative to the largest one.
  found = window.run(
    'const canvas = document.getElementById("map");'
    'const {data, width, height} = canvas.getContext("2d")'
    '.getImageData(0, 0, canvas.width, canvas.height);'
    'return [width, height, [...data]];'
  )
  assert found[:2] == [COLUMNS, ROWS]
  brightness = np.reshape(found[2], (6, 4))[:, :3].sum(axis=1)
  shown = page.attention[0, 2, page.patch(0, 1), page.prefix :]
  assert np.argsort(brightness).tolist() == np.argsort(shown).tolist()


@needs_browser
@pytest.mark.parametrize(
  ('pool', 'name'),
  [
    ('token', 'class token'),
    ('gap', 'mean of the patches'),
    ('map', 'attention pooling'),
  ],
)
def test_attention_of_the_representation(pool, name, window, tmp_path):
  page = Page(window, tmp_path, pool=pool)
  options = ['selected patch', name]
  assert window.text('#from').split('\n') == options
  window.choose('#from', name)
  page.point(1, 1)
  page.shows(page.maps[1].mean(axis=0)[1, 1], name, 1, 1)
  window.choose('#head', '2')
  page.shows(page.maps[1, 1, 1, 1], name, 1, 1)


@needs_browser
def test_no_request_leaves_the_page(window, tmp_path):
  page = Page(window, tmp_path)
  for width, dark in ((1200, False), (400, True)):
    window.open(page.path, width=width, dark=dark)
    page.point(0, 0, click=True)
    window.choose('#head', '1')
    assert not any(window.problems().values())
    assert not window.run('return performance.getEntriesByType("resource")')
  blocked = window.run('return fetch("data:,x").then(() => false, () => true)')
  assert blocked
  window.problems()  # Drops what the console says about it.
  text = page.path.read_text()
  assert "default-src 'none'" in text
  assert '://' not in text
  assert '<b>' not in text
  assert window.text('h1') == f'Attention: {CAPTION}'


def test_codes_are_within_the_stated_tolerance():
  exact = np.float32([0, 1e-12, 0.97e-5, 0.98e-5, 1e-5, 0.01, 0.5, 1, 1.0001])
  codes = attention_page.encode(exact)
  assert codes.tolist() == [0, 0, 0, 1, 1, 153, 240, 255, 255]
  many = np.geomspace(attention_page.SMALLEST, 1, 100_001).astype('f4')
  decoded = attention_page.VALUES[attention_page.encode(many)]
  np.testing.assert_allclose(decoded, many, rtol=0.023)
  assert abs(decoded / many - 1).max() > 0.02
  assert np.all(np.diff(decoded) >= 0)


def test_a_page_of_vit_s_is_below_5_mb(tmp_path, monkeypatch, caplog):
  caplog.set_level('INFO', logger='vit_jax')
  rng = np.random.default_rng(0)

  def by_layer(model, params, images):
    for _ in range(12):
      x = rng.exponential(size=(1, 6, 197, 197))
      yield x / x.sum(axis=-1, keepdims=True)

  monkeypatch.setattr(attention_maps, 'by_layer', by_layer)
  model = models.create('ViT-S/16', num_classes=0)
  image = rng.uniform(-1, 1, (224, 224, 3))  # Noise makes the largest JPEG.
  write(tmp_path, model, {}, image)
  path = tmp_path / 'attention_1.html'
  assert 12 * 6 * 197**2 * 4 / 3 < path.stat().st_size < 4e6
  assert '3.8 MB, 12 of 12 layers' in caplog.text
  write(tmp_path, model, {}, image, max_mb=1.5)
  assert path.stat().st_size < 1.5e6
  assert '3 of 12 layers' in caplog.text
  assert '"layers": [1, 7, 12]' in path.read_text()


def test_large_models_have_fewer_layers():
  model = models.create('ViT-L/16', num_classes=0)
  layers = attention_page.layers_within(model, (224, 224), 100)
  assert layers == list(range(24))
  # A layer of 577 tokens needs 7.1 MB.
  layers = attention_page.layers_within(model, (384, 384), 100)
  assert len(layers) == 14
  assert layers[0] == 0
  assert layers[-1] == 23
  assert set(np.diff(layers)) == {1, 2}
  assert attention_page.layers_within(model, (384, 384), 10) == [23]


def test_a_page_that_not_one_layer_fits_on_is_not_written(tmp_path, caplog):
  model = models.create('ViT-L/16', num_classes=0)
  image = np.zeros((384, 384, 3), np.float32)
  assert write(tmp_path, model, {}, image, max_mb=5) == []
  assert not list(tmp_path.iterdir())
  assert 'needs 7.1 MB, but a page may have 5' in caplog.text
