// Tiles of 16-bit numbers in shared memory, and their way into the tensor core's registers.
//
// A tile is ROWS x D, row by row, in chunks of 16 bytes. ldmatrix reads a column of chunks, 8 rows at once, and shared
// memory serves 8 chunks at once only from 8 different bank groups. So the chunks of a row are stored in an order that
// depends on the row (chunk xor row), and every 8 rows of a column of chunks lie in 8 different groups.
#pragma once
#include "primitives.cuh"

template <int D> __device__ __forceinline__ int place_in_tile(int row, int chunk) {
  constexpr bool whole_banks = D / 8 % 8 == 0;  // a row fills all 8 groups evenly; else two rows do
  return row * D + (chunk ^ (whole_banks ? row & 7 : row / 2 & 3)) * 8;
}

// Rows [first, first + ROWS) of a matrix (rows x width, `stride` elements from row to row), zeros beyond its ends.
template <int ROWS, int D, int THREADS, class T>
__device__ __forceinline__ void load_tile(T* tile, const T* matrix, int stride, int first, int rows, int width) {
  constexpr int CHUNKS = D / 8;
  UNROLL for (int start = 0; start < ROWS * CHUNKS; start += THREADS) {
    int i = start + threadIdx.x;
    int row = i / CHUNKS, chunk = i % CHUNKS;
    if (ROWS * CHUNKS % THREADS != 0 && row >= ROWS) break;
    bool inside = first + row < rows && chunk * 8 < width;
    const T* source = inside ? matrix + (long long)(first + row) * stride + chunk * 8 : matrix;
    copy_async(tile + place_in_tile<D>(row, chunk), source, inside);
  }
}

// The left factor: 16 rows of a tile from `row` on, columns 16 k .. 16 k + 15.
template <int D, class T> __device__ __forceinline__ void load_left(u32 (&a)[4], const T* tile, int row, int k) {
  int lane = threadIdx.x % 32;
  load_matrices<false>(a, tile + place_in_tile<D>(row + lane % 16, k * 2 + lane / 16));
}
// The same from a tile that holds the left factor transposed: tile rows 16 k .. are its columns.
template <int D, class T>
__device__ __forceinline__ void load_left_transposed(u32 (&a)[4], const T* tile, int row, int k) {
  int lane = threadIdx.x % 32;
  load_matrices<true>(a, tile + place_in_tile<D>(k * 16 + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2));
}
// The right factor, 16 of its columns from `column` on, k as above, from a tile whose rows are its columns.
template <int D, class T>
__device__ __forceinline__ void load_right_of_rows(u32 (&b)[2][2], const T* tile, int column, int k) {
  int lane = threadIdx.x % 32;
  u32 r[4];
  load_matrices<false>(r, tile + place_in_tile<D>(column + lane % 8 + lane / 16 * 8, k * 2 + lane / 8 % 2));
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}
// The same from a tile whose rows are its rows.
template <int D, class T>
__device__ __forceinline__ void load_right(u32 (&b)[2][2], const T* tile, int column, int k) {
  int lane = threadIdx.x % 32;
  u32 r[4];
  load_matrices<true>(r, tile + place_in_tile<D>(k * 16 + lane % 16, column / 8 + lane / 16));
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// Two neighbouring accumulators (16 x 16) rounded to T: they already lie as a left factor must.
template <class T> __device__ __forceinline__ void as_left(u32 (&a)[4], const float (&first)[4], const float (&second)[4]) {
  a[0] = pack<T>(first[0], first[1]);
  a[1] = pack<T>(first[2], first[3]);
  a[2] = pack<T>(second[0], second[1]);
  a[3] = pack<T>(second[2], second[3]);
}
