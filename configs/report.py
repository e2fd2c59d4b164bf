"""Rewrites the page of a finished run.

  python -m vit_jax.main --config=configs/report.py:RUN

RUN is the workdir of the run, or several separated by commas. Every job writes
its page at the end unless `--config.report.page=false` is given; this command
is for older runs, and for the runs of a sweep. The page is `report.html` in
RUN, one file that opens without a network. Mistakes are shown only if the data
is available, and attention and filters only if the weights are.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config(runs: str = '') -> ml_collections.ConfigDict:
  """Returns the config for workdirs separated by commas."""
  config = config_lib.base(job='report')
  config_lib.set_keys(config, {'report.runs': runs})
  return config
