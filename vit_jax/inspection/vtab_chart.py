"""Figure 2 of the paper: VTAB scores by group of tasks."""

from collections.abc import Mapping

from etils import epath
from matplotlib.figure import Figure

from vit_jax.inspection import figures

_WIDTH = 0.4  # Of a bar; bars are 1 apart.
_MARKS = ('o', 's', 'D', '^', 'v')


def draw(
  path: epath.Path,
  scores: Mapping[str, float],
  spreads: Mapping[str, float],
  references: Mapping[str, Mapping[str, float]],
  *,
  title: str,
  label: str,
) -> None:
  """Writes a PNG of bars, with the scores of other models as marks.

  Args:
    path: of the PNG.
    scores: height of each bar, per cent, by its name.
    spreads: standard deviations; empty if there are none.
    references: scores of other models, by model and name of a bar.
    title: of the figure.
    label: what the bars are.
  """
  figure = Figure(figsize=(8, 4.5), dpi=150, layout='constrained')
  axes = figure.add_subplot()
  places = range(len(scores))
  axes.bar(
    places,
    list(scores.values()),
    _WIDTH,
    yerr=[spreads[name] for name in scores] if spreads else None,
    capsize=4,
    color='#4c72b0',
    label=label,
  )
  for number, (model, values) in enumerate(references.items()):
    axes.scatter(
      [place + _WIDTH * (0.7 + 0.3 * number) for place in places],
      [values[name] for name in scores],
      marker=_MARKS[number % len(_MARKS)],
      label=model,
      color=f'C{number + 1}',
      zorder=3,
    )
  for place, score in zip(places, scores.values(), strict=True):
    axes.annotate(
      f'{score:.1f}',
      (place, 1),
      ha='center',
      color='white' if score > 8 else 'black',
    )
  axes.set_xticks([place + _WIDTH / 2 for place in places], list(scores))
  axes.set_xlim(-0.4, len(scores) - 0.2)
  axes.set_ylim(0, 100)
  axes.set_ylabel('accuracy [%]')
  axes.set_title(title)
  axes.grid(axis='y', alpha=0.3)
  axes.set_axisbelow(True)
  handles, labels = axes.get_legend_handles_labels()
  axes.legend(
    [handles[-1], *handles[:-1]],  # Bars come last by themselves.
    [labels[-1], *labels[:-1]],
    loc='upper center',
    ncols=4,
    bbox_to_anchor=(0.5, -0.08),
  )
  figures.save(figure, path)
