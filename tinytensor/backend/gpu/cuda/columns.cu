// Sums over the rows of a matrix, column by column, as the gradient of a bias is one.
//
// A team of 32 lanes reads neighbouring columns, SIZE to a lane and 16 bytes at once, and goes down the rows; a block has 8
// teams, whose sums are added up in shared memory in one order. There are as many blocks above one another as keep the GPU
// reading (gridDim.y), and each leaves a row of sums, whose sum is a second launch of the same kernel. No atomics: the
// result is the same every time.
#include "primitives.cuh"

constexpr int TEAMS = 8;

template <class T, class Out, int SIZE>
__global__ void __launch_bounds__(32 * TEAMS) column_sums(const T* __restrict__ x, Out* __restrict__ sums,
                                                          long long rows, long long width, long long stride) {
  typedef Wide<T> R;
  __shared__ R scratch[TEAMS][32 * SIZE];
  const int lane = threadIdx.x % 32, team = threadIdx.x / 32;
  const long long first = blockIdx.x * 32ll * SIZE, column = first + lane * SIZE;
  R total[SIZE] = {};
  if (column + SIZE <= width) {
#pragma unroll 4
    for (long long row = blockIdx.y * TEAMS + team; row < rows; row += gridDim.y * TEAMS) {
      R part[SIZE];
      read_part<SIZE>(part, x + row * stride + column);
      UNROLL for (int e = 0; e < SIZE; e++) total[e] += part[e];
    }
  } else if (column < width) {  // the end of a row that is no multiple of SIZE
    for (long long row = blockIdx.y * TEAMS + team; row < rows; row += gridDim.y * TEAMS) {
      UNROLL for (int e = 0; e < SIZE; e++) {
        if (column + e < width) total[e] += widen(x[row * stride + column + e]);
      }
    }
  }
  UNROLL for (int e = 0; e < SIZE; e++) scratch[team][lane * SIZE + e] = total[e];
  __syncthreads();
  for (int i = threadIdx.x; i < 32 * SIZE && first + i < width; i += 32 * TEAMS) {
    R sum = 0;
    UNROLL for (int t = 0; t < TEAMS; t++) sum += scratch[t][i];
    sums[blockIdx.y * width + first + i] = narrow<Out>(sum);
  }
}
