"""Interpolation of two digit runs in miniature."""

import numpy as np
import pytest

import runs
from vit_jax import checkpoints, main
from vit_jax.checkpoints import finite


@pytest.fixture(scope='module')
def two_runs(tmp_path_factory):
  workdirs = []
  for seed in (0, 1):
    workdirs.append(tmp_path_factory.mktemp(f'seed-{seed}'))
    config = runs.shrink(runs.load_config('digits'))
    runs.run(runs.override(config, seed=seed), workdirs[-1])
  return workdirs


def interpolation(two_runs, alphas=(), **values):
  paths = ','.join(str(workdir / 'final.npz') for workdir in two_runs)
  config = runs.load_config('interpolate', paths)
  return runs.override(config, interpolate__alphas=alphas, **values)


def flat(path):
  return dict(np.load(path))


def test_ends_of_the_line_are_the_inputs_bit_for_bit(two_runs, tmp_path):
  config = interpolation(
    two_runs, '0,0.5,1', data__name='digits', data__eval='test'
  )
  results = runs.run(config, tmp_path)
  ends = [flat(workdir / 'final.npz') for workdir in two_runs]
  for alpha, end in zip(('0', '1'), ends, strict=True):
    point = flat(tmp_path / f'alpha_{alpha}.npz')
    assert sorted(point) == sorted(end)
    for name in end:
      np.testing.assert_array_equal(point[name], end[name])
  middle = flat(tmp_path / 'alpha_0.5.npz')
  for name in middle:
    np.testing.assert_allclose(
      middle[name], (ends[0][name] + ends[1][name]) / 2, rtol=1e-6, atol=1e-8
    )
  assert {f'alpha_{a}/test/accuracy' for a in ('0', '0.5', '1')} <= set(
    results['metrics']
  )


def test_mean_of_a_checkpoint_with_itself_is_itself(two_runs, tmp_path):
  config = interpolation([two_runs[0]] * 3)
  assert runs.run(config, tmp_path)['metrics'] == {}
  end = flat(two_runs[0] / 'final.npz')
  for name, value in flat(tmp_path / 'mean.npz').items():
    np.testing.assert_array_equal(value, end[name])


def test_form_of_gelu_travels_with_the_weights(tmp_path):
  config = runs.shrink(runs.load_config('digits'))
  config.model.gelu = 'erf'
  runs.run(config, tmp_path / 'run')
  runs.run(interpolation([tmp_path / 'run'] * 2), tmp_path / 'mean')
  _, description = checkpoints.load_with_description(
    tmp_path / 'mean' / 'mean.npz'
  )
  assert description.gelu == 'erf'


@pytest.mark.parametrize(
  ('alphas', 'number', 'message'),
  [
    ('', 1, 'expected two checkpoints, .* got 1'),
    ('0.5', 3, 'expected two checkpoints, .* got 3'),
    ('nan', 2, 'nan is not finite'),
    ('half', 2, "interpolate.alphas='half' is not a list"),
  ],
)
def test_what_cannot_be_interpolated(
  two_runs, tmp_path, alphas, number, message
):
  with pytest.raises(ValueError, match=message):
    config = interpolation([two_runs[0]] * number, alphas)
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_other_forms_of_gelu_are_refused(two_runs, tmp_path):
  config = runs.shrink(runs.load_config('digits'))
  config.model.gelu = 'erf'
  runs.run(config, tmp_path / 'other')
  two = [two_runs[0], tmp_path / 'other']
  with pytest.raises(
    ValueError, match="has gelu='tanh', but that .* has 'erf'"
  ):
    main.run(interpolation(two), tmp_path / 'run')
  runs.run(interpolation(two, model__gelu='tanh'), tmp_path / 'run')


def test_close_alphas_have_files_of_their_own(two_runs, tmp_path):
  alphas = '1,0.5,1e-3,0.1234567,0.1234568'
  runs.run(interpolation(two_runs, alphas), tmp_path)
  assert {path.stem for path in tmp_path.glob('*.npz')} == {
    'alpha_1', 'alpha_0.5', 'alpha_0.001', 'alpha_0.1234567', 'alpha_0.1234568'
  }  # fmt: skip


def test_results_that_are_not_finite_are_not_written(two_runs, tmp_path):
  larger = {k: 1e6 * v for k, v in flat(two_runs[0] / 'final.npz').items()}
  np.savez(tmp_path / 'larger.npz', **larger)
  config = interpolation(two_runs, '1e38')
  config.interpolate.paths = (
    str(tmp_path / 'larger.npz'),
    str(two_runs[1] / 'final.npz'),
  )
  with pytest.raises(finite.NonFiniteError, match=r'alpha=1e\+38: .* in'):
    main.run(config, tmp_path / 'run')
  assert not list((tmp_path / 'run').glob('*.npz'))


def test_other_shapes_are_refused(two_runs, tmp_path):
  config = runs.shrink(runs.load_config('digits'))
  config.model.mlp_dim = 32
  runs.run(config, tmp_path / 'other')
  with pytest.raises(ValueError, match='MlpBlock_0/Dense_0'):
    main.run(interpolation([two_runs[0], tmp_path / 'other']), tmp_path / 'run')
