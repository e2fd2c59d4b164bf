"""What ran: command, machine, versions and config."""

from typing import Any

from vit_jax.jobs import past_run
from vit_jax.keys import KEYS
from vit_jax.report_page import content, metrics


def what_ran(run: past_run.PastRun) -> list[content.Part]:
  """The command, the machine, and the config, what it changes first."""
  parts = []
  if 'command' in run.environment:
    parts.append(content.Code(run.environment['command']))
  if facts := _facts(run):
    parts.append(content.Table(('', ''), facts, numbers=False))
  changed, same = [], []
  for name, value in run.flat.items():
    if name in KEYS:
      default = KEYS[name].default
      term = content.Term(name, KEYS[name].meaning)
      row = term, _text(value), _text(default)
      (same if value == default else changed).append(row)
    else:
      term = content.Term(name, 'Is no key any more.')
      same.append((term, _text(value), ''))
  parts.append(
    content.Table(
      ('key', 'value', 'default'),
      changed + same,
      shown=len(changed),
      folded='keys at their defaults',
      numbers=False,
    )
  )
  return parts


def results(run: past_run.PastRun) -> list[content.Part]:
  """All final numbers."""
  return [metrics.table(run.numbers)] if run.numbers else []


def _facts(run) -> list[tuple[str, str]]:
  facts = []
  if 'device_kind' in run.results:
    devices = f'{run.results["device_count"]} x {run.results["device_kind"]}'
    facts.append(('devices', devices))
  if 'parameters' in run.results:
    facts.append(('parameters', f'{run.results["parameters"]:,}'))
  for name in ('versions', 'platform'):
    if name in run.environment:
      facts.append((name, run.environment[name]))
  return facts


def _text(value: Any) -> str:
  if isinstance(value, bool):
    return str(value).lower()
  return f'{value:g}' if isinstance(value, float) else str(value)
