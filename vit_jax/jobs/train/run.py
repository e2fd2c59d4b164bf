"""A training run: what all jobs that take steps share.

What they differ in, what is learnt and how it is scored, is a `Trainable`.
"""

from collections.abc import Callable, Iterator, Sequence
import logging
import time
from typing import Any, Protocol

from clu import parameter_overview
from etils import epath
import flax.linen as nn
import jax
from jax.sharding import Mesh
from jaxtyping import PyTree
import ml_collections
import numpy as np

from vit_jax import build, checkpoints
from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator
from vit_jax.build import program as program_lib
from vit_jax.checkpoints import store as store_lib
from vit_jax.data import pipeline
from vit_jax.distributed import cpu, preemption, processes, sharding
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.models import stacking
from vit_jax.training import loop, steps
from vit_jax.training import state as state_lib
from vit_jax.workdir import claim, console, files, profiler, results
from vit_jax.workdir import metrics as metrics_lib

_log = logging.getLogger(__name__)

# Of the step reached and the weights that the run stands for, to metrics; what
# else it finds, it notes in the log.
Evaluation = Callable[[int, PyTree, metrics_lib.MetricLog], dict[str, float]]


class Trainable(Protocol):
  """What a run learns, put together before anything is compiled.

  Attributes:
    program: the training step.
    backbone: the model whose features few-shot evaluations look at; it takes
      the parameters of the program's.
    evaluations: further ones beside `score`, each with the steps between them,
      0 for the end of the run alone.
  """

  program: program_lib.Program
  backbone: nn.Module
  evaluations: Sequence[tuple[int, Evaluation]]

  def score(
    self, params: PyTree, *, raw_params: PyTree | None = None
  ) -> tuple[dict[str, float], Any]:
    """Exact metrics of the evaluation splits, and what `finish` needs of them.

    Args:
      params: the weights that the run stands for.
      raw_params: where those are averaged ones, the weights themselves.
    """

  def finish(self, workdir: epath.Path, scored: Any) -> dict[str, Any]:
    """Writes what else stays of the run; returns its part of the results."""


# From the config, the data, the mesh and the weights of `init_from`.
MakeTrainable = Callable[
  [ml_collections.ConfigDict, build.Data, Mesh, build.Weights | None],
  Trainable,
]


def train(
  config: ml_collections.ConfigDict,
  workdir: epath.Path,
  make_trainable: MakeTrainable,
) -> None:
  """Trains, evaluates, and leaves `final.npz` and `results.json`.

  Goes on from the newest checkpoint in `workdir`; says so and returns if the
  run there is finished.

  Raises:
    ValueError: if parts of the config do not fit each other or the data.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  cpu.prepare()
  run = _Run(config.copy_and_resolve_references(), workdir, make_trainable)
  claim.start(config_lib.flatten(run.config), workdir)
  claim.check_shared(workdir)
  with (
    preemption.StopSignal() as stop_signal,
    store_lib.Store(
      workdir / 'checkpoints', keep=config.keep_checkpoints
    ) as store,
  ):
    state, step = run.start(store)
    with metrics_lib.MetricLog(workdir, resume_step=step) as metric_log:
      state, step = run.train(state, step, store, metric_log, stop_signal)
      store.wait()
      if step == run.total_steps:
        run.finish(state, metric_log)
      else:
        _log.info(
          'stopped by SIGTERM at step %d; the same command goes on', step
        )


class _Run:
  """The parts of one run, put together before anything is compiled."""

  def __init__(
    self,
    config: ml_collections.ConfigDict,
    workdir: epath.Path,
    make_trainable: MakeTrainable,
  ):
    self.config = config
    self.workdir = workdir
    self.mesh = build.create_mesh(config)
    mesh_lib.check_batch(config.batch_size, self.mesh, config.optim.accumulate)
    self.profiler = profiler.Profiler(workdir, build.profiled_steps(config))
    with console.phase('opening the data'):
      self.data = build.open_data(config)
    start = build.load_weights(config)
    self.task = make_trainable(config, self.data, self.mesh, start)
    self.program = self.task.program
    build.record_derived(config, self.task.backbone)
    self.evaluations = list(self.task.evaluations)
    if config.few_shot.every:
      scorer = few_shot_evaluator.FewShotEvaluator(
        config, self.task.backbone, self.mesh
      )
      self.evaluations.append((config.few_shot.every, _few_shot(scorer)))
    self.total_steps = self.program.total_steps
    self.start_params = start and build.fit_weights(
      config, self.program.plain_model, start
    )
    self.begin = time.perf_counter()
    self._skipped = 0  # Examples before this start that could not be read,
    self._skipped_here = 0  # and since, in this process.

  @property
  def seconds(self) -> float:
    """Time of the run, earlier starts included up to their checkpoint."""
    return time.perf_counter() - self.begin

  def _count_skipped(self) -> int | None:
    """Examples of all processes that could not be read; None if none may be."""
    if not self.config.data.skip_corrupt:
      return None
    # Several processes may read the same rows.
    shares = mesh_lib.input_share(self.mesh)['process_count']
    total = processes.sum_over_processes(self._skipped_here)
    return self._skipped + total * shares // jax.process_count()

  def start(self, store: store_lib.Store) -> tuple[state_lib.State, int]:
    """The newest checkpoint's state, or a new one, and its step."""
    _log.info(
      'parameters:\n%s',
      parameter_overview.get_parameter_overview(
        self.program.file_state.params, include_stats=False
      ),
    )
    if self.mesh.size > 1:
      _log.info('mesh %s', sharding.summary(self.program.state, self.mesh))
    with console.phase('looking for a checkpoint'):
      restored = store.restore(self.program.file_state)
    if restored:
      _log.info('going on from step %d', restored.step)
      self.begin -= restored.meta['seconds']
      self._skipped = restored.meta['skipped']
      return self.program.from_file(restored.state), restored.step
    with console.phase('initialising the parameters'):
      return self.program.create_state(self.start_params), 0

  def train(
    self,
    state: state_lib.State,
    start_step: int,
    store: store_lib.Store,
    metric_log: metrics_lib.MetricLog,
    stop_signal: preemption.StopSignal,
  ) -> tuple[state_lib.State, int]:
    """Runs the loop from `start_step`."""
    if start_step == self.total_steps:
      return state, start_step
    config = self.config

    def log(progress: loop.Progress) -> None:
      metrics_lib.log_progress(
        progress,
        metric_log,
        total_steps=self.total_steps,
        batch_size=config.batch_size,
        skipped=self._count_skipped(),
      )

    def score(step: int, state: state_lib.State) -> None:
      self._score(step, state, metric_log)

    def also(evaluate: Evaluation) -> loop.Evaluation:
      return lambda step, state: evaluate(step, _weights(state), metric_log)

    def save(step: int, state: state_lib.State) -> None:
      meta = {'seconds': self.seconds, 'skipped': self._count_skipped() or 0}
      store.save(step, self.program.to_file(state), meta=meta)

    def before_step(step: int) -> None:
      self.profiler.before_step(step)
      store.check()

    with console.phase('compiling the training step'):
      train_step = self.program.compile()
    with self.profiler:
      return loop.train(
        state,
        train_step,
        self._batches(start_step),
        start_step=start_step,
        total_steps=self.total_steps,
        log_every=config.log_every,
        report=log,
        evaluations=[
          (config.eval_every, score),
          *((every, also(evaluate)) for every, evaluate in self.evaluations),
        ],
        checkpoint_every=config.checkpoint_every,
        save=save,
        before_step=before_step,
        should_stop=stop_signal.received,
      )

  def _batches(self, start_step: int) -> Iterator[steps.Batch]:
    batches = pipeline.train_batches(
      self.data.train,
      self.data.train_transform,
      batch_size=self.config.batch_size,
      seed=self.config.seed,
      start_step=start_step,
      readers=self.config.data.readers,
      skip_corrupt=self.config.data.skip_corrupt,
      **mesh_lib.input_share(self.mesh),
    )
    for batch in batches:
      self._skipped_here += int(np.sum(batch['mask'] == 0))
      needed = {name: batch[name] for name in self.program.batch}
      yield mesh_lib.put_batch(needed, self.mesh)

  def _score(
    self, step: int, state: state_lib.State, metric_log: metrics_lib.MetricLog
  ) -> tuple[dict[str, float], Any]:
    averaged = state.ema_params is not None
    metrics, scored = self.task.score(
      _weights(state), raw_params=state.params if averaged else None
    )
    metric_log.write(step, metrics)
    best = self._best(metric_log)
    if best and best[0] == step:
      _log.info('%s is the best so far', self.config.best_metric)
      self._export(state, files.BEST_WEIGHTS)
    return metrics, scored

  def _best(
    self, metric_log: metrics_lib.MetricLog
  ) -> tuple[int, float] | None:
    name = self.config.best_metric
    return metric_log.best(name) if name else None

  def _export(self, state: state_lib.State, name: str) -> None:
    weights = processes.fetch(_weights(state))
    if processes.is_first():
      checkpoints.export(stacking.unstack(weights), self.workdir / name)

  def finish(
    self, state: state_lib.State, metric_log: metrics_lib.MetricLog
  ) -> None:
    """Evaluates the last step and writes what stays of the run."""
    metrics, scored = self._score(self.total_steps, state, metric_log)
    for _, evaluate in self.evaluations:
      found = evaluate(self.total_steps, _weights(state), metric_log)
      metrics = metrics | found  # The old one is being written in a thread.
    self._export(state, files.FINAL_WEIGHTS)
    if best := self._best(metric_log):
      name = f'best/{self.config.best_metric}'
      metrics = metrics | {'best/step': best[0], name: best[1]}
    details = self.task.finish(self.workdir, scored)
    results.write(
      self.workdir,
      self.config.job,
      seconds=self.seconds,
      params=self.program.state.params,
      metrics=metrics,
      step=self.total_steps,
      num_train_examples=self.data.train.num_examples,
      **details,
    )


def _weights(state: state_lib.State) -> PyTree:
  """What the run stands for: the average where one is kept."""
  return state.params if state.ema_params is None else state.ema_params


def _few_shot(scorer: few_shot_evaluator.FewShotEvaluator) -> Evaluation:
  def evaluate(step, params, metric_log):
    metrics = few_shot_evaluator.means(scorer.score(params))
    metric_log.write(step, metrics)
    return metrics

  return evaluate
