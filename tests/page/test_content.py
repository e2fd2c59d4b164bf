"""Tables of metrics and predictions, and the HTML of a page."""

import collections

from vit_jax.page import content, examples, metric_parts


def line(label, predicted, probability=0.5):
  return {
    'example': 'x',
    'label': label,
    'predicted': predicted,
    'probability': probability,
  }


def test_mistakes_come_by_confidence():
  lines = [
    line('cat', 'cat', 0.9),
    line('cat', 'dog', 0.6),
    line('dog', 'cat', 0.8),
    line(['cat', 'dog'], 'dog', 0.99),
    line(['cat'], 'dog', 0.7),
    line([], 'dog', 0.95),  # Without a label nothing is wrong.
  ]
  assert examples.wrong_lines(lines) == [2, 4, 1]


def test_classes_by_accuracy():
  lines = [
    *[line('cat', 'cat')] * 3,
    line('cat', 'dog'),
    *[line('dog', 'cat')] * 2,
    *[line('dog', 'eel')] * 3,
    *[line('dog', 'dog')] * 5,
  ]
  table, matrix, kinds = examples.by_class(
    'test', lines, {'cat': 0.75, 'dog': 0.5, 'eel': None}
  )
  assert table.rows == [
    ('dog', content.Bar(0.5), '10', 'eel (3)'),
    ('cat', content.Bar(0.75), '4', 'dog (1)'),
  ]
  assert 'test: 3 classes, 14 images, 8 of them on' in str(
    matrix.pictures[0].markup
  )
  assert kinds.rows == [
    ('dog', 'eel', '3'),
    ('dog', 'cat', '2'),
    ('cat', 'dog', '1'),
  ]


def test_of_many_classes_those_are_drawn_that_are_confused():
  names = [f'c{k}' for k in range(1000)]
  lines = [line(name, name) for name in names]
  lines += [line(f'c{k}', f'c{k + 1}') for k in range(100, 200, 2)] * 2
  lines += [line('c7', 'c9')] * 3
  table, matrix, _ = examples.by_class('test', lines, dict.fromkeys(names, 0.5))
  assert len(table.rows) == 200
  markup = str(matrix.pictures[0].markup)
  assert 'the 40 of 1000 classes most often confused' in markup
  assert 'c7 mistaken for c9 (3)' in markup


def test_several_labels_have_no_confusion():
  (table,) = examples.by_class(
    'test', [line(['a', 'b'], 'a')], {'a': 1.0, 'b': 0.0}
  )
  assert [row[0] for row in table.rows] == ['b', 'a']


def test_curves_are_one_chart_a_quantity():
  events = [
    {'step': 1, 'train/loss': 2.0, 'perf/data_wait': 0.5},
    {'step': 2, 'train/loss': 1.0, 'perf/data_wait': 0.25},
    {'step': 2, 'test/loss': 1.5, 'test/raw_loss': 1.6},
    {'step': 1, 'few_shot/digits/1shot': 0.5},
    {'step': 2, 'few_shot/digits/1shot': 0.6},
    {'step': 2, 'test/accuracy': 0.5},  # Of a single step there is no curve.
  ]
  (part,) = metric_parts.curves(events)
  captions = [picture.caption for picture in part.pictures]
  assert captions == ['loss', 'few_shot/digits/1shot', 'perf/data_wait']
  assert 'test, raw: 1.6 at step 2' in str(part.pictures[0].markup)


def test_metrics_with_deviations():
  table = metric_parts.table(
    {'test/accuracy': 0.5, 'test/accuracy_std': 0.125, 'test/loss': 1 / 3}
  )
  assert table.rows == [
    ['test/accuracy', '0.5', '0.125'],
    ['test/loss', '0.3333', ''],
  ]
  assert metric_parts.headlines({'test/loss': 2.0, 'test/accuracy': 0.25}) == [
    ('test/accuracy', '25.00 %')
  ]
  assert metric_parts.headlines({'filters/components': 48}) == [
    ('filters/components', '48')
  ]


def test_what_is_written_is_escaped():
  evil = '<script>alert("x")</script>'
  page = content.Page(
    title=evil,
    summary=evil,
    headlines=[(evil, evil)],
    sections=[
      content.Section(
        evil,
        [
          content.Text(evil),
          content.Code(evil),
          content.Facts([(evil, evil, evil)]),
          content.Table(
            [evil],
            [[evil, content.Term(evil, evil), content.Link(evil, 'a"b')]],
          ),
        ],
      )
    ],
    footer=evil,
  )
  html = content.html(page)
  assert '<script' not in html
  assert 'a"b' not in html
  assert html.count('&lt;script&gt;') == 17


def test_rows_beyond_those_shown_are_folded():
  rows = [(f'row {k}', '') for k in range(5)]
  table = content.Table(('a', 'b'), rows, shown=2, folded='others')
  page = content.Page('x', '', [], [content.Section('y', [table])])
  html = content.html(page)
  opened, _, folded = html.partition('<details>')
  assert '<summary>3 others</summary>' in folded
  counts = collections.Counter(
    'open' if f'row {k}<' in opened.replace('\n', '') else 'folded'
    for k in range(5)
  )
  assert counts == {'open': 2, 'folded': 3}
