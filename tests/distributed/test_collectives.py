import re

import jax
import jax.numpy as jnp
import pytest

from vit_jax.distributed import collectives, hlo
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


def traffic(text):
  return collectives.traffic(hlo.parse(text))


def test_collectives_in_loops_count_once_per_iteration():
  found = traffic(MODULE)
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
  found = traffic(re.sub(r'while\(.*', conditional, MODULE))
  assert found['all-gather'] == Traffic(2, 2 + 1, (2 + 1) * 64 * 4)


def test_compiled_program_on_one_device():
  compiled = jax.jit(lambda x: x @ x).lower(jnp.ones((4, 4))).compile()
  found = traffic(compiled.as_text())
  assert found == dict.fromkeys(hlo.COLLECTIVES, Traffic(0, 0, 0))


def test_loop_with_unknown_trip_count_is_refused():
  unclear = MODULE.replace('%limit = s32[]{:T(256)} constant(12)', '')
  with pytest.raises(ValueError, match='loop'):
    traffic(unclear)


def test_loop_of_unknown_length_without_collectives_is_accepted():
  beta = jax.jit(lambda key: jax.random.beta(key, 0.2, 0.2))
  text = beta.lower(jax.random.key(0)).compile().as_text()
  assert ' while(' in text
  found = traffic(text)
  assert found == dict.fromkeys(hlo.COLLECTIVES, Traffic(0, 0, 0))


@pytest.mark.parametrize(
  ('groups', 'sizes'),
  [
    ('{{0,1,2,3,4,5,6,7}}', [4]),
    ('{}', [4]),
    ('[1,8]<=[8]', [4]),
    ("mesh['a'=8,'b'=1] {'a','b'}", [4]),
    ('{{0,2,4,6},{1,3,5,7}}', [4, 4]),
    ('[2,4]<=[4,2]T(1,0)', [4, 4]),
    ("mesh['a'=4,'b'=2] {'a'}", [4, 4]),
    ('{{0,1},{2,3},{4,5},{6,7}}', [1, 1, 1, 1]),
    ("mesh['a'=4,'b'=2] {'b'}", [1, 1, 1, 1]),
    ('[2,4]<=[8]', [2, 2]),
  ],
)
def test_chips_send_what_a_ring_of_them_would(groups, sizes):
  # Four chips with two cores each; 1,000 floats per core.
  chips = [0, 0, 1, 1, 2, 2, 3, 3]
  text = f"""
ENTRY %main (a: f32[1000]) -> f32[1000] {{
  %a = f32[1000]{{0}} parameter(0)
  ROOT %r = f32[1000]{{0}} KIND(%a), replica_groups={groups}, channel_id=1
}}
"""
  sent = {
    kind: collectives.bytes_per_chip(
      hlo.parse(text.replace('KIND', kind)), chips
    )
    for kind in ('all-reduce', 'all-gather', 'reduce-scatter')
  }
  # Each group of n chips sends n times 2 (n - 1) / n of the array.
  assert sent['all-reduce'] == sum(2 * (n - 1) for n in sizes) * 4000 / 4
  # The result of an all-gather is the operand of a reduce-scatter.
  assert sent['all-gather'] == sent['all-reduce'] / 2
  assert sent['reduce-scatter'] == sent['all-gather'] * 8 / len(sizes)


def test_unknown_groups_are_refused():
  text = MODULE.replace('all-gather(%p)', 'all-gather(%p), replica_groups=[x]')
  with pytest.raises(ValueError, match='cannot read'):
    collectives.bytes_per_chip(hlo.parse(text), [0, 1])


def test_only_permutes_between_chips_are_sent():
  permute = 'collective-permute(%a), source_target_pairs={{0,1},{1,2},{2,0}}'
  text = MODULE.replace('all-gather-start(%a)', permute).replace(
    '(f32[8]{0}, f32[64]{0}) collective', 'f32[64]{0} collective'
  )
  with_permute = collectives.bytes_per_chip(hlo.parse(text), [0, 0, 1, 1])
  without = text.replace('{0,1},{1,2},{2,0}', '{0,1}')
  difference = with_permute - collectives.bytes_per_chip(
    hlo.parse(without), [0, 0, 1, 1]
  )
  assert difference == 2 * 64 * 4 / 2


def test_other_text_is_refused():
  with pytest.raises(ValueError, match='ENTRY'):
    traffic('nothing')
