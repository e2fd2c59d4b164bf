"""docs/paper.md names every part of the paper, and what it names is there."""

import importlib
import re

import pytest

import runs
from vit_jax import config as config_lib
from vit_jax import jobs

# Parts that there are: arXiv 2010.11929v2.
PARTS = [
  *(f'Section {number}' for number in (1, 2, 3, 3.1, 3.2, 4)),
  *(f'Section 4.{number}' for number in range(1, 7)),
  'Section 5',
  *(f'Equation {number}' for number in range(1, 9)),
  *(f'Table {number}' for number in range(1, 10)),
  *(f'Figure {number}' for number in range(1, 15)),
  *(f'Appendix {letter}' for letter in 'ABCD'),
  *('Appendix B.1', 'Appendix B.1.1', 'Appendix B.1.2'),
  *(f'Appendix D.{number}' for number in range(1, 11)),
]
TEXT = (runs.ROOT / 'docs' / 'paper.md').read_text()
ROWS = [
  [cell.strip() for cell in line.strip('|').split('|')]
  for line in TEXT.splitlines()
  if re.match(r'\| (Section|Equation|Table|Figure|Appendix) ', line)
]


def named(cell):
  return re.findall(r'`([^`]+)`', cell)


def test_every_part_of_the_paper_has_one_row():
  assert sorted(part for part, *_ in ROWS) == sorted(PARTS)


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0])
def test_what_a_row_names_is_there(row):
  _, _, code, commands = row
  assert named(code)
  assert named(commands)
  for name in named(code):
    if '/' in name or name.endswith('.md'):
      assert (runs.ROOT / name).exists(), name
    else:
      find(name)
  for command in named(commands):
    load(command)


def find(dotted):
  """The function, class or table of a dotted name."""
  module, names = dotted, []
  while True:
    try:
      found = importlib.import_module(module)
      break
    except ModuleNotFoundError:
      module, _, name = module.rpartition('.')
      names.insert(0, name)
  for name in names:
    found = getattr(found, name)
  return found


def load(command):
  """The config of `configs/NAME.py[:ARG]` with its overrides."""
  file, *overrides = command.split()
  path, *argument = file.split(':', 1)
  name = path.removeprefix('configs/').removesuffix('.py')
  assert path == f'configs/{name}.py'
  config = runs.load_config(name, *argument)
  for override in overrides:
    key, _, value = override.removeprefix('--config.').partition('=')
    config_lib.set_key(config, key, value)
  config_lib.check(config)
  assert config.job in jobs.JOBS
  return config


def test_links_lead_somewhere():
  links = re.findall(r'\]\((?!http)([^)#]+)', TEXT)
  assert links
  for link in links:
    assert (runs.ROOT / 'docs' / link).exists(), link
