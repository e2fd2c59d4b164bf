"""The notebooks are committed without outputs, and run from top to bottom."""

import inspect
import re

import nbclient
import nbformat
import pytest

import runs

NOTEBOOKS = sorted((runs.ROOT / 'notebooks').glob('*.ipynb'))
NAMES = [path.stem for path in NOTEBOOKS]
# Number of pictures that each notebook shows.
PICTURES = {'features': 4, 'finetune': 1, 'inspect': 5, 'quickstart': 2}


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


def shrink_digits():
  """Makes the model of configs/digits.py tiny; runs in the kernel."""
  from configs import digits

  def small(full=digits.get_config):
    config = full()
    config.batch_size = 32
    config.model.update(depth=1, width=16, mlp_dim=16, heads=2)
    config.optim.warmup_steps = 1
    return config

  digits.get_config = small


def test_run_from_top_to_bottom(tmp_path, monkeypatch):
  """Runs all notebooks in one kernel, which imports and compiles once.

  They also share a folder, and the model that they train in it if they are
  given none. Names that one defines are unknown to the next.
  """
  monkeypatch.setenv('PYTHONPATH', str(runs.ROOT))
  everything = nbformat.v4.new_notebook()

  def add(source):
    everything.cells.append(nbformat.v4.new_code_cell(source))

  add(f'{inspect.getsource(shrink_digits)}\nshrink_digits()')
  notebooks = {}
  for path in NOTEBOOKS:
    add('%reset -f')
    notebooks[path.stem] = code(nbformat.read(path, as_version=4))
    for cell in notebooks[path.stem]:
      # More than the steps of warm-up.
      cell.source = re.sub(r'(total_steps ?= ?)\d+', r'\g<1>30', cell.source)
    everything.cells += notebooks[path.stem]
  client = nbclient.NotebookClient(
    everything,
    timeout=600,
    kernel_name='python3',
    resources={'metadata': {'path': str(tmp_path)}},
  )
  client.execute()
  for name, cells in notebooks.items():
    outputs = [out for cell in cells for out in cell.outputs]
    shown = [out.data for out in outputs if 'data' in out]
    assert sum('image/png' in data for data in shown) == PICTURES[name]
    assert not [out.text for out in outputs if out.get('name') == 'stderr']
  cells = notebooks['features']
  text = ''.join(out.get('text', '') for x in cells for out in x.outputs)
  (percent,) = re.findall(r'nearest neighbours: ([\d.]+)%', text)
  assert float(percent) > 25  # After only 30 steps; by chance, it is 10.
