"""The documents refer to files, names, config keys and configs that exist.

docs/paper.md has a row for every part of the paper, and docs/architecture.md a
list of at most 10 files to read.
"""

import importlib
import re

import pytest

import runs
from vit_jax import config as config_lib
from vit_jax import jobs

# The parts of arXiv 2010.11929v2.
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
DOCUMENTS = ('README.md', 'CONTRIBUTING.md') + tuple(
  f'docs/{path.name}' for path in sorted((runs.ROOT / 'docs').glob('*.md'))
)
TEXTS = {name: (runs.ROOT / name).read_text() for name in DOCUMENTS}
TEXT = TEXTS['docs/paper.md']
ROWS = [
  [cell.strip() for cell in line.strip('|').split('|')]
  for line in TEXT.splitlines()
  if re.match(r'\| (Section|Equation|Table|Figure|Appendix) ', line)
]


def code_spans(cell):
  return re.findall(r'`([^`]+)`', cell)


def test_every_part_of_the_paper_has_one_row():
  assert sorted(part for part, *_ in ROWS) == sorted(PARTS)


def test_every_part_states_its_deviations():
  deviations = {part: cell for part, *_, cell in ROWS}
  for cell in deviations.values():
    refers_to = re.match(r'as ((Section|Figure|Appendix) [\w.]*\w)', cell)
    assert cell == 'none' or refers_to or len(cell) > 20
    if refers_to:
      assert deviations[refers_to[1]] != 'none'


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row[0])
def test_references_of_a_row_exist(row):
  _, _, code, commands, _ = row
  assert code_spans(code)
  assert code_spans(commands)
  for name in code_spans(code):
    if '/' in name or name.endswith('.md'):
      assert (runs.ROOT / name).exists(), name
    else:
      find(name)
  for command in code_spans(commands):
    load(command)


def find(dotted):
  """Returns the function, class or table of a dotted name."""
  module, names = dotted, []
  while True:
    try:
      value = importlib.import_module(module)
      break
    except ModuleNotFoundError:
      module, _, name = module.rpartition('.')
      names.insert(0, name)
  for name in names:
    value = getattr(value, name)
  return value


def load(command):
  """Returns the config of `configs/NAME.py[:ARG]` with its overrides."""
  file, *overrides = command.split()
  path, *argument = file.split(':', 1)
  name = path.removeprefix('configs/').removesuffix('.py')
  assert path == f'configs/{name}.py'
  config = runs.load_config(name, *argument)
  for override in overrides:
    key, _, value = override.removeprefix('--config.').partition('=')
    config_lib.set_keys(config, {key: value})
  config_lib.check(config, takes_steps=jobs.JOBS[config.job].takes_steps)
  return config


@pytest.mark.parametrize('name', DOCUMENTS)
def test_links_and_paths_exist(name):
  links = re.findall(r'\]\((?!http)([^)#]+)', TEXTS[name])
  for link in links:
    assert (runs.ROOT / name).parent.joinpath(link).exists(), link
  folders = 'benchmarks|configs|docs|notebooks|scripts|tests|vit_jax'
  paths = re.findall(rf'\b(?<!/)(?:{folders})/[\w/.]*\w', TEXTS[name])
  for path in paths:
    if path == 'configs/NAME.py':
      continue
    assert (runs.ROOT / path).exists(), path
  assert links or paths


@pytest.mark.parametrize('name', DOCUMENTS)
def test_config_keys_exist(name):
  for key in re.findall(r'--config\.([a-z][\w.]*\w)', TEXTS[name]):
    if key != 'key':
      config_lib.check_name(key)


def test_readme_names_the_supported_versions_of_python():
  setup = (runs.ROOT / 'setup.py').read_text()
  first, end = re.search(
    r"python_requires='>=3\.(\d+),<3\.(\d+)'", setup
  ).groups()
  *versions, last = [f'3.{n}' for n in range(int(first), int(end))]
  assert f'Python {", ".join(versions)} or {last};' in TEXTS['README.md']
  assert f'no wheels for 3.{end}.' in TEXTS['README.md']


def test_reading_order_has_at_most_ten_files():
  section = TEXTS['docs/architecture.md'].partition('is ViT-L/16 pre-trained')
  order = re.findall(r'^(\d+)\. `([^`]+)`', section[2].partition('##')[0], re.M)
  assert [int(number) for number, _ in order] == list(range(1, len(order) + 1))
  assert order[0][1] == 'configs/vit_l16.py'
  assert len(order) <= 10


def test_named_definitions_are_in_the_files_given():
  text = TEXTS['docs/architecture.md']
  pairs = re.findall(r'`(\w+)`(?: \w+)* in\s+`(vit_jax/[\w/]+\.py)`', text)
  pairs += [
    (name, file)
    for file, name in re.findall(r'`(vit_jax/[\w/]+\.py)`: `(\w+)`', text)
  ]
  assert len(pairs) >= 5
  for name, file in pairs:
    definition = rf'^(?:def {name}\b|class {name}\b|{name}\b.* = )'
    assert re.search(definition, (runs.ROOT / file).read_text(), re.M), name
