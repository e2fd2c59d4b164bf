"""Matching of the classes of a dataset with those of a model."""

import pytest

from vit_jax.data import class_matching

NUMBERED = tuple(map(str, range(12)))
WORDNET_IDS = tuple(f'n{k:08d}' for k in range(1000))
ENGLISH = tuple(f'animal {k}' for k in range(1000))


@pytest.mark.parametrize(
  ('model_names', 'data_names', 'by', 'labels'),
  [
    ('abc', 'abc', 'name', (0, 1, 2)),
    ('cab', 'abc', 'name', (1, 2, 0)),
    ('dcba', 'bd', 'name', (2, 0)),
    # Folders of the numbers 0 to 11 are sorted as text.
    (None, sorted(NUMBERED), 'number', (0, 1, 10, 11, *range(2, 10))),
    ('abcdefghijkl', sorted(NUMBERED), 'number', (0, 1, 10, 11, *range(2, 10))),
    (None, [f'{k:02d}' for k in range(12)], 'number', tuple(range(12))),
    # A model trained on such folders has labels in their order.
    (sorted(NUMBERED), sorted(NUMBERED), 'name', tuple(range(12))),
    (NUMBERED, sorted(NUMBERED), 'name', (0, 1, 10, 11, *range(2, 10))),
    (None, 'cab', 'index', (0, 1, 2)),
    ('012', 'cab', 'index', (0, 1, 2)),
    ('cab', '012', 'index', (0, 1, 2)),
    (ENGLISH, WORDNET_IDS, 'index', tuple(range(1000))),
  ],
)
def test_labels(model_names, data_names, by, labels):
  num_classes = len(model_names or data_names)
  match = class_matching.match(model_names, num_classes, data_names)
  assert (match.by, match.labels) == (by, labels)
  assert f'by {by}' in match.note or by == 'number'
  assert match.is_identity == (labels == tuple(range(num_classes)))
  # The names are those of the model's labels.
  for label, name in zip(labels, data_names, strict=True):
    if by == 'name' or (by == 'number' and not model_names):
      assert match.class_names[label] == name
  unnamed = model_names in (None, '012')
  if by == 'index':
    names = data_names if unnamed else model_names
    assert match.class_names == tuple(names)


def test_what_is_logged():
  match = class_matching.match('dcba', 4, 'bd', model='M', data='D')
  assert match.note == 'D has 2 of the 4 classes of M, matched by name'
  match = class_matching.match('cabd', 4, 'abcd', model='M', data='D')
  assert match.note.endswith('by name; labels differ for 3 of 4 classes')
  match = class_matching.match(None, 2, 'ab', model='M', data='D')
  assert match.note.endswith('matched by index (M has no class names)')
  match = class_matching.match('ab', 2, '01', model='M', data='D')
  assert match.note.endswith('matched by index (D has no class names)')
  match = class_matching.match(None, 12, sorted(NUMBERED), model='M', data='D')
  assert match.note == 'the class names of D are numbers, taken as labels of M'


@pytest.mark.parametrize(
  ('model_names', 'num_classes', 'data_names', 'message'),
  [
    (
      'abc',
      3,
      'abx',
      "M lacks 1 of the 3 classes of D: 'x'; .*'c'.*index",
    ),
    ('abc', 3, 'abcd', "M lacks 1 of the 4 classes of D: 'd'"),
    (None, 3, 'ab', 'M has 3 classes, but D has 2.*M has no class names'),
    ('abc', 3, '01', 'M has 3 classes, but D has 2.*D has no class names'),
    ('abab', 4, 'ab', "more than once: 'a', 'b'; rename"),
    ('abc', 3, 'abb', "more than once: 'b'; rename"),
    # Folders 1 to 3 are not the labels 0 to 2, whichever side has them.
    ('012', 3, '123', "M lacks 1 of the 3 classes of D: '3'"),
    ('123', 3, '012', "M lacks 1 of the 3 classes of D: '0'"),
    # Some of the numbers may be names of any kind.
    (None, 4, '013', 'M has 4 classes, but D has 3'),
    (ENGLISH, 1000, WORDNET_IDS[:9], "9 of the 9 classes of D.*'n00000000'"),
  ],
)
def test_refused(model_names, num_classes, data_names, message):
  with pytest.raises(ValueError, match=message):
    class_matching.match(
      model_names, num_classes, data_names, model='M', data='D'
    )


def test_names_are_ignored_on_request():
  match = class_matching.match('abc', 3, 'xyz', by='index')
  assert match.labels == (0, 1, 2)
  assert match.class_names == ('a', 'b', 'c')
  assert 'data.match_classes=index' in match.note
  with pytest.raises(ValueError, match='has 3 classes, but'):
    class_matching.match('abc', 3, 'ab', by='index')


def test_the_order_of_imagenet():
  english = ('tench', 'goldfish', 'great white shark')
  for names in (), WORDNET_IDS, NUMBERED, english, ('000', '001'):
    assert class_matching.may_be_imagenet(names)
  for names in WORDNET_IDS[::-1], sorted(NUMBERED), sorted(english):
    assert not class_matching.may_be_imagenet(names)


def test_equal_lists_may_repeat_a_name():
  match = class_matching.match(('crane', 'crane'), 2, ('crane', 'crane'))
  assert match.labels == (0, 1)


def test_words_after_wordnet_ids_do_not_matter():
  model = ('n00000001 crane', 'n00000002 crane', 'n00000003 tench')
  match = class_matching.match(model, 3, ('n00000003', 'n00000001'))
  assert (match.by, match.labels) == ('name', (2, 0))
  assert match.class_names == model
  assert class_matching.match(model, 3, model).is_identity
  match = class_matching.match(
    ENGLISH, 1000, [f'{name} word' for name in WORDNET_IDS]
  )
  assert match.by == 'index'
  assert class_matching.may_be_imagenet(model)
