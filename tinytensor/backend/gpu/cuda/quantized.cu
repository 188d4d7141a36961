// Products of small integers on the tensor cores: x (N, K) int8 times the transpose of w (M, K), of 8 or 4 bits.
//
// 8 bits: y (N, M) int32, exact. 4 bits: two weights to a byte; each group of K / G columns is summed exactly in int32, then
// scaled and added in float. So the weights come from memory as one byte, or half a byte, each.
//
// Tiles: 64 rows of x by 64 rows of w, 64 columns at a time. Rows in shared memory are 80 bytes apart: the 8 x 4 words that a
// warp reads at once then lie in 32 different banks. K must be a multiple of 64 (the caller pads with zeros), and a group of 32.
#include "primitives.cuh"

constexpr int TILE = 64, STEP = 64, ROW = 80;

template <int BITS> struct Result { typedef int type; };
template <> struct Result<4> { typedef float type; };

__device__ __forceinline__ u32 word(const unsigned char* tile, int row, int start) {
  return *reinterpret_cast<const u32*>(tile + row * ROW + start);
}

// Four bytes of two nibbles each, as the eight bytes that the tensor core takes. Nibble xor 8 minus 8 extends its sign.
__device__ __forceinline__ void unpack(u32 packed, unsigned char* to) {
  UNROLL for (int i = 0; i < 8; i++) to[i] = (unsigned char)(((packed >> (4 * i) & 15) ^ 8) - 8);
}

template <int BITS>
__global__ void __launch_bounds__(128, 4) integer_matmul(
    const signed char* __restrict__ x, const unsigned char* __restrict__ w, const float* __restrict__ scales,
    typename Result<BITS>::type* __restrict__ y, long long n, long long m, long long k, long long groups) {
  __shared__ __align__(16) unsigned char x_tile[TILE * ROW];
  __shared__ __align__(16) unsigned char w_tile[TILE * ROW];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const long long first = blockIdx.y * (long long)TILE, first_out = blockIdx.x * (long long)TILE;
  const long long group = k / groups;
  int sums[TILE / 8][4] = {};
  float totals[TILE / 8][4] = {};

  for (long long start = 0; start < k; start += STEP) {
    __syncthreads();  // everyone is done with the last tiles
    UNROLL for (int i = threadIdx.x; i < TILE * (STEP / 16); i += 128) {
      const int row = i / (STEP / 16), chunk = i % (STEP / 16) * 16;
      uint4 values = make_uint4(0, 0, 0, 0);
      if (first + row < n) values = *reinterpret_cast<const uint4*>(x + (first + row) * k + start + chunk);
      *reinterpret_cast<uint4*>(x_tile + row * ROW + chunk) = values;
      if (BITS == 8) {
        values = make_uint4(0, 0, 0, 0);
        if (first_out + row < m) values = *reinterpret_cast<const uint4*>(w + (first_out + row) * k + start + chunk);
        *reinterpret_cast<uint4*>(w_tile + row * ROW + chunk) = values;
      } else {
        uint2 packed = {0, 0};
        const long long place = (first_out + row) * k + start + chunk;
        if (first_out + row < m) packed = *reinterpret_cast<const uint2*>(w + place / 2);
        unpack(packed.x, w_tile + row * ROW + chunk);
        unpack(packed.y, w_tile + row * ROW + chunk + 8);
      }
    }
    __syncthreads();
    UNROLL for (int step = 0; step < STEP; step += 32) {
      const int row = warp * 16 + g;
      const u32 left[4] = {word(x_tile, row, step + t * 4), word(x_tile, row + 8, step + t * 4),
                           word(x_tile, row, step + 16 + t * 4), word(x_tile, row + 8, step + 16 + t * 4)};
      UNROLL for (int out = 0; out < TILE / 8; out++) {
        const u32 right[2] = {word(w_tile, out * 8 + g, step + t * 4), word(w_tile, out * 8 + g, step + 16 + t * 4)};
        multiply_add_int8(sums[out], left, right);
      }
      if (BITS == 4 && (start + step + 32) % group == 0) {  // a group ends here
        const long long number = (start + step) / group;
        UNROLL for (int out = 0; out < TILE / 8; out++) {
          UNROLL for (int i = 0; i < 4; i++) {
            const long long column = first_out + out * 8 + t * 2 + i % 2;
            if (column < m) totals[out][i] += scales[column * groups + number] * (float)sums[out][i];
            sums[out][i] = 0;
          }
        }
      }
    }
  }
  UNROLL for (int out = 0; out < TILE / 8; out++) {
    UNROLL for (int i = 0; i < 4; i++) {
      const long long row = first + warp * 16 + g + i / 2 * 8, column = first_out + out * 8 + t * 2 + i % 2;
      if (row < n && column < m) y[row * m + column] = BITS == 4 ? totals[out][i] : sums[out][i];
    }
  }
}
