"""The inference benchmark in miniature, through main."""

import json

import pytest

import runs
from vit_jax.evaluation import inference_table


def in_miniature(**values):
  config = runs.shrink(runs.load_config('inference', 'ViT-Ti/14'))
  config.inference.repetitions = 3
  return runs.override(config, **values)


def test_models_and_sizes_are_timed_and_kept(tmp_path, capsys):
  config = in_miniature(
    inference__models='ViT-Ti/14,ViT-S/14', inference__image_sizes='14,32'
  )
  points = runs.run(config, tmp_path, page=True)['points']
  assert [(p['model'], p['image_size']) for p in points] == [
    ('ViT-Ti/14', 14),
    ('ViT-Ti/14', 28),
    ('ViT-S/14', 14),
    ('ViT-S/14', 28),
  ]
  for point in points:
    assert point['dtype'] == 'bfloat16'
    assert point['largest_batch'] == 2
    assert point['limited_by'] == 'inference.largest_batch'
    assert [rate['batch_size'] for rate in point['rates']] == [1, 2]
    assert point['best'] in point['rates']
    for rate in point['rates']:
      assert 0 < rate['lowest'] <= rate['images_per_second'] <= rate['highest']
  text = capsys.readouterr().out
  assert text.strip() == (tmp_path / 'table.txt').read_text().strip()
  assert 'ViT-Ti/14  28*' in text
  assert 'ViT-S/14 32 to 28' in text
  assert '16 GiB of memory (inference.cpu_memory)' in text
  assert (tmp_path / 'inference.png').exists()
  page = (tmp_path / 'report.html').read_text()
  assert 'largest batch that fits' in page
  assert 'inference.png' not in page  # The page draws its own chart.

  # The same command measures the missing cases.
  (tmp_path / 'results.json').unlink()
  first, second, *_ = sorted((tmp_path / 'points').iterdir())
  first.unlink()
  kept = json.loads(second.read_text()) | {'largest_batch': 3}
  second.write_text(json.dumps(kept))
  again = runs.run(config, tmp_path)['points']
  assert [point['largest_batch'] for point in again].count(3) == 1
  assert len(again) == 4


def test_memory_limits_the_batch_and_time_the_timings(tmp_path):
  # An image of 112x112 px takes 150,528 bytes as input.
  gib = 0.0015
  config = in_miniature(
    inference__image_sizes='112',
    inference__largest_batch=64,
    inference__cpu_memory=gib,
    inference__repetitions=4,
    inference__seconds=0.0,
  )
  (point,) = runs.run(config, tmp_path)['points']
  assert point['limited_by'] == 'memory'
  assert point['memory_bytes'] == round(gib * 2**30)
  assert 1 <= point['largest_batch'] <= gib * 2**30 / 150_528
  (rate,) = point['rates']
  assert (rate['batch_size'], rate['timings']) == (1, 3)


def test_lines_are_by_model_and_omit_what_does_not_fit():
  def point(model, size, best, largest):
    best = best and {'images_per_second': best}
    return {
      'model': model, 'image_size': size, 'best': best,
      'largest_batch': largest,
    }  # fmt: skip

  points = [
    point('a', 64, 9.0, 20),
    point('b', 64, 5.0, 8),
    point('a', 32, 11.0, 50),
    point('b', 32, None, 0),
  ]
  lines = inference_table.lines(points, 'images_per_second')
  assert lines == {'a': [(32, 11.0), (64, 9.0)], 'b': [(64, 5.0)]}
  lines = inference_table.lines(points, 'largest_batch')
  assert lines == {'a': [(32, 50), (64, 20)], 'b': [(64, 8)]}


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'inference__image_sizes': '64,0'}, r'image_sizes=0 is outside \[1, '),
    ({'inference__image_sizes': '64x64'}, 'not a list of whole numbers'),
    ({'inference__models': 'ViT-X/16'}, 'unknown model'),
  ],
)
def test_invalid_cases_are_refused_first(values, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    runs.run(in_miniature(**values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
