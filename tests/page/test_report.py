"""The page of runs of all kinds, as a browser sees it."""

import json
import logging
import re
import shutil

from etils import epath
import markupsafe
from PIL import Image
import pytest

from browser import needs_browser
import runs
from vit_jax import config as config_lib
from vit_jax import jobs, main
from vit_jax.page import report
from vit_jax.workdir import finished_run
import vtab_data

SMALL = {
  'total_steps': 30,
  'batch_size': 32,
  'log_every': 10,
  'eval_every': 15,
  'checkpoint_every': 0,
  'model__depth': 2,
  'model__width': 16,
  'model__mlp_dim': 16,
  'model__heads': 2,
  'optim__warmup_steps': 3,
}


@pytest.fixture(scope='session')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('pages')


def write(name, config, folder):
  runs.run(config, folder / name, page=True)
  return folder / name


@pytest.fixture(scope='session')
def training(folder):
  config = runs.override(runs.load_config('digits'), **SMALL)
  return write('training', config, folder)


@pytest.fixture(scope='session')
def sweep(folder):
  config = runs.override(
    runs.load_config('digits'),
    **SMALL,
    job='sweep',
    sweep__job='pretrain',
    sweep__grid='optim.lr=1e-3|3e-3',
    sweep__seeds=2,
  )
  return write('sweep', config, folder)


@pytest.fixture(scope='session')
def vtab(folder):
  tasks = ('dtd', 'smallnorb_azimuth')
  data_dir = folder / 'data'
  vtab_data.prepare(data_dir, tasks)
  config = runs.override(
    runs.load_config('vtab', f'ViT-Ti/16,{",".join(tasks)}'),
    **vtab_data.SMALL | {'data__dir': str(data_dir), 'sweep__seeds': 2},
  )
  return write('vtab', config, folder)


@pytest.fixture(scope='session')
def others(folder, training):
  """Runs of all jobs that need little time, by name."""
  masked = runs.override(
    runs.load_config('masked_patch', 'imagenet2012'),
    **SMALL,
    data__name='digits',
    data__train='train',
    data__eval='test',
    data__image_size=8,
    model__patch_size=2,
  )
  photo = folder / 'photo of a wall.png'
  Image.new('RGB', (60, 40), 'teal').save(photo)
  predict = runs.load_config('predict', f'{photo}')
  predict.init_from = str(training / 'final.npz')
  few_shot = runs.load_config('few_shot', str(training))
  evaluate = runs.load_config('evaluate', str(training))
  inspect = runs.override(
    runs.load_config('inspect_model', str(training)),
    inspect__num_images=4,
    inspect__pictures=2,
  )
  configs = {
    'masked': masked,
    'predict': predict,
    'few-shot': few_shot,
    'evaluate': evaluate,
    'inspect': inspect,
  }
  return {name: write(name, c, folder) for name, c in configs.items()}


@pytest.fixture(scope='session')
def page_of(training, sweep, vtab, others):
  return {
    'training': training,
    'sweep': sweep,
    'run of a sweep': sweep / 'repeat' / 'seed-0',
    'vtab': vtab,
    'run of vtab': vtab / 'dtd' / 'seed-0',
    **others,
  }


KINDS = (
  'training',
  'sweep',
  'run of a sweep',
  'vtab',
  'run of vtab',
  'masked',
  'predict',
  'few-shot',
  'evaluate',
  'inspect',
)


@needs_browser
@pytest.mark.parametrize('kind', KINDS)
def test_a_browser_finds_nothing_wrong(kind, page_of, window, tmp_path):
  path = page_of[kind] / 'report.html'
  for width in (1200, 400):
    for dark in (False, True):
      window.open(path, width=width, dark=dark)
      assert not any(window.problems().values()), window.problems()
  assert window.count('img, svg') > 0
  window.screenshot(tmp_path / 'page.png')
  with Image.open(tmp_path / 'page.png') as shot:
    assert shot.width <= 400
    assert shot.height > 1000


@needs_browser
def test_the_browser_finds_what_is_wrong(window, tmp_path):
  (tmp_path / 'page.html').write_text(
    '<img src="none.png"><svg></svg><script>fail()</script>'
    '<p style="width: 2000px">wide</p><img src="http://localhost:9/x.png">'
  )
  window.open(tmp_path / 'page.html')
  problems = window.problems()
  assert all(problems.values()), problems
  assert 'http://localhost:9/x.png' in problems['requests']


@needs_browser
def test_dark_pages_are_dark(training, window):
  def lightness(colour):
    return sum(map(int, colour.removeprefix('rgb(').rstrip(')').split(',')))

  window.open(training / 'report.html')
  paper, ink = map(lightness, window.colours())
  assert paper == 3 * 255
  assert ink < 150
  window.open(training / 'report.html', dark=True)
  paper, ink = map(lightness, window.colours())
  assert paper < 100
  assert ink > 600


def test_what_a_training_run_shows(training):
  html = (training / 'report.html').read_text()
  results = json.loads((training / 'results.json').read_text())
  metrics = results['metrics']
  for heading in (
    'What ran',
    'Curves',
    'Results',
    'Classes',
    'Most confident mistakes',
    'Attention',
    'Positions and filters',
  ):
    assert f'<h2>{heading}</h2>' in html
  assert 'could not be drawn' not in html
  assert f'{100 * metrics["test/accuracy"]:.2f} %' in html
  assert f'{metrics["test/loss"]:.4g}' in html
  assert '<dt>optim.warmup_steps</dt>' in html
  lines = (training / 'predictions_test.jsonl').read_text().splitlines()
  lines = [json.loads(line) for line in lines]
  wrong = [x for x in lines if x['label'] != x['predicted']]
  assert f'Misclassified images of test: {len(wrong)} of {len(lines)}' in html
  first = max(wrong, key=lambda line: line['probability'])
  assert (
    f'Image {first["example"]} of class {first["label"]}, predicted' in html
  )
  right = len(lines) - len(wrong)
  assert (
    f'10 classes, {len(lines)} images, {right} of them on the diagonal' in html
  )
  environment = json.loads((training / 'environment.json').read_text())
  assert environment['versions']['jax'] in html
  assert markupsafe.escape(environment['command']) in html


def test_what_comparisons_show(sweep, vtab):
  html = (sweep / 'report.html').read_text()
  results = json.loads((sweep / 'results.json').read_text())
  for setting, score in results['scores'].items():
    assert setting in html
    assert f'{100 * score:.1f} %' in html
  assert 'href="repeat/seed-1/report.html"' in html
  assert (sweep / 'repeat' / 'seed-1' / 'report.html').exists()
  html = (vtab / 'report.html').read_text()
  results = json.loads((vtab / 'results.json').read_text())
  assert 'sNORB-Azim' in html
  assert f'{100 * results["metrics"]["vtab/mean"]:.2f}' in html
  # The paper's H/14 on the two: (75.2 + 33.2) / 2.
  assert '54.20' in html


def test_texts_of_pictures_have_only_numbers_of_their_content(tmp_path):
  config = runs.load_config('digits')
  config.data.eval = 'val=train[90%:],test'
  metrics = {'test/accuracy': 0.5, 'val/accuracy': 0.75, 'rollout/peak': 2.0}
  run = finished_run.FinishedRun(
    epath.Path(tmp_path), config_lib.flatten(config), {'metrics': metrics}
  )
  for name in ('mine', 'pairs', 'patches_0000002', 'rollout'):
    Image.new('RGB', (9, 9)).save(tmp_path / f'{name}.png')
  (charts,) = report._pictures(run)
  texts = [re.search('alt="(.*?)"', p.markup)[1] for p in charts.pictures]
  assert texts == [
    'Picture mine.',
    'Training images beside similar test images.',
    'Images in rows: original, with corrupted patches, as predicted.'
    ' val/accuracy 0.75',
    'Images beside their attention rollouts. rollout/peak 2',
  ]


def test_what_other_jobs_show(others):
  def html(name):
    return (others[name] / 'report.html').read_text()

  for name in others:
    assert 'could not be drawn' not in html(name)
  assert 'as predicted (patches_' in html('masked')
  assert '<h2>Attention</h2>' in html('masked')
  assert 'Photo photo of a wall.png; predicted: ' in html('predict')
  assert 'few-shot accuracy, mean over draws' in html('few-shot')
  assert '<h2>Classes</h2>' in html('evaluate')
  assert 'attention_maps_2.png' in html('inspect')
  assert html('inspect').count('href="attention_') == 1
  assert 'href="attention_1.html"' in html('inspect')
  assert (others['inspect'] / 'attention_1.html').exists()


def test_an_old_run_gets_its_page_by_the_job(training, tmp_path):
  old = tmp_path / 'old'
  shutil.copytree(training, old)
  for name in ('report.html', 'environment.json', 'final.npz'):
    (old / name).unlink()
  config = json.loads((old / 'config.json').read_text())
  del config['report.page']  # Which was no key then, as this is none now.
  (old / 'config.json').write_text(json.dumps(config | {'model.colour': 'red'}))
  main.run(runs.load_config('report', str(old)), tmp_path / 'unused')
  html = (old / 'report.html').read_text()
  assert 'No longer a key.' in html
  assert '<h2>Most confident mistakes</h2>' in html
  assert '<h2>Attention</h2>' not in html
  assert not (tmp_path / 'unused').exists()


@pytest.mark.parametrize(
  ('path', 'message'),
  [('', 'report.runs is empty'), ('nowhere', 'no config.json and no results')],
)
def test_a_page_of_no_run(path, message, tmp_path):
  path = path and str(tmp_path / path)
  with pytest.raises(ValueError, match=message):
    main.run(runs.load_config('report', path), tmp_path)


def test_a_failure_to_draw_is_one_warning(training, tmp_path, caplog):
  broken = tmp_path / 'broken'
  shutil.copytree(training, broken)
  (broken / 'report.html').unlink()
  (broken / 'final.npz').write_bytes(b'not weights')
  (broken / 'predictions_test.jsonl').write_text('{"label": "x"}\n')
  with caplog.at_level(logging.WARNING, logger='vit_jax'):
    config = runs.override(runs.load_config('digits'), **SMALL)
    main.run(config, broken)
  (warning,) = [r for r in caplog.records if r.levelno == logging.WARNING]
  assert 'report.html lacks Classes (' in warning.message
  html = (broken / 'report.html').read_text()
  assert html.count('could not be drawn') == 4
  assert '<h2>Curves</h2>' in html


def test_a_page_that_cannot_be_written_ends_no_run(tmp_path, caplog):
  (tmp_path / 'results.json').write_text('{}')
  report.finish(epath.Path(tmp_path))
  (warning,) = caplog.records
  assert 'report.html cannot be written' in warning.message
  assert not (tmp_path / 'report.html').exists()


def test_sections_belong_to_jobs_that_exist():
  assert set(report.JOB_PAGES) <= set(jobs.JOBS)


def test_a_page_is_written_once(training):
  before = (training / 'report.html').stat().st_mtime_ns
  main.run(runs.override(runs.load_config('digits'), **SMALL), training)
  assert (training / 'report.html').stat().st_mtime_ns == before
