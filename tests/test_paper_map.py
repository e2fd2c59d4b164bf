"""docs/paper.md names every part of the paper, and what it names is there."""

import importlib
import re

import pytest

import runs
from vit_jax import config as config_lib
from vit_jax import main

# Parts that there are: arXiv 2010.11929v2.
PARTS = [
  *('Section 1', 'Section 2', 'Section 3', 'Section 3.1', 'Section 3.2'),
  *('Section 4', 'Section 4.1', 'Section 4.2', 'Section 4.5', 'Section 4.6'),
  'Section 5',
  *(f'Equation {number}' for number in range(1, 9)),
  *(f'Table {number}' for number in (1, 2, 3, 4, 9)),
  *(f'Figure {number}' for number in (1, 2, 6, 7, 10, 11, 12, 14)),
  *('Appendix A', 'Appendix B', 'Appendix B.1', 'Appendix B.1.1'),
  *('Appendix B.1.2', 'Appendix D.5'),
  *(f'Appendix D.{number}' for number in (7, 8, 9, 10)),
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
  assert config.job in main.JOBS
  return config


def test_links_lead_somewhere():
  links = re.findall(r'\]\((?!http)([^)#]+)', TEXT)
  assert links
  for link in links:
    assert (runs.ROOT / 'docs' / link).exists(), link
