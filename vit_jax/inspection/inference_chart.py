"""Figure 12 of the paper: inference speed and largest batch by image size."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

Lines = Mapping[str, Sequence[tuple[float, float]]]


def draw(panels: Mapping[str, Lines], title: str) -> Figure:
  """Panels with logarithmic axes, side by side.

  Args:
    panels: by what their values are, points (image side in px, value) of each
      model, by its name.
    title: of the figure.
  """
  figure = Figure(figsize=(5 * len(panels), 4.2), dpi=120, layout='constrained')
  all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
  for axes, (what, lines) in zip(all_axes, panels.items(), strict=True):
    for name, points in lines.items():
      axes.plot(*zip(*points, strict=True), marker='o', ms=4, label=name)
    axes.set_xscale('log')
    axes.set_yscale('log')
    sizes = sorted({x for points in lines.values() for x, _ in points})
    axes.set_xticks(sizes, [f'{x:g}' for x in sizes])
    axes.set_xticks([], minor=True)
    axes.tick_params('x', labelrotation=45)
    axes.set_xlabel('image side [px]')
    axes.set_title(what, fontsize=10)
    axes.grid(alpha=0.3, which='both')
  figure.suptitle(title)
  handles, labels = all_axes[0].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside right upper', frameon=False)
  return figure
