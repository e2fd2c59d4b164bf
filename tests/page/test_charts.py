"""Charts: what is drawn is what the words say."""

import re
from xml.etree import ElementTree

import numpy as np

from vit_jax.page import charts


def words(picture):
  (found,) = re.findall(r'aria-label="([^"]*)"', str(picture.markup))
  return found


def test_curves_in_words():
  picture = charts.curves(
    'loss', {'train': [(1, 4.0), (2, 0.5), (3, 1.0)], 'test': [(3, 2.0)]}
  )
  assert words(picture) == (
    'Chart of loss. train: from 4 at step 1 to 1 at 3, lowest 0.5, highest 4;'
    ' test: 2 at step 3.'
  )
  drawing = ElementTree.fromstring(str(picture.markup))
  texts = {''.join(t.itertext()) for t in drawing.iter('text')}
  assert {'train', 'test', 'step'} <= texts


def test_long_curves_keep_their_ends_and_few_points():
  points = [(k, k**2) for k in range(100_001)]
  kept = charts.thin(points)
  assert len(kept) == 400
  assert kept[0] == points[0]
  assert kept[-1] == points[-1]
  assert kept == sorted(kept)
  assert len(str(charts.curves('x', {'': points}).markup)) < 30_000


def test_curve_with_gaps_is_drawn():
  points = [(1, 1.0), (2, float('nan')), (3, 2.0)]
  assert 'from 1 at step 1 to 2 at 3' in words(charts.curves('x', {'': points}))


def test_bars_in_words():
  picture = charts.bars(
    'accuracy',
    {'VTAB': 61.25, 'natural': 70.0},
    spreads={'VTAB': 0.5},
    marks={'paper': {'VTAB': 77.6, 'natural': 80.0}},
  )
  assert words(picture) == (
    'Bars of accuracy, %: VTAB 61.2 (standard deviation 0.5), natural 70.0.'
  )


def test_names_appear_as_they_are():
  names = ['猫猫', '$x^2$', '🐈 cat', 'a\x1b[31m\n', '$\\frac{$', '中' * 12]
  counts = np.eye(6, dtype=int)
  lines = {name: [(1, 1.0), (2, 10.0)] for name in names}
  values = dict.fromkeys(names, 1.0)
  for picture in (
    charts.confusion('$猫', counts, names),
    charts.curves('$猫', lines, log_up=True),
    charts.bars('$猫', values, marks={'$猫$': values}),
  ):
    drawing = ElementTree.fromstring(str(picture.markup))
    texts = {''.join(t.itertext()) for t in drawing.iter('text')}
    # Without what Matplotlib measures in their place.
    assert not any('\u4dc0' <= c <= '\u4dff' for text in texts for c in text)
    assert {'猫猫', '$x^2$', '🐈 cat', r'a\x1b[31m\n', r'$\frac{$'} <= texts
  assert '中' * 10 + '…' in texts
  assert '$猫$' in texts


def test_confusion_in_words_and_numbers():
  counts = np.array([[5, 0, 2], [0, 7, 0], [1, 3, 4]])
  picture = charts.confusion('Confusion', counts, ['cat', 'a "dog"', 'eel'])
  assert 'aria-label="Confusion: 3 classes, 22 images, 16 of them' in str(
    picture.markup
  )
  drawing = ElementTree.fromstring(str(picture.markup))
  assert drawing.get('aria-label').endswith(
    'most often eel mistaken for a "dog" (3), cat mistaken for eel (2), eel'
    ' mistaken for cat (1).'
  )
  texts = [''.join(t.itertext()) for t in drawing.iter('text')]
  numbers = sorted(int(t) for t in texts if t.strip().isdigit())
  assert numbers == [1, 2, 3, 4, 5, 7]
