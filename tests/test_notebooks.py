"""The notebooks as they are committed, and from top to bottom."""

import re

import nbclient
import nbformat
import pytest

import runs

NOTEBOOKS = sorted((runs.ROOT / 'notebooks').glob('*.ipynb'))
NAMES = [path.stem for path in NOTEBOOKS]
# Pictures that a notebook shows.
PICTURES = {'finetune': 1, 'inspect': 5, 'quickstart': 2}


def code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def test_the_notebooks_are_there():
  assert list(PICTURES) == NAMES


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_committed_without_outputs(path):
  notebook = nbformat.read(path, as_version=4)
  nbformat.validate(notebook)
  for cell in code(notebook):
    assert not cell.outputs
    assert cell.execution_count is None


def test_one_first_cell_and_one_address():
  firsts = {
    code(nbformat.read(path, as_version=4))[0].source for path in NOTEBOOKS
  }
  (first,) = firsts
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
