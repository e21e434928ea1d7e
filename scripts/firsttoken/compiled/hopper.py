"""Products of up to 192 rows on Hopper, in CUDA C++: its tensor cores (wgmma) fed by its copy engine (TMA).

The copy engine asks for the first weights, as many as shared memory holds, while the kernel before this one still runs,
so that the memory is busy in between, too. NVRTC, which torch's CUDA builds bring along, compiles the kernel at its
first use.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from firsttoken.compiled.tiles import FEW_ROWS, Linear, num_sms

BLOCK_TOKENS = range(16, 193, 16)  # rows of x that a block takes: all of them. More do not fit three groups' registers
MOST_ROWS = BLOCK_TOKENS[-1]
MOST_ADDED_ROWS = 112
SHARED_BYTES = 227 << 10  # of a block, on Hopper

# d[4 * j + i] of `multiply` is of weight row 16 * warp + lane / 4 + 8 * (i / 2), token 8 * j + 2 * (lane % 4) + i % 2.
SOURCE = r"""
typedef unsigned int u32;
typedef unsigned long long u64;
struct alignas(64) TensorMap { u64 opaque[16]; };

constexpr int ROWS = 64 * GROUPS, OUT_ROWS = GATED ? ROWS / 2 : ROWS;
constexpr u32 WEIGHT_BYTES = ROWS * 128, STAGE_BYTES = WEIGHT_BYTES + TOKENS * 128;

__device__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ void wait_for(u32 barrier, u32 parity) {
  u32 done;
  do {
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
  } while (!done);
}

// 64 columns of 8-row groups from `group` on, of gate and up in turns where there are both; read once.
__device__ void load_weight(u32 to, const TensorMap* map, u32 full, int column, int group) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(full), "r"(STAGE_BYTES) : "memory");
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
               " [%0], [%1, {%3, %4, %4, %5}], [%2], %6;" ::"r"(to), "l"(map), "r"(full), "r"(column), "r"(0),
               "r"(group), "l"(0x12F0000000000000ull) : "memory");
}

__device__ void load_tokens(u32 to, const TensorMap* map, u32 full, int column) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
               " [%0], [%1, {%3, %4}], [%2];" ::"r"(to), "l"(map), "r"(full), "r"(column), "r"(0) : "memory");
}

// For wgmma: rows of 128 bytes, swizzled as the copies are; 8 rows every 1024 bytes.
__device__ u64 matrix(u32 address) { return 1ull << 62 | 64ull << 32 | 1ull << 16 | (address & 0x3FFFF) >> 4; }

// 64 weight rows times all tokens, over 16 columns. `compiled` writes the operands' numbers, and all of d for SUMS.
__device__ void multiply(float (&d)[TOKENS / 2], u64 weight, u64 tokens, int add) {
  asm volatile("{ .reg .pred p; setp.ne.b32 p, %ADD, 0; wgmma.mma_async.sync.aligned.m64n" WIDTH "k16"
               ".f32." TYPE "." TYPE " {%SUMS}, %WEIGHT, %TOKENS, p, 1, 1, 0, 0; }"
               : SUMS : "l"(weight), "l"(tokens), "r"(add));
}

__device__ u32 packed(float low, float high) {
  u32 both;
  asm("cvt.rn." TYPE "x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

__device__ float gated(float gate, float up) { return gate / (1.0f + __expf(-gate)) * up; }

// Block (t, p): weight rows of tile t times all tokens, over part p of the columns; `steps` of 64 columns in all.
extern "C" __global__ void __launch_bounds__(128 * GROUPS + 32, 1)
product(const __grid_constant__ TensorMap weight, const __grid_constant__ TensorMap tokens, void* out, int count,
        int rows, int steps, int early) {
  extern __shared__ char memory[];
  __shared__ u64 barriers[2 * STAGES];
  __shared__ alignas(16) char transposed[PARTS ? 16 : GROUPS * 4 * 512];
  const u32 base = (shared_address(memory) + 1023) & ~1023u, full = shared_address(barriers), empty = full + 8 * STAGES;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int first = blockIdx.y * steps / gridDim.y, end = (blockIdx.y + 1) * steps / gridDim.y;
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < STAGES; stage++) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(full + 8 * stage));
      asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(empty + 8 * stage), "r"(GROUPS));
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  __syncthreads();

  if (warp == 4 * GROUPS) {  // copies
    if (lane > 0) return;
    const int group = blockIdx.x * (OUT_ROWS / 8), ahead = min(first + STAGES, end);
    for (int step = first, stage = 0; step < ahead; step++, stage++)
      load_weight(base + stage * STAGE_BYTES, &weight, full + 8 * stage, 64 * step, group);
    if (early) asm volatile("griddepcontrol.wait; griddepcontrol.launch_dependents;" ::: "memory");
    for (int step = first, stage = 0; step < ahead; step++, stage++)
      load_tokens(base + stage * STAGE_BYTES + WEIGHT_BYTES, &tokens, full + 8 * stage, 64 * step);
    for (int step = ahead; step < end; step++) {
      const int stage = (step - first) % STAGES;
      wait_for(empty + 8 * stage, ((step - first) / STAGES - 1) % 2);
      load_weight(base + stage * STAGE_BYTES, &weight, full + 8 * stage, 64 * step, group);
      load_tokens(base + stage * STAGE_BYTES + WEIGHT_BYTES, &tokens, full + 8 * stage, 64 * step);
    }
    return;
  }
  float d[TOKENS / 2];
  for (int step = 0; step < end - first; step++) {
    const int stage = step % STAGES;
    wait_for(full + 8 * stage, step / STAGES % 2);
    const u32 place = base + stage * STAGE_BYTES;
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < 4; i++)
      multiply(d, matrix(place + warp / 4 * 8192 + 32 * i), matrix(place + WEIGHT_BYTES + 32 * i), step + i);
    asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 1;" ::: "memory");
    if (step > 0 && threadIdx.x % 128 == 0)  // what the step before has read
      asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(empty + 8 * ((step - 1) % STAGES)) : "memory");
  }
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
  for (int i = 0; i < TOKENS / 2; i++) asm volatile("" : "+f"(d[i])::"memory");

#if PARTS
  const int row = blockIdx.x * ROWS + 16 * warp + lane / 4;
#pragma unroll
  for (int i = 0; i < TOKENS / 2; i++) {
    const int token = i / 4 * 8 + lane % 4 * 2 + i % 2, own = row + i / 2 % 2 * 8;
    if (token < count && own < rows) ((float*)out)[((u64)blockIdx.y * count + token) * rows + own] = d[i];
  }
#else
  // Through shared memory, so that a lane stores 8 rows of one token: four matrices of 8 rows and 8 tokens at a time,
  // side by side or, gated, of 32 tokens.
  const u32 place = shared_address(transposed) + 512 * warp;
#pragma unroll
  for (int j = 0; j < TOKENS / 8; j += GATED ? 4 : 2) {
    u32 part[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int at = GATED ? 4 * (j + i) : 4 * j + 2 * i;
      if (at < TOKENS / 2)
        part[i] = GATED ? packed(gated(d[at], d[at + 2]), gated(d[at + 1], d[at + 3])) : packed(d[at], d[at + 1]);
    }
    const u32 to = place + (GATED ? lane : lane / 16 * 16 + lane % 8 * 2 + lane / 8 % 2) * 16;
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};"
                 ::"r"(to), "r"(part[0]), "r"(part[1]), "r"(part[2]), "r"(part[3]) : "memory");
    __syncwarp();
    const uint4 eight = *(const uint4*)(transposed + 512 * warp + 16 * lane);
    __syncwarp();
    const int token = 8 * j + (GATED ? lane : lane / 2);
    const int row = blockIdx.x * OUT_ROWS + (GATED ? 8 * warp : 16 * warp + lane % 2 * 8);
    if (token < count && row < rows) *(uint4*)((char*)out + 2 * ((u64)token * rows + row)) = eight;
  }
#endif
}
"""


@dataclass(frozen=True)
class HopperTiles:
    """What a kernel is compiled for; see `SOURCE`."""

    groups: int  # of 64 weight rows, multiplied by a warpgroup each
    tokens: int
    stages: int  # blocks of 64 columns in flight or in use
    parts: int  # of the columns, of 64 or more each, with a float32 result each; 0: one result in the model's dtype
    gated: bool
    bfloat16: bool

    @property
    def ring_bytes(self) -> int:
        """Shared memory for the stages, and for where they begin: at a multiple of 1024."""
        return self.stages * (64 * self.groups + self.tokens) * 128 + 1024


def hopper_tiles(linear: Linear, count: int, dtype: torch.dtype, sms: int) -> HopperTiles:
    """As few rounds of blocks as there can be, of as many rows; for a residual product one round, of parts."""
    tokens = next(tokens for tokens in BLOCK_TOKENS if count <= tokens)
    tall = linear.weight.shape[0]
    if linear.residual:
        steps = -(-linear.in_features // 64)
        groups, parts = 1, max(1, min(sms // -(-tall // 64), steps))
    else:
        groups, parts = min((3, 2, 1), key=lambda groups: groups * -(-tall // (64 * groups * sms))), 0
    static_bytes = 512 + (0 if parts else 2048 * groups)
    stages = (SHARED_BYTES - 1024 - static_bytes) // ((64 * groups + tokens) * 128)
    return HopperTiles(groups, tokens, stages, parts, linear.gated, dtype == torch.bfloat16)


@functools.cache
def available(device: torch.device) -> bool:
    """Whether the kernel runs here: on Hopper, with NVIDIA's Python bindings, which torch's wheels for CUDA require."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != (9, 0):
        return False
    return find_spec("cuda") is not None and find_spec("cuda.bindings") is not None


def takes(linear: Linear, x: torch.Tensor) -> bool:
    """Whether `multiply_rows` computes this product: where it is the fastest on an H100. Of a few rows with 8-bit
    weights that is `prefill.linear_rows_kernel`, and cuBLAS, which adds in place, of many added to the residual with
    no more columns than rows."""
    count = x.shape[0]
    if count > MOST_ROWS or x.element_size() != 2 or linear.bias is not None or not available(x.device):
        return False
    few_bytes = linear.scale is not None and count <= FEW_ROWS
    added = linear.residual and linear.in_features <= linear.out_features and count > MOST_ADDED_ROWS
    aligned = linear.in_features % 8 == 0 and linear.out_features % 8 == 0  # what the copy engine asks for
    return aligned and not few_bytes and not added


def multiply_rows(linear: Linear, weight: torch.Tensor, x: torch.Tensor, early: bool) -> torch.Tensor:
    """`linear`, whose weight in the dtype of `x` is `weight`, of each row of `x` -> `[count, out_features]`, or for a
    residual product float32 `[parts, count, out_features]`. `early`: the kernel is launched before the one before it
    has ended, and loads weights, which no kernel may write then."""
    from cuda.bindings import driver

    count, columns, rows = x.shape[0], x.shape[1], linear.out_features
    tiles = hopper_tiles(linear, count, x.dtype, num_sms(x.device))
    out = x.new_empty(tiles.parts, count, rows, dtype=torch.float32) if tiles.parts else x.new_empty(count, rows)
    halves = 2 if linear.gated else 1
    shape, box = (columns, 8, halves, rows // 8), (64, 8, halves, 8 * tiles.groups // halves)
    weight_map = _tensor_map(weight, shape, (rows * columns, 8 * columns), box)
    tokens_map = _tensor_map(x, (columns, count), (), (64, tiles.tokens))
    values = (ctypes.c_uint64(out.data_ptr()), *map(ctypes.c_int, (count, rows, -(-columns // 64), early)))
    pointers = (weight_map.getPtr(), tokens_map.getPtr(), *map(ctypes.addressof, values))
    arguments = (ctypes.c_void_p * len(pointers))(*pointers)
    launch = driver.CUlaunchConfig()
    launch.gridDimX, launch.gridDimY, launch.gridDimZ = -(-rows * halves // (64 * tiles.groups)), max(1, tiles.parts), 1
    launch.blockDimX, launch.blockDimY, launch.blockDimZ = 128 * tiles.groups + 32, 1, 1
    launch.sharedMemBytes = tiles.ring_bytes
    launch.hStream = torch.cuda.current_stream().cuda_stream
    if early:
        attribute = driver.CUlaunchAttribute()
        attribute.id = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
        attribute.value.programmaticStreamSerializationAllowed = 1
        launch.attrs, launch.numAttrs = [attribute], 1
    _value(driver.cuLaunchKernelEx(launch, _kernel(tiles), ctypes.addressof(arguments), 0))
    return out


def _tensor_map(
    tensor: torch.Tensor, shape: tuple[int, ...], outer_strides: tuple[int, ...], box: tuple[int, ...]
) -> Any:
    """How the copy engine finds blocks of `box` in a tensor of 16 bits, the innermost dimension first. Strides, in
    elements: of the second dimension the length of the first, then `outer_strides`."""
    from cuda.bindings import driver

    strides = (shape[0], *outer_strides)
    kind = driver.CUtensorMapDataType
    return _value(
        driver.cuTensorMapEncodeTiled(
            kind.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
            if tensor.dtype == torch.bfloat16
            else kind.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            len(shape),
            tensor.data_ptr(),
            [driver.cuuint64_t(size) for size in shape],
            [driver.cuuint64_t(2 * stride) for stride in strides],
            [driver.cuuint32_t(size) for size in box],
            [driver.cuuint32_t(1)] * len(shape),
            driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
            driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
            driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    )


@functools.cache
def _kernel(tiles: HopperTiles) -> Any:
    from cuda.bindings import driver

    function = _value(driver.cuModuleGetFunction(_value(driver.cuModuleLoadData(compiled(tiles))), b"product"))
    largest = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    _value(driver.cuFuncSetAttribute(function, largest, tiles.ring_bytes))
    return function


def compiled(tiles: HopperTiles) -> bytes:
    """Machine code (a cubin) for these tiles. Raises RuntimeError with the compiler's log."""
    from cuda.bindings import nvrtc

    half, source = tiles.tokens // 2, SOURCE
    for name, operand in {
        "%SUMS": ", ".join(f"%{i}" for i in range(half)),
        "SUMS": ", ".join(f'"+f"(d[{i}])' for i in range(half)),
        "%WEIGHT": f"%{half}",
        "%TOKENS": f"%{half + 1}",
        "%ADD": f"%{half + 2}",
    }.items():
        source = source.replace(name, operand)
    program = _value(nvrtc.nvrtcCreateProgram(source.encode(), b"product.cu", 0, [], []))
    constants = {
        "GROUPS": tiles.groups, "TOKENS": tiles.tokens, "STAGES": tiles.stages, "PARTS": tiles.parts,
        "GATED": int(tiles.gated), "WIDTH": f'"{tiles.tokens}"', "TYPE": '"bf16"' if tiles.bfloat16 else '"f16"',
    }  # fmt: skip
    options = [b"--gpu-architecture=sm_90a", *(f"-D{name}={value}".encode() for name, value in constants.items())]
    (error,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = b" " * _value(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"NVRTC could not compile the product for {tiles}: {log.decode(errors='replace')}")
    cubin = bytes(_value(nvrtc.nvrtcGetCUBINSize(program)))
    _value(nvrtc.nvrtcGetCUBIN(program, cubin))
    return cubin


def _value(result: tuple[Any, ...]) -> Any:
    """What a call of CUDA returns beside its status. Raises RuntimeError where that is an error."""
    status, *values = result
    if int(status) != 0:
        raise RuntimeError(f"CUDA: {status.name}")
    return values[0] if values else None
