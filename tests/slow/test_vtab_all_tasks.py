"""All 19 tasks of VTAB through the command line, killed and started again.

Some minutes on 2 cores, so it runs when it is asked for:

  python -m pytest -o addopts= tests/slow/test_vtab_all_tasks.py
"""

import time

import runs
from vit_jax.data import vtab_tasks
import vtab_data


def test_killed_in_the_middle_goes_on_to_the_table(tmp_path):
  data_dir, workdir = tmp_path / 'data', tmp_path / 'run'
  vtab_data.prepare(data_dir)
  arguments = vtab_data.arguments(data_dir, workdir)
  process = runs.start(*arguments)
  names = list(vtab_tasks.TASKS)
  while not (workdir / names[9]).exists():
    assert process.poll() is None, process.communicate()[1]
    time.sleep(0.01)
  process.kill()
  process.communicate()
  finished = [workdir / name / 'seed-0' / 'results.json' for name in names[:9]]
  before = [path.stat().st_mtime_ns for path in finished]

  log = runs.finish(*arguments)
  assert [path.stat().st_mtime_ns for path in finished] == before
  assert log.count('is finished') == 9
  lines = (workdir / 'table.txt').read_text().splitlines()
  titles = [task.title for task in vtab_tasks.TASKS.values()]
  means = ['VTAB (19)', 'natural (7)', 'specialized (4)', 'structured (8)']
  assert [line[:16].strip() for line in lines[1:]] == titles + means
  assert '77.63  76.29  72.71' in ' '.join(lines[20].split()).replace(' ', '  ')
  assert (workdir / 'vtab.png').stat().st_size > 10_000
