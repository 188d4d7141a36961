// FlashAttention's forward pass (Dao et al. 2022, arXiv:2205.14135) in as few lines as it takes:
//
//     y = softmax(scale q k^T) v     with q, y (B, H, T, D) and k, v (B, H, S, D), contiguous, in float32
//
// This file is to be read; nothing but the tests runs it. attention_plain.cu is the same algorithm with all rules (masks,
// bias, dropout), tuned, and attention_forward.cu that on tensor cores.
//
// The plain way writes all T x S scores to memory, reads them for the softmax, writes the weights, and reads them again.
// Here no score ever leaves the chip. A block of 32 threads owns 32 queries, a thread for each. It walks over the keys,
// 32 at a time: it fetches their k and v into shared memory once, for all its queries, and each thread goes on with
//
//     highest   the highest score its query has met so far
//     sum       the sum of exp(score - highest) over the keys so far
//     out       the sum of exp(score - highest) * v over them: y is out / sum in the end
//
// A softmax needs the highest score of a whole row before it can begin, or its exponentials overflow. The trick (the
// "online softmax", Milakov & Gimelshein 2018, arXiv:1805.02867) is to begin with the highest so far: when a later tile
// brings a higher one, all that was added up is too large by the same factor, and is multiplied by
// exp(old highest - new highest).
//
// Start it with a grid of (T / 32 rounded up, H, B) blocks of 32 threads.
#include "primitives.cuh"

constexpr int TILE = 32;

template <int D>
__global__ void attention_minimal(const float* q, const float* k, const float* v, float* y, long long T, long long S,
                                  double scale, long long causal) {
  __shared__ float k_tile[TILE][D], v_tile[TILE][D];
  const long long head = blockIdx.z * gridDim.y + blockIdx.y;  // counted through the whole batch
  q += head * T * D;
  k += head * S * D;
  v += head * S * D;
  y += head * T * D;

  const long long query = blockIdx.x * TILE + threadIdx.x;
  const long long end = causal ? min(S, query + S - T + 1) : S;  // the last query is level with the last key
  float own[D], out[D] = {}, highest = NEGATIVE_INFINITY, sum = 0;
  UNROLL for (int i = 0; i < D; i++) own[i] = query < T ? q[query * D + i] * float(scale) : 0;

  for (long long start = 0; start < S; start += TILE) {
    __syncthreads();  // everyone is done with the tile before
    for (int i = threadIdx.x; i < TILE * D; i += TILE) {
      const bool inside = start + i / D < S;  // neighbouring threads fetch neighbouring numbers
      k_tile[i / D][i % D] = inside ? k[start * D + i] : 0;
      v_tile[i / D][i % D] = inside ? v[start * D + i] : 0;
    }
    __syncthreads();  // everyone sees all of the new tile

    float score[TILE], top = highest;
    UNROLL for (int key = 0; key < TILE; key++) {
      score[key] = 0;
      UNROLL for (int i = 0; i < D; i++) score[key] += own[i] * k_tile[key][i];
      if (start + key >= end) score[key] = NEGATIVE_INFINITY;
      top = max(top, score[key]);
    }
    if (top == float(NEGATIVE_INFINITY)) continue;  // this query has seen no key yet

    const float shrink = expf(highest - top);  // 0 at the first tile, where nothing has been added up
    highest = top;
    sum *= shrink;
    UNROLL for (int i = 0; i < D; i++) out[i] *= shrink;
    UNROLL for (int key = 0; key < TILE; key++) {
      const float weight = expf(score[key] - highest);
      sum += weight;
      UNROLL for (int i = 0; i < D; i++) out[i] += weight * v_tile[key][i];
    }
  }

  if (query >= T) return;
  UNROLL for (int i = 0; i < D; i++) y[query * D + i] = sum > 0 ? out[i] / sum : 0;
}
