"""Pictures and tables that a job has left as files."""

from etils import epath

from vit_jax.page import charts, content, pictures
from vit_jax.workdir import files, finished_run

# What pictures show, by how their names begin, and how the metrics begin that
# tell it in numbers.
_SHOWN = {
  'attention_distance': (
    'Mean attention distance in px of every head, by layer',
    'attention_distance/layer',
  ),
  'attention_maps_': (
    'Attention weights of single heads, a row for each layer',
    'attention_distance/layer',
  ),
  'filters': (
    'Principal components of the filters that images meet first',
    'filters/',
  ),
  'pairs': ('Training images beside test images that they are like', ''),
  'patches_': (
    'Images in rows: original, with corrupted patches, as predicted',
    'test/',
  ),
  'position_similarity': (
    'Cosines of the position embeddings of patches, a map for each',
    'positions/',
  ),
  'study': (
    'Accuracy of the points, by family, with deviations over the seeds',
    '',
  ),
  'rollout': ('Images beside their attention rollouts', 'rollout/'),
}
_MOST_NUMBERS = 12
_DRAWN_ANEW = (files.VTAB_CHART, files.INFERENCE_CHART)  # In the page's style.


def plan(run: finished_run.FinishedRun) -> list[content.Part]:
  """What a plan says."""
  return [content.Code((run.workdir / files.PLAN).read_text())]


def pictures_left(run: finished_run.FinishedRun) -> list[content.Part]:
  """The pictures of a run; of a series over steps the last."""
  drawn = [_picture(run, path) for path in _paths(run)]
  return [content.Charts(drawn)] if drawn else []


def _paths(run) -> list[epath.Path]:
  if 'figures' in run.results:
    return [run.workdir / name for name in run.results['figures']]
  paths = sorted(run.workdir.glob('*.png'))
  if run.job == 'masked_patch':
    return paths[-1:]
  return [path for path in paths if path.name not in _DRAWN_ANEW]


def _picture(run, path) -> content.Picture:
  begin = next((b for b in _SHOWN if path.name.startswith(b)), None)
  what, metrics = _SHOWN.get(begin, (f'Picture {path.stem}', ''))
  numbers = [
    f'{name} {charts.number(value)}'
    for name, value in run.numbers.items()
    if name.startswith(metrics)
  ]
  alt = f'{what}. {", ".join(numbers[:_MOST_NUMBERS])}'
  return pictures.file(path, alt, f'{what} ({path.name})')
