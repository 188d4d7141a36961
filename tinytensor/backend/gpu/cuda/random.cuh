// Random numbers without a state: Philox 4x32 with 7 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as
// 1, 2, 3"). Four random words are a function of a counter and a key, so backward draws forward's dropout mask again
// instead of loading it, whatever the order in which its threads come by.
#pragma once
#include "primitives.cuh"

struct Words {
  u32 at[4];
};

__device__ __forceinline__ Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u64 key) {
  u32 k0 = (u32)key, k1 = (u32)(key >> 32);
  UNROLL for (int round = 0; round < 7; round++) {
    u32 high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    u32 high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// A seed is given as a number, or as the place where it stands: a recorded step (graph.py) finds a new one there each time.
__device__ __forceinline__ u64 seed_of(const u64* at, u64 seed) { return at ? *at : seed; }

// Each half of a word decides one element: kept if it is at least p * 65536.
__device__ __forceinline__ bool kept(u32 word, int half, u32 threshold) {
  return ((word >> (16 * half)) & 0xffffu) >= threshold;
}

// values *= keep / (1 - p): SIZE neighbours from the element `start` of an array on, whose groups of eight share a draw
// of 128 random bits, 16 to each.
// The words are chosen by conditions, because registers have no addresses.
template <int SIZE, class R>
__device__ __forceinline__ void drop_part(R (&values)[SIZE], long long start, u32 threshold, u64 seed) {
  const long long group = start / 8;
  const Words words = philox((u32)group, (u32)(group >> 32), 0, 1, seed);
  const R scale = R(65536) / R(65536 - threshold);
  UNROLL for (int e = 0; e < SIZE; e++) {
    const int place = (int)(start % 8) + e;
    const u32 low = place & 2 ? words.at[1] : words.at[0], high = place & 2 ? words.at[3] : words.at[2];
    values[e] = kept(place & 4 ? high : low, place & 1, threshold) ? values[e] * scale : R(0);
  }
}
