"""The order of imports, and what each package may know of."""

import ast
import collections
import graphlib
import pathlib
import subprocess
import sys

import pytest

ORDER = (  # A module may import from its own package or from one before it.
  'foreign_errors',
  'printing',
  'models',
  'checkpoints',
  'distributed',
  'data',
  'training',
  'evaluation',
  'inspection',
  'runtimes',
  'config',
  'recipes',
  'workdir',
  'build',
  'page',
  'jobs',
  'main',
)
ROOT = pathlib.Path(__file__).resolve().parents[1] / 'vit_jax'


def module_name(path):
  parts = path.relative_to(ROOT).with_suffix('').parts
  return '.'.join(p for p in parts if p != '__init__')


MODULES = {module_name(path): path for path in sorted(ROOT.rglob('*.py'))}


def internal_imports(path):
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      assert not any(a.name.startswith('vit_jax') for a in node.names), (
        f'{path}: write `from vit_jax import x`.'
      )
    elif isinstance(node, ast.ImportFrom) and node.module:
      root, _, package = node.module.partition('.')
      if root == 'vit_jax':
        for alias in node.names:
          target = '.'.join(filter(None, (package, alias.name)))
          yield target if target in MODULES else package


def test_imports_point_down():
  for name, path in MODULES.items():
    if not name:
      continue
    package = name.split('.')[0]
    assert package in ORDER, f'{name} has no place in ORDER.'
    for target in internal_imports(path):
      other = target.split('.')[0]
      assert ORDER.index(other) <= ORDER.index(package), (
        f'{name} imports {target}, which is above it.'
      )


def test_imports_form_no_circle():
  graph = {name: set(internal_imports(path)) for name, path in MODULES.items()}
  tuple(graphlib.TopologicalSorter(graph).static_order())


def test_only_build_and_jobs_read_the_config():
  above = ('config', 'recipes', 'build', 'jobs', 'main')
  for name, path in MODULES.items():
    if name.split('.')[0] in above:
      continue
    # A finished run gives its config to `build`.
    allowed = name == 'workdir.finished_run'
    assert allowed or 'ml_collections' not in path.read_text(), name


def test_names_of_modules_are_unique():
  by_name = collections.defaultdict(set)
  for name in MODULES:
    by_name[name.split('.')[-1]].add(name)
  repeated = {name for name, paths in by_name.items() if len(paths) > 1}
  # A page shows weights and studies, which build and recipes make.
  assert repeated <= {'data', 'report', 'studies', 'weights'}, repeated


def test_files_can_be_read_in_one_sitting():
  for name, path in MODULES.items():
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f'{name} has {lines} lines; split it by concept.'


@pytest.mark.parametrize(
  'package',
  [
    'models',
    'checkpoints',
    'distributed',
    'training',
    'evaluation',
    'inspection',
    'runtimes',
  ],
)
def test_packages_without_tensorflow(package):
  modules = [name for name in MODULES if name.split('.')[0] == package]
  lines = [f'import vit_jax.{name}' for name in modules]
  run_without_tensorflow(lines)


@pytest.mark.parametrize(
  'script', ['step', 'compile', 'attention', 'operations']
)
def test_benchmarks_of_the_model_need_no_tensorflow(script):
  run_without_tensorflow(
    [f'import sys; sys.path.insert(0, "benchmarks"); import {script}']
  )


def run_without_tensorflow(lines):
  lines = [
    *lines,
    'import sys',
    'bad = {"tensorflow", "clu", "ml_collections"} & set(sys.modules)',
    'assert not bad, bad',
  ]
  subprocess.run(
    [sys.executable, '-c', '\n'.join(lines)], cwd=ROOT.parent, check=True
  )


def test_tensorflow_only_reads_data():
  for name, path in MODULES.items():
    if name.split('.')[0] != 'data':
      assert 'import tensorflow' not in path.read_text(), name
