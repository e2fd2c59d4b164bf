import re

import jax
import jax.numpy as jnp
import pytest

from vit_jax.distributed import collectives
from vit_jax.distributed.collectives import Traffic

# HLO text as written by XLA: a loop of 12 iterations, with one collective in a
# called computation.
MODULE = """
HloModule jit_f, is_scheduled=true

%wrapped (p: f32[8]) -> f32[64] {
  %p = f32[8]{0} parameter(0)
  ROOT %all-gather.1 = f32[64]{0} all-gather(%p), dimensions={0}
}

%body (c: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %c = (s32[]{:T(256)}, bf16[4,8]{1,0}) parameter(0)
  %start = ((f32[8]{0}), f32[64]{0}) async-start(%c), calls=%wrapped
  %all-reduce.2 = bf16[4,8]{1,0} all-reduce(%c), to_apply=%add
  ROOT %tuple = (s32[], bf16[4,8]{1,0}) tuple(%c, %all-reduce.2)
}

%condition (c: (s32[], bf16[4,8])) -> pred[] {
  %limit = s32[]{:T(256)} constant(12)
  %c = (s32[], bf16[4,8]{1,0}) parameter(0)
  ROOT %lt = pred[] compare(%c, %limit), direction=LT
}

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

ENTRY %main (a: bf16[4,8]) -> bf16[4,8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %while.1 = (s32[], bf16[4,8]{1,0}) while(%a), condition=%condition, body=%body
  %all-reduce.3 = (f32[10]{0}, f32[2,2]{1,0}) all-reduce(%a, %a), to_apply=%add
  %begun = (f32[8]{0}, f32[64]{0}) all-gather-start(%a), dimensions={0}
  %done = f32[64]{0} all-gather-done(%begun)
  ROOT %result = bf16[4,8]{1,0} copy(%a)
}
"""


def test_collectives_in_loops_count_once_per_iteration():
  found = collectives.traffic(MODULE)
  assert found['all-reduce'] == Traffic(
    2, 12 + 1, 12 * 4 * 8 * 2 + (10 + 4) * 4
  )
  assert found['all-gather'] == Traffic(2, 12 + 1, 12 * 64 * 4 + 64 * 4)
  assert found['reduce-scatter'] == Traffic(0, 0, 0)


@pytest.mark.parametrize(
  'branches',
  [
    'branch_computations={%wrapped, %wrapped}',
    'true_computation=%wrapped, false_computation=%wrapped',
  ],
)
def test_all_branches_of_a_conditional_count(branches):
  conditional = f'conditional(%i, %a, %a), {branches}'
  found = collectives.traffic(re.sub(r'while\(.*', conditional, MODULE))
  assert found['all-gather'] == Traffic(2, 2 + 1, (2 + 1) * 64 * 4)


def test_compiled_program_on_one_device():
  compiled = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile()
  found = collectives.traffic(compiled.as_text())
  assert found == dict.fromkeys(collectives.KINDS, Traffic(0, 0, 0))


def test_loop_with_unknown_trip_count_is_refused():
  unclear = MODULE.replace('%limit = s32[]{:T(256)} constant(12)', '')
  with pytest.raises(ValueError, match='loop'):
    collectives.traffic(unclear)


def test_loop_of_unknown_length_without_collectives_is_accepted():
  beta = jax.jit(lambda key: jax.random.beta(key, 0.2, 0.2))
  text = beta.lower(jax.random.key(0)).compile().as_text()
  assert ' while(' in text
  found = collectives.traffic(text)
  assert found == dict.fromkeys(collectives.KINDS, Traffic(0, 0, 0))


def test_other_text_is_refused():
  with pytest.raises(ValueError, match='ENTRY'):
    collectives.traffic('nothing')
