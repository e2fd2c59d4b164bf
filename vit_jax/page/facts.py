"""What ran: command, machine, versions and config."""

from typing import Any

from vit_jax import config as config_lib
from vit_jax.config.keys import KEYS
from vit_jax.page import content, metric_parts
from vit_jax.workdir import finished_run


def what_ran(run: finished_run.FinishedRun) -> list[content.Part]:
  """The command, the machine, and the config, what it changes first."""
  parts = []
  if 'command' in run.environment:
    parts.append(content.Code(run.environment['command']))
  if facts := _facts(run):
    parts.append(content.Facts(facts))
  changed, rows = [], []
  for name, value in run.flat.items():
    if name not in KEYS:
      term = content.Term(name, 'Is no key any more.')
      rows.append((term, _text(name, value), ''))
      continue
    default = KEYS[name].default
    if value != default:
      by_default = f'(default {_text(name, default) or "empty"})'
      changed.append((name, _text(name, value) or 'empty', by_default))
    term = content.Term(name, KEYS[name].meaning)
    rows.append((term, _text(name, value), _text(name, default)))
  return [
    *parts,
    content.Text('The config, where it differs from the defaults:'),
    content.Facts(changed),
    content.Table(
      ('what', 'version'),
      _versions(run),
      shown=0,
      folded='versions',
      numbers=False,
    ),
    content.Table(
      ('key', 'value', 'default'),
      rows,
      shown=0,
      folded='keys, and what they mean',
      numbers=False,
    ),
  ]


def results(run: finished_run.FinishedRun) -> list[content.Part]:
  """All final numbers."""
  return [metric_parts.table(run.numbers)] if run.numbers else []


def _facts(run) -> list[tuple[str, str, str]]:
  facts = []
  if run.devices:
    facts.append(('devices', run.devices, ''))
  if 'parameters' in run.results:
    facts.append(('parameters', f'{run.results["parameters"]:,}', ''))
  if 'core_days' in run.results:
    facts.append(('core-days', f'{run.results["core_days"]:.3g}', ''))
  return facts


def _versions(run) -> list[tuple[str, str]]:
  if not run.environment:
    return []
  versions = run.environment['versions'].items()
  return [*versions, ('platform', run.environment['platform'])]


def _text(name: str, value: Any) -> str:
  if isinstance(value, float):
    return f'{value:g}'
  return config_lib.as_text(value, name)
