// Attention for one query at a time against a long cache of keys and values, as in decoding.
//
// There is nothing to multiply in tiles: the work is to read the cache once, at the speed of memory. One head of one
// sequence would keep a single block busy, so the keys are split over SPLITS blocks, each of which leaves a partial result
// (maximum, sum, weighted values), and a second kernel joins them ("flash decoding", Dao et al. 2023).
//
// A key's D numbers are read 16 bytes to a lane by LANES = D / SIZE neighbouring lanes, so a warp reads 32 / LANES keys
// at once; each such team keeps a running softmax of its own, and they are joined in the end.
#include "attention_rules.cuh"

constexpr int WARPS = 4;

// (highest, sum, out) of some keys joined with those of others.
template <int N, class R>
__device__ __forceinline__ void join(R& highest, R& sum, R (&out)[N], R other_highest, R other_sum,
                                     const R (&other_out)[N]) {
  const R top = Largest::of(highest, other_highest);
  const R mine = highest == R(NEGATIVE_INFINITY) ? R(0) : R(exp2(highest - top));
  const R others = other_highest == R(NEGATIVE_INFINITY) ? R(0) : R(exp2(other_highest - top));
  highest = top;
  sum = sum * mine + other_sum * others;
  UNROLL for (int i = 0; i < N; i++) out[i] = out[i] * mine + other_out[i] * others;
}

template <class T, int D>
__global__ void __launch_bounds__(WARPS * 32, 1) attention_decode(
    const T* __restrict__ q, const T* __restrict__ k, const T* __restrict__ v, Wide<T>* __restrict__ partial_out,
    Wide<T>* __restrict__ partial_highest, Wide<T>* __restrict__ partial_sum, STRIDES(q), STRIDES(k), STRIDES(v),
    long long width, double scale, long long batches, RULE_PARAMETERS(T)) {
  typedef Wide<T> R;
  constexpr int SIZE = Vector<T>::SIZE, LANES = D / SIZE < 32 ? D / SIZE : 32, CHUNKS = D / SIZE / LANES;
  constexpr int N = CHUNKS * SIZE, TEAMS = 32 / LANES;
  __shared__ R warp_out[WARPS][D], warp_highest[WARPS], warp_sum[WARPS];

  const int split = blockIdx.x, splits = gridDim.x, head = blockIdx.y, batch = blockIdx.z % batches;
  const int query = blockIdx.z / batches;
  const Rules<T> rules = GATHER_RULES(T, batch, head);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, team = lane / LANES, part = lane % LANES;

  // Elements [i * LANES * SIZE + part * SIZE, + SIZE) of a row are this lane's.
  auto read = [&](R (&into)[N], const T* row) {
    UNROLL for (int i = 0; i < CHUNKS; i++) {
      const int start = (i * LANES + part) * SIZE;
      const Vector<T> chunk = start < width ? *reinterpret_cast<const Vector<T>*>(row + start) : Vector<T>{};
      UNROLL for (int e = 0; e < SIZE; e++) into[i * SIZE + e] = widen(chunk.at[e]);
    }
  };
  R question[N], out[N] = {}, highest = NEGATIVE_INFINITY, sum = 0;
  read(question, OF_HEAD(q) + query * q_row);
  UNROLL for (int i = 0; i < N; i++) question[i] *= R(scale * 1.4426950408889634);

  const int begin = rules.first_key(query), end = rules.end_key(query);
  const int per_split = (max(0, end - begin) + splits - 1) / splits;
  const int my_begin = begin + split * per_split, my_end = min(end, my_begin + per_split);
  for (int start = my_begin + warp * TEAMS; start < my_end; start += WARPS * TEAMS) {
    const int key = start + team;
    const bool seen = key < my_end && rules.allows(query, key);
    R numbers[N];
    if (seen) read(numbers, OF_HEAD(k) + key * k_row);
    R logit = 0;
    UNROLL for (int i = 0; i < N; i++) logit += seen ? question[i] * numbers[i] : R(0);
    logit = over_lanes<Plus, LANES>(logit);
    if (!seen) continue;  // all lanes of a team agree
    logit += rules.added(query, key) * R(1.4426950408889634);
    if (logit == R(NEGATIVE_INFINITY)) continue;  // a bias can close a key as a mask does
    bool keep = true;
    if (rules.threshold) keep = rules.keeps(rules.patch(query, key), query, key);
    read(numbers, OF_HEAD(v) + key * v_row);
    const R top = Largest::of(highest, logit);
    const R shrink = exp2(highest - top), p = exp2(logit - top);
    highest = top;
    sum = sum * shrink + p;
    UNROLL for (int i = 0; i < N; i++) out[i] = out[i] * shrink + (keep ? p * numbers[i] : R(0));
  }
  __syncwarp();
  UNROLL for (int distance = LANES; distance < 32; distance *= 2) {
    R other_out[N];
    UNROLL for (int i = 0; i < N; i++) other_out[i] = __shfl_xor_sync(FULL_WARP, out[i], distance);
    const R other_highest = __shfl_xor_sync(FULL_WARP, highest, distance);
    const R other_sum = __shfl_xor_sync(FULL_WARP, sum, distance);
    join(highest, sum, out, other_highest, other_sum, other_out);
  }
  if (team == 0) {
    UNROLL for (int i = 0; i < N; i++) warp_out[warp][i / SIZE * LANES * SIZE + part * SIZE + i % SIZE] = out[i];
    if (part == 0) {
      warp_highest[warp] = highest;
      warp_sum[warp] = sum;
    }
  }
  __syncthreads();
  const long long place = ((batch * heads + head) * queries + query) * splits + split;
  for (int i = threadIdx.x; i < D; i += WARPS * 32) {
    R best = NEGATIVE_INFINITY, total = 0, value[1] = {0};
    for (int w = 0; w < WARPS; w++) {
      const R other[1] = {warp_out[w][i]};
      join(best, total, value, warp_highest[w], warp_sum[w], other);
    }
    if (i < width) partial_out[place * width + i] = value[0];
    if (i == 0) {
      partial_highest[place] = best;
      partial_sum[place] = total;
    }
  }
}

// y and the log sum of one query of one head, from its partial results: one block of D threads.
template <class T>
__global__ void attention_join(const Wide<T>* __restrict__ partial_out, const Wide<T>* __restrict__ partial_highest,
                               const Wide<T>* __restrict__ partial_sum, T* __restrict__ y, Wide<T>* __restrict__ log_sums,
                               STRIDES(y), long long width, long long splits, long long threshold, long long base_two) {
  typedef Wide<T> R;
  const int query = blockIdx.x, head = blockIdx.y, batch = blockIdx.z, i = threadIdx.x;
  const long long row = ((long long)batch * gridDim.y + head) * gridDim.x + query;
  R best = NEGATIVE_INFINITY, total = 0, value[1] = {0};
  for (int split = 0; split < splits; split++) {
    const long long place = row * splits + split;
    const R other[1] = {i < width ? partial_out[place * width + i] : R(0)};
    join(best, total, value, partial_highest[place], partial_sum[place], other);
  }
  const R scale_out = total > 0 ? R(65536) / R(65536 - threshold) / total : R(0);
  if (i < width) OF_HEAD(y)[query * y_row + i] = narrow<T>(value[0] * scale_out);
  if (i == 0) {  // in the base that the backward kernel of this type works in
    const R in_base_two = best + R(log2(total));
    log_sums[row] = total > 0 ? (base_two ? in_base_two : in_base_two * R(0.6931471805599453)) : R(POSITIVE_INFINITY);
  }
}
