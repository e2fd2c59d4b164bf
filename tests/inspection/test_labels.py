"""Names in figures that are formulas, or that the font lacks."""

import warnings

from matplotlib import font_manager
from matplotlib.figure import Figure
import numpy as np
from PIL import Image

from vit_jax.inspection import labels


def draw(name, path, **options):
  """Saves a figure with a name as label, title and legend; returns it."""
  figure = Figure(figsize=(2, 2), layout='constrained')
  axes = figure.add_subplot()
  axes.plot([0, 1], label=labels.plain(name))
  axes.set_xticks([0], [labels.plain(name)])
  axes.set_title(labels.plain(name))
  axes.legend()
  labels.render(figure, lambda: figure.savefig(path), **options)
  tick, *_ = axes.get_xticklabels()
  (text,) = axes.get_legend().get_texts()
  assert tick.get_text() == text.get_text() == axes.get_title()
  return text.get_text()


def test_names_are_no_formulas(tmp_path):
  for name in ('$x^2$', '$\\frac{$', 'a $ b', 'a\\$b$', '\x1b[1m\n'):
    # No error, and drawn once.
    draw(name, tmp_path / 'a.png', substitute=None)
  draw('$x^2$', tmp_path / 'text.png', substitute=None)
  figure = Figure(figsize=(2, 2), layout='constrained')
  axes = figure.add_subplot()
  axes.plot([0, 1], label='$x^2$')
  axes.set_xticks([0], ['$x^2$'])
  axes.set_title('$x^2$')
  axes.legend()
  figure.savefig(tmp_path / 'formula.png')
  text, formula = (
    np.asarray(Image.open(tmp_path / f'{name}.png'))
    for name in ('text', 'formula')
  )
  assert (text != formula).any()


def test_missing_characters_get_a_substitute(tmp_path):
  asked = []

  def substitute(missing):
    asked.append(missing)
    return dict.fromkeys(missing, 'W')

  text = draw('猫 cat 🐈\n$', tmp_path / 'a.png', substitute=substitute)
  assert asked == [['猫', '🐈']]
  assert text == r'W cat W\n\$'


def test_without_a_font_characters_are_escaped(tmp_path, monkeypatch):
  monkeypatch.setattr(font_manager.fontManager, 'ttflist', [])
  figure = Figure()
  figure.suptitle('猫')
  assert labels.use_other_fonts(figure, ['猫', '🐈']) == {
    '猫': r'\u732b', '🐈': r'\U0001f408',
  }  # fmt: skip


def test_other_warnings_are_kept():
  with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    labels.render(Figure(), lambda: warnings.warn('other', stacklevel=1), None)
  assert [str(warning.message) for warning in caught] == ['other']
