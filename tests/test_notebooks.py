"""The notebooks are committed without outputs, and run from top to bottom."""

import re

import nbclient
import nbformat
import pytest

import runs

NOTEBOOKS = sorted((runs.ROOT / 'notebooks').glob('*.ipynb'))
NAMES = [path.stem for path in NOTEBOOKS]
# Number of pictures that each notebook shows.
PICTURES = {'finetune': 1, 'inspect': 5, 'quickstart': 2}


def code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def test_all_notebooks_are_known():
  assert list(PICTURES) == NAMES


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_committed_without_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  for cell in code(notebook):
    assert not cell.outputs
    assert cell.execution_count is None


def test_first_cell_and_repository_are_the_same_everywhere():
  first_cells = {
    code(nbformat.read(path, as_version=4))[0].source for path in NOTEBOOKS
  }
  (first,) = first_cells
  (address,) = re.findall(r"REPOSITORY = 'https://github.com/(.*)'", first)
  readme = (runs.ROOT / 'README.md').read_text()
  links = re.findall(r'colab.research.google.com/github/(.*)', readme)
  assert sorted(links) == [
    f'{address}/blob/main/notebooks/{name}.ipynb' for name in NAMES
  ]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
  monkeypatch.setenv('PYTHONPATH', str(runs.ROOT))
  notebook = nbformat.read(path, as_version=4)
  for cell in code(notebook):  # Few, but more than the 100 steps of warm-up.
    cell.source = re.sub(r'(total_steps ?= ?)\d+', r'\g<1>110', cell.source)
  client = nbclient.NotebookClient(
    notebook,
    timeout=600,
    kernel_name='python3',
    resources={'metadata': {'path': str(tmp_path)}},
  )
  client.execute()
  outputs = [out for cell in code(notebook) for out in cell.outputs]
  shown = [out.data for out in outputs if 'data' in out]
  assert sum('image/png' in data for data in shown) == PICTURES[path.stem]
  errors = [out.text for out in outputs if out.get('name') == 'stderr']
  assert not errors
