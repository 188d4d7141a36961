// What is done to all rows of a matrix column by column: a bias is added to them, and its gradient is their sum.
//
// A team of 32 lanes takes neighbouring columns, SIZE to a lane and 16 bytes at once, and goes down the rows; a block has 8
// teams. There are as many blocks above one another as keep the GPU reading (gridDim.y). In sums, the teams of a block are
// added up in shared memory in one order, and each block leaves a row, whose sum is a second launch of the same kernel. No
// atomics: the result is the same every time.
#include "primitives.cuh"

constexpr int TEAMS = 8;

// PRODUCT: of the rows of x times `factors`, element by element, which are written into `products` on the way, as GELU's
// gradient and that of the bias before it. Those two are contiguous; a row of x begins `stride` elements after the last.
template <class T, class Out, int SIZE, int PRODUCT>
__global__ void __launch_bounds__(32 * TEAMS) column_sums(const T* __restrict__ x, const T* __restrict__ factors,
                                                          T* __restrict__ products, Out* __restrict__ sums,
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
      if (PRODUCT) {
        R factor[SIZE];
        read_part<SIZE>(factor, factors + row * width + column);
        UNROLL for (int e = 0; e < SIZE; e++) part[e] *= factor[e];
        write_part<SIZE, T, true>(products + row * width + column, part);
      }
      UNROLL for (int e = 0; e < SIZE; e++) total[e] += part[e];
    }
  } else if (column < width) {  // the end of a row that is no multiple of SIZE
    for (long long row = blockIdx.y * TEAMS + team; row < rows; row += gridDim.y * TEAMS) {
      UNROLL for (int e = 0; e < SIZE; e++) {
        if (column + e >= width) break;
        R value = widen(x[row * stride + column + e]);
        if (PRODUCT) {
          value *= widen(factors[row * width + column + e]);
          products[row * width + column + e] = narrow<T>(value);
        }
        total[e] += value;
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

// y += bias, in every row. (CuPy's own sum of 16-bit numbers reads two bytes at a time.)
template <class T, int SIZE>
__global__ void __launch_bounds__(32 * TEAMS) add_bias(T* __restrict__ y, const T* __restrict__ bias, long long rows,
                                                       long long width, long long stride) {
  const long long column = (blockIdx.x * 32ll + threadIdx.x % 32) * SIZE;
  const long long first = blockIdx.y * TEAMS + threadIdx.x / 32;
  if (column + SIZE <= width) {
    Wide<T> shift[SIZE];
    read_part<SIZE>(shift, bias + column);
#pragma unroll 4
    for (long long row = first; row < rows; row += gridDim.y * TEAMS) {
      Wide<T> values[SIZE];
      read_part<SIZE>(values, y + row * stride + column);
      UNROLL for (int e = 0; e < SIZE; e++) values[e] += shift[e];
      write_part<SIZE>(y + row * stride + column, values);
    }
  } else {
    for (long long row = first; row < rows; row += gridDim.y * TEAMS) {
      for (long long place = column; place < width; place++) {
        y[row * stride + place] = narrow<T>(widen(y[row * stride + place]) + widen(bias[place]));
      }
    }
  }
}
