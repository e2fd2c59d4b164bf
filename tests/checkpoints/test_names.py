"""Names of checkpoints, their files, and the documents that list them."""

import pathlib
import re

import pytest

from vit_jax import config as config_lib
from vit_jax.build import summary
from vit_jax.checkpoints import hub, names, published

ROOT = pathlib.Path(__file__).parents[2]

# Collected by hand from the publishers' pages.
LISTED = {
  line
  for line in (pathlib.Path(__file__).with_name('published.txt'))
  .read_text()
  .splitlines()
  if not line.startswith('#')
}
ON_THE_HUB = {line for line in LISTED if hub.is_name(line)}
PUBLISHED = LISTED - ON_THE_HUB


def _in_tables(document):
  rows = re.findall(r'^\|.*\|$', (ROOT / document).read_text(), re.MULTILINE)
  return {
    text
    for row in rows
    for text in re.findall('`([^`]+)`', row)
    if names.is_name(text)
  }


def test_names_in_the_documents_are_those_that_resolve():
  documented = _in_tables('docs/checkpoints.md')
  assert documented == set(published.NAMES) | ON_THE_HUB
  for name in documented:
    assert names.describe(name).startswith(name)
  in_readme = _in_tables('README.md') - {'hf://ORG/NAME@REVISION'}
  assert len(in_readme) > 5
  assert in_readme - {'hf://ORG/NAME'} <= documented


def test_names_stand_for_the_published_files():
  assert set(published.NAMES.values()) == PUBLISHED
  assert len(published.NAMES) == len(PUBLISHED)


@pytest.mark.parametrize(
  'name, file',
  [
    (
      'augreg:B/16',
      'vit_models/augreg/'
      'B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0.npz',
    ),
    (
      'augreg:R26+S/32-imagenet2012-224',
      'vit_models/augreg/R26_S_32-i21k-300ep-lr_0.001-aug_light0-wd_0.03-do_0.1'
      '-sd_0.1--imagenet2012-steps_20k-lr_0.03-res_224.npz',
    ),
    ('vit:R50+B/16', 'vit_models/imagenet21k/R50+ViT-B_16.npz'),
    (
      'vit:L/16-imagenet2012',
      'vit_models/imagenet21k+imagenet2012/ViT-L_16.npz',
    ),
    (
      'vit:L/16-imagenet2012-224',
      'vit_models/imagenet21k+imagenet2012/ViT-L_16-224.npz',
    ),
    ('sam:B/32', 'vit_models/sam/ViT-B_32.npz'),
    ('bit:M-R152x4-imagenet2012', 'bit_models/BiT-M-R152x4-ILSVRC2012.npz'),
  ],
)
def test_name(name, file):
  assert published.find(name) == file


def test_augreg_files_are_accepted_by_their_own_name():
  files = [path for path in PUBLISHED if path.startswith('vit_models/augreg/')]
  assert len(files) > 20
  for path in files:
    file = path.removeprefix('vit_models/augreg/').removesuffix('.npz')
    assert published.find(f'augreg:{file}') == path


def test_the_url_of_a_name_is_escaped():
  assert names.describe('vit:B/16-imagenet2012') == (
    'vit:B/16-imagenet2012, https://storage.googleapis.com/vit_models/'
    'imagenet21k%2Bimagenet2012/ViT-B_16.npz'
  )


@pytest.mark.parametrize(
  'name, nearest',
  [
    ('augreg:B_16', 'augreg:B/16, '),
    ('vit:b/16-imagenet', '.*vit:B/16-imagenet2012, '),
    ('bit:R50x1', 'bit:[MS]-R50x1, '),
    ('sam:', 'sam:'),
    ('augreg:B_16-i21k-300ep-lr_0.001-aug_medium1', 'augreg:B/16'),
  ],
)
def test_an_unknown_name_lists_the_nearest(name, nearest):
  with pytest.raises(ValueError, match=f'nearest are {nearest}') as error:
    names.locate(name)
  assert str(error.value).startswith(repr(name))


@pytest.mark.parametrize(
  'name', ['hf://', 'hf://vit', 'hf://a/b/c', 'hf://a/b@', 'hf://a/b c']
)
def test_a_malformed_repository_is_refused(name):
  with pytest.raises(ValueError, match=f'{name}.* write hf://ORG/NAME'):
    names.describe(name)


def test_a_revision_may_contain_slashes():
  assert hub.parse('hf://a/b@refs/pr/1') == ('a/b', 'refs/pr/1')


def test_paths_are_not_names():
  for path in ('a.npz', './vit:B/16', 'gs://b/vit:B', 'folder/bit:x', ''):
    assert not names.is_name(path)
    assert names.describe(path) == path


def test_the_summary_shows_the_url_and_refuses_unknown_names():
  config = config_lib.base(job='evaluate', init_from='sam:B/16')
  config.model.name = ''
  lines = summary.describe(config, 'w', has_model=False, reads_weights=True)
  assert lines[-1] == (
    'weights: sam:B/16,'
    ' https://storage.googleapis.com/vit_models/sam/ViT-B_16.npz'
  )
  config.init_from = 'sam:B/15'
  with pytest.raises(ValueError, match='nearest are sam:B/16'):
    summary.describe(config, 'w', has_model=False, reads_weights=True)
