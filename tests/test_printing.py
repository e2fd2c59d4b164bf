"""Names with characters that could harm a terminal."""

import json
import logging

from vit_jax import main, printing
from vit_jax.data import shortened
from vit_jax.workdir import console, files

NAME = 'a\x1b[31m\n\x9b\u202eb\u2028猫🐈\udcff'


def test_only_harmful_characters_are_escaped():
  assert printing.printable(NAME) == (r'a\x1b[31m\n\x9b\u202eb\u2028猫🐈\udcff')
  assert printing.printable('a\n\tb', keep='\n') == 'a\n\\tb'


def test_json_keeps_its_values():
  text = files.json_text({NAME: [NAME]}, ensure_ascii=False, indent=2)
  assert json.loads(text) == {NAME: [NAME]}
  assert '猫🐈' in text
  assert text.count('\n') == 4
  assert printing.printable(text, keep='\n') == text


def test_tables_lists_and_logs_are_printable(capsys):
  table = console.table([(NAME, '1'), ('b', '22')])
  assert table.splitlines()[1].startswith('b ')
  assert len(table.splitlines()) == 2
  console.show(f'{NAME[:6]}\n{table}')
  assert '\x1b' not in capsys.readouterr().out
  assert shortened.join([NAME], 3) == printing.printable(NAME)
  record = logging.LogRecord('x', 0, '', 0, '%s\n', (NAME,), None)
  assert '\x1b' not in main._Formatter().format(record)
