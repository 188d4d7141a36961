// Attention backward on the tensor cores: FlashAttention-2 (Dao 2023, arXiv:2307.08691).
//
// With P = exp(S - log_sum) made again from q, k and the forward pass's row sums, and delta = rowsum(dy * y):
//     dV = P^T dY,   dP = dY V^T,   dS = P * (dP - delta),   dQ = scale dS K,   dK = scale dS^T Q,   dbias = dS
//
// A block owns a tile of keys of one head and walks over the queries. It computes S^T = K Q^T and dP^T = V dY^T, so that
// P^T and dS^T lie in registers as left factors of dV and dK, which stay there until the end. Only dS takes the way through
// shared memory, for dQ, whose tiles are added up in global memory by atomics (float).
//
// Tiles: KEYS = WARPS * 16 keys, QUERIES = 64 queries (32 with extras above D = 64: registers). Shared memory: K, V,
// two Q, two dY, and dS: 2 (2 KEYS + 4 QUERIES) D + 2 KEYS QUERIES bytes (144 KB for 8 warps at D = 128).
// Registers: dK and dV take D / 2 each, S and dP QUERIES / 2 each.
#include "attention_rules.cuh"
#include "fragments.cuh"

// delta[row] = sum(dy * y) over the width: LANES neighbours a row, SIZE numbers (16 bytes) at a time.
template <class T, int SIZE, int LANES>
__global__ void __launch_bounds__(128) attention_delta(
    const T* __restrict__ dy, const T* __restrict__ y, Wide<T>* __restrict__ delta, STRIDES(dy), STRIDES(y),
    long long heads, long long queries, long long width) {
  const int query = (blockIdx.x * 128 + threadIdx.x) / LANES, lane = threadIdx.x % LANES;
  const int head = blockIdx.y, batch = blockIdx.z;
  const bool inside = query < queries;
  dy = OF_HEAD(dy) + (inside ? query : 0) * dy_row;
  y = OF_HEAD(y) + (inside ? query : 0) * y_row;
  Wide<T> sum = 0;
  for (int i = lane * SIZE; i < width; i += LANES * SIZE) {
    Wide<T> ours[SIZE], others[SIZE];
    read_part<SIZE>(ours, dy + i);
    read_part<SIZE>(others, y + i);
    UNROLL for (int e = 0; e < SIZE; e++) {
      if (i + e < width) sum += ours[e] * others[e];  // beyond it a row may hold anything
    }
  }
  sum = over_lanes<Plus, LANES>(sum);
  if (inside && lane == 0) delta[(batch * heads + head) * queries + query] = sum;
}

// The sums of dQ, which are contiguous, rounded to their places: SIZE numbers of 16 bytes or less to a thread.
template <class T, int SIZE>
__global__ void __launch_bounds__(256) attention_round(const Wide<T>* __restrict__ sums, T* __restrict__ dq, STRIDES(dq),
                                                       long long heads, long long queries, long long width) {
  const int part = blockIdx.x * 256 + threadIdx.x, parts = (int)width / SIZE, head = blockIdx.y, batch = blockIdx.z;
  const int query = part / parts, place = part % parts * SIZE;
  if (query >= queries) return;
  Wide<T> values[SIZE];
  read_sums<SIZE>(values, sums + ((batch * heads + head) * queries + query) * width + place);
  write_part<SIZE>(OF_HEAD(dq) + query * dq_row + place, values);
}

// c += 16 rows of one tile, from `row` on, times the transpose of another.
template <int D, int N, class T>
__device__ __forceinline__ void multiply_tiles(float (&c)[N][4], const T* left_tile, const T* right_tile, int row) {
  UNROLL for (int step = 0; step < D / 16; step++) {
    u32 left[4];
    load_left<D>(left, left_tile, row, step);
    UNROLL for (int n = 0; n < N; n += 2) {
      u32 right[2][2];
      load_right_of_rows<D>(right, right_tile, n * 8, step);
      multiply_add(c[n], left, right[0], T());
      multiply_add(c[n + 1], left, right[1], T());
    }
  }
}

template <class T, int D, int WARPS, int EXTRAS>
__global__ void __launch_bounds__(WARPS * 32, 1) attention_backward(BACKWARD_PARAMETERS(T)) {
  constexpr int KEYS = WARPS * 16, THREADS = WARPS * 32;
  constexpr int QUERIES = EXTRAS && D > 64 ? 32 : 64;  // what still fits the registers
  constexpr int STRIPS = QUERIES / 16, COLUMNS = D * STRIPS / WARPS;  // of dQ: a warp has 16 rows, so many columns
  static_assert(WARPS % STRIPS == 0 && COLUMNS % 16 == 0, "");
  DYNAMIC_SHARED(shared);
  T* k_tile = reinterpret_cast<T*>(shared);
  T* v_tile = k_tile + KEYS * D;
  T* q_tiles = v_tile + KEYS * D;  // two of them
  T* dy_tiles = q_tiles + 2 * QUERIES * D;
  T* ds_tile = dy_tiles + 2 * QUERIES * D;  // (KEYS, QUERIES)
  float* row_values = reinterpret_cast<float*>(ds_tile + KEYS * QUERIES);  // two times log sums and deltas

  const int head = blockIdx.y, batch = blockIdx.z, first = blockIdx.x * KEYS;
  const Rules<T> rules = GATHER_RULES(T, batch, head);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, column = lane % 4 * 2;
  q = OF_HEAD(q);
  dy = OF_HEAD(dy);
  log_sums += (batch * heads + head) * queries;
  delta += (batch * heads + head) * queries;
  dq += (batch * heads + head) * queries * width;
  const int begin = rules.first_query(first) / QUERIES * QUERIES, end = rules.end_query(first + KEYS - 1);
  const float logit_scale = (float)scale * LOG2_E;
  const float survivors = EXTRAS ? rules.survivor_scale() : 1.f;

  auto fetch = [&](int start, int buffer) {
    load_tile<QUERIES, D, THREADS>(q_tiles + buffer * QUERIES * D, q, (int)q_row, start, rules.queries, width);
    load_tile<QUERIES, D, THREADS>(dy_tiles + buffer * QUERIES * D, dy, (int)dy_row, start, rules.queries, width);
    commit_copies();
    for (int i = threadIdx.x; i < QUERIES; i += THREADS) {
      bool inside = start + i < rules.queries;
      row_values[buffer * 2 * QUERIES + i] = inside ? log_sums[start + i] : POSITIVE_INFINITY;
      row_values[(buffer * 2 + 1) * QUERIES + i] = inside ? delta[start + i] : 0.f;
    }
  };
  load_tile<KEYS, D, THREADS>(k_tile, OF_HEAD(k), k_row, first, rules.keys, width);
  load_tile<KEYS, D, THREADS>(v_tile, OF_HEAD(v), v_row, first, rules.keys, width);
  if (begin < end) fetch(begin, 0);
  commit_copies();

  constexpr bool SHARED = D < 128 || WARPS == 8;  // the draws, where that leaves registers enough
  const bool by_key = EXTRAS && rules.by_key(), odd = group % 2;
  bool open[2] = {true, true};
  UNROLL for (int i = 0; i < 2; i++) {
    if (by_key) open[i] = rules.opens(first + warp * 16 + group + i * 8);
  }
  float key_sums[D / 8][4] = {}, value_sums[D / 8][4] = {};  // dK and dV of the warp's 16 keys
  int buffer = 0;
  for (int start = begin; start < end; start += QUERIES, buffer ^= 1) {
    wait_for_copies<0>();
    __syncthreads();  // this tile is here; everyone is done with the last one and dS
    if (start + QUERIES < end) fetch(start + QUERIES, buffer ^ 1);
    const T* q_tile = q_tiles + buffer * QUERIES * D;
    const T* dy_tile = dy_tiles + buffer * QUERIES * D;
    const float* row_log_sum = row_values + buffer * 2 * QUERIES;
    const float* row_delta = row_log_sum + QUERIES;

    float p[QUERIES / 8][4] = {}, ds[QUERIES / 8][4] = {};
    multiply_tiles<D>(p, k_tile, q_tile, warp * 16);
    multiply_tiles<D>(ds, v_tile, dy_tile, warp * 16);
    const bool edge = !rules.sees_all(start, start + QUERIES - 1, first, first + KEYS - 1);
    u32 words[2][2];  // for this n and the next
    UNROLL for (int n = 0; n < QUERIES / 8; n++) {
      const int query = start + n * 8 + column, key = first + warp * 16 + group;
      if (EXTRAS && rules.threshold && (n % 2 == 0 || !SHARED)) {
        const Words drawn = rules.patch(query + (SHARED && odd ? 8 : 0), key);
        const u32 own[2] = {odd ? drawn.at[1] : drawn.at[0], odd ? drawn.at[3] : drawn.at[2]};
        const u32 others[2] = {odd ? drawn.at[0] : drawn.at[1], odd ? drawn.at[2] : drawn.at[3]};
        if (SHARED) {
          share_draws(words, own, others, odd);
        } else {
          words[n % 2][0] = own[0], words[n % 2][1] = own[1];
        }
      }
      UNROLL for (int i = 0; i < 4; i++) {
        const int my_query = query + i % 2, my_key = key + i / 2 * 8, row = n * 8 + column + i % 2;
        bool seen = !edge || rules.sees(my_query, my_key);
        float logit = p[n][i] * logit_scale;
        if (EXTRAS && seen) {
          logit += rules.added(my_query, my_key) * LOG2_E;
          seen = by_key ? open[i / 2] : rules.allows(my_query, my_key);
        }
        const float probability = seen ? fast_exp2(logit - row_log_sum[row]) : 0.f;
        bool keep = true;
        if (EXTRAS && rules.threshold) keep = kept(words[n % 2][i / 2], i % 2, rules.threshold);
        p[n][i] = keep ? probability * survivors : 0.f;
        ds[n][i] = probability * ((keep ? ds[n][i] * survivors : 0.f) - row_delta[row]);
        if (EXTRAS && dbias && seen) {
          atomicAdd(OF_HEAD(dbias) + my_query * (int)dbias_query + my_key * (int)dbias_key, ds[n][i]);
        }
      }
      // Row of ds_tile = key; eight queries to a chunk.
      const int row = warp * 16 + group;
      *reinterpret_cast<u32*>(ds_tile + place_in_tile<QUERIES>(row, n) + column) = pack<T>(ds[n][0], ds[n][1]);
      *reinterpret_cast<u32*>(ds_tile + place_in_tile<QUERIES>(row + 8, n) + column) = pack<T>(ds[n][2], ds[n][3]);
    }
    UNROLL for (int step = 0; step < QUERIES / 16; step++) {
      u32 p_left[4], ds_left[4];
      as_left<T>(p_left, p[2 * step], p[2 * step + 1]);
      as_left<T>(ds_left, ds[2 * step], ds[2 * step + 1]);
      UNROLL for (int n = 0; n < D / 8; n += 2) {
        u32 right[2][2];
        load_right<D>(right, dy_tile, n * 8, step);
        multiply_add(value_sums[n], p_left, right[0], T());
        multiply_add(value_sums[n + 1], p_left, right[1], T());
        load_right<D>(right, q_tile, n * 8, step);
        multiply_add(key_sums[n], ds_left, right[0], T());
        multiply_add(key_sums[n + 1], ds_left, right[1], T());
      }
    }
    __syncthreads();  // dS is complete
    const int strip = warp % STRIPS * 16, first_column = warp / STRIPS * COLUMNS;
    float query_sums[COLUMNS / 8][4] = {};
    UNROLL for (int step = 0; step < KEYS / 16; step++) {
      u32 left[4];
      load_left_transposed<QUERIES>(left, ds_tile, strip, step);
      UNROLL for (int n = 0; n < COLUMNS / 8; n += 2) {
        u32 right[2][2];
        load_right<D>(right, k_tile, first_column + n * 8, step);
        multiply_add(query_sums[n], left, right[0], T());
        multiply_add(query_sums[n + 1], left, right[1], T());
      }
    }
    UNROLL for (int n = 0; n < COLUMNS / 8; n++) {
      UNROLL for (int i = 0; i < 4; i++) {
        const int query = start + strip + group + i / 2 * 8, place = first_column + n * 8 + column + i % 2;
        if (query < rules.queries && place < width) atomicAdd(dq + query * width + place, query_sums[n][i] * (float)scale);
      }
    }
  }
  wait_for_copies<0>();

  UNROLL for (int half = 0; half < 2; half++) {
    const int key = first + warp * 16 + group + half * 8;
    if (key >= rules.keys) continue;
    UNROLL for (int n = 0; n < D / 8; n++) {
      if (n * 8 >= width) break;
      const int place = n * 8 + column;
      *reinterpret_cast<u32*>(OF_HEAD(dk) + key * dk_row + place) =
          pack<T>(key_sums[n][2 * half] * (float)scale, key_sums[n][2 * half + 1] * (float)scale);
      u32 both = pack<T>(value_sums[n][2 * half], value_sums[n][2 * half + 1]);
      *reinterpret_cast<u32*>(OF_HEAD(dv) + key * dv_row + place) = both;
    }
  }
}
