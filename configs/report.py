"""Writes the page of a finished run anew.

  python -m vit_jax.main --config=configs/report.py:RUN

RUN is its workdir, or several separated by commas. Every job ends with its page
by itself, unless it is told `--config.report.page=false`; this is for runs from
before there were pages, and for runs below a sweep. The page is `report.html`
in RUN, a file that opens without network. It shows what there is: pictures of
mistakes need the data, attention and filters the weights.
"""

import ml_collections

from vit_jax import config as base_config


def get_config(argument: str = '') -> ml_collections.ConfigDict:
  """The config for 'RUN'."""
  config = base_config.base(job='report')
  config.report.runs = argument
  return config
