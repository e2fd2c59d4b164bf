# ruff: noqa: E501
"""Costs of hand-written programs; test_compilation.py has a compiled one."""

import pytest

from vit_jax.distributed import hlo, program_cost

# As written by the TPU's compiler: 24 iterations read a layer of weights from
# stacked ones, and write a row of results.
MODULE = """
HloModule jit_f, is_scheduled=true

%slice (w: f32[24,8,128], i: s32[]) -> f32[1,8,128] {
  %w = f32[24,8,128]{2,1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(256)} parameter(1)
  ROOT %layer = f32[1,8,128]{2,1,0:T(8,128)} dynamic-slice(%w, %i, %i, %i)
}

%update (rows: bf16[24,128], x: bf16[8,128], i: s32[]) -> bf16[24,128] {
  %rows = bf16[24,128]{1,0:T(8,128)(2,1)} parameter(0)
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(1)
  %i = s32[]{:T(256)} parameter(2)
  %row = bf16[1,128]{1,0:T(8,128)(2,1)} slice(%x), slice={[0:1], [0:128]}
  ROOT %new = bf16[24,128]{1,0:T(8,128)(2,1)} dynamic-update-slice(%rows, %row, %i, %i)
}

%body (c: (s32[], bf16[24,128], f32[24,8,128])) -> (s32[]) {
  %c = (s32[], bf16[24,128]{1,0}, f32[24,8,128]{2,1,0}) parameter(0)
  %i = s32[]{:S(6)} get-tuple-element(%c), index=0
  %rows = bf16[24,128]{1,0:T(8,128)(2,1)} get-tuple-element(%c), index=1
  %w = f32[24,8,128]{2,1,0:T(8,128)} get-tuple-element(%c), index=2
  %layer = f32[1,8,128]{2,1,0:T(8,128)} fusion(%w, %i), kind=kLoop, calls=%slice, backend_config={"window_config":{"estimated_cycles":"100"}}
  %start = (f32[1,8,128]{2,1,0:T(8,128)S(1)}, f32[1,8,128]{2,1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%layer)
  %near = f32[1,8,128]{2,1,0:T(8,128)S(1)} copy-done(%start)
  %x = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} convert(%near)
  %new = bf16[24,128]{1,0:T(8,128)(2,1)} fusion(%rows, %x, %i), kind=kLoop, calls=%update
  ROOT %t = (s32[]) tuple(%i)
}

%condition (c: (s32[])) -> pred[] {
  %c = (s32[]{:S(6)}) parameter(0)
  %limit = s32[]{:S(6)} constant(24)
  ROOT %lt = pred[]{:S(6)} compare(%c, %limit), direction=LT
}

ENTRY %main (a: bf16[3,2,5,7], b: bf16[3,2,6,7], m: f32[5,100]) -> (s32[]) {
  %a = bf16[3,2,5,7]{3,2,1,0} parameter(0)
  %b = bf16[3,2,6,7]{3,2,1,0} parameter(1)
  %c = bf16[3,2,5,6]{3,2,1,0:S(1)} convolution(%a, %b), window={size=3x2 stride=2x1 lhs_dilate=3x2}, dim_labels=01bf_01oi->01bf
  %m = f32[5,100]{1,0:T(8,128)} parameter(2)
  %n = f32[5,100]{1,0:T(8,128)S(1)} copy(%m), backend_config={"window_config":{"estimated_cycles":"7"}}
  ROOT %w = (s32[]) while(%n), condition=%condition, body=%body
}
"""


def test_products_of_stacked_matrices():
  program = hlo.parse(MODULE)
  # Three times two products of 5x7 and 7x6 matrices, without the zeros that
  # separate them.
  assert program_cost.operations(program) == 3 * 2 * (2 * 5 * 7 * 6)


@pytest.mark.parametrize(
  ('instruction', 'operations'),
  [
    (
      '%c = f32[8,112,112,64]{3,2,1,0} convolution(%a, %b), window={size=7x7'
      ' stride=2x2 pad=3_3x3_3}, dim_labels=b01f_01io->b01f',
      # 112 windows of 7, of which the first two and the last reach 3, 1 and 2
      # pixels beyond the image.
      2 * 8 * 64 * 3 * (112 * 7 - 3 - 1 - 2) ** 2,
    ),
    (
      '%c = f32[8,224,224,7,64]{3,2,1,0} dot(%a, %b),'
      ' lhs_contracting_dims={3}, rhs_contracting_dims={2}',
      2 * 8 * 224 * 224 * 7 * 64 * 3,
    ),
  ],
)
def test_products(instruction, operations):
  program = hlo.parse(f"""
ENTRY %main (a: f32[8,224,224,3]) -> f32[8] {{
  %a = f32[8,224,224,3]{{3,2,1,0}} parameter(0)
  %b = f32[7,7,3,64]{{3,2,1,0}} parameter(1)
  {instruction}
}}
""")
  assert program_cost.operations(program) == operations


def test_bytes_of_hbm():
  layer, row = 8 * 128 * 4, 8 * 128 * 2  # A row takes a tile of eight.
  # Per iteration: reads and writes a layer, copies it to the chip, and writes
  # a row. The rest is on the chip.
  loop = 24 * (2 * layer + layer + row)
  product = 3 * 2 * (5 + 6) * 7 * 2
  copy = 8 * 128 * 4  # A tile for 5x100 floats.
  assert program_cost.hbm_bytes(hlo.parse(MODULE)) == loop + product + copy


def test_loop_that_the_compiler_unrolled():
  text = (
    MODULE.replace(
      'ROOT %t = (s32[]) tuple(%i)',
      """%two = s32[]{:S(6)} constant(2)
  %j = s32[]{:S(6)} add(%i, %two)
  ROOT %t = (s32[]) tuple(%j)""",
    )
    .replace('compare(%c, %limit)', 'compare(%i, %limit)')
    .replace(
      '%limit =', '%i = s32[]{:S(6)} get-tuple-element(%c), index=0\n  %limit ='
    )
  )
  assert program_cost.estimated_cycles(hlo.parse(text)) == 24 // 2 * 100 + 7


def test_estimated_cycles():
  assert program_cost.estimated_cycles(hlo.parse(MODULE)) == 24 * 100 + 7
