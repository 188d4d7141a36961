// Attention forward on the tensor cores: FlashAttention-2 (Dao 2023, arXiv:2307.08691).
//
// A block owns a tile of queries of one head and walks over the keys, a tile at a time:
//     S = Q K^T;   m' = max(m, rowmax S);   P = exp(S - m');   l = l exp(m - m') + rowsum P;   O = O exp(m - m') + P V
// and in the end y = O / l. S and P live in registers only: global memory sees q, k, v once per tile of queries and y
// once, where the plain way would write and read T x S numbers four times.
//
// Tiles: QUERIES = WARPS * 16 * STRIPS queries (a warp owns whole rows, STRIPS strips of 16, so the softmax needs no other
// warp), 64 keys. Shared memory: Q, K and V, (QUERIES + 128) x D x 2 bytes (64 KB at D = 128). The next K is fetched while V
// is multiplied, and V while the softmax runs. The exponential is 2^x, with log2(e) folded into the scale.
// Registers: O takes STRIPS * D / 2, S STRIPS * 32.
#include "attention_rules.cuh"
#include "fragments.cuh"

template <class T, int D, int WARPS, int STRIPS, int EXTRAS>
__global__ void __launch_bounds__(WARPS * 32, 1) attention_forward(FORWARD_PARAMETERS(T)) {
  constexpr int QUERIES = WARPS * 16 * STRIPS, KEYS = 64, THREADS = WARPS * 32;
  DYNAMIC_SHARED(shared);
  T* q_tile = reinterpret_cast<T*>(shared);
  T* k_tile = q_tile + QUERIES * D;
  T* v_tile = k_tile + KEYS * D;

  const int head = blockIdx.y, batch = blockIdx.z;
  const Rules<T> rules = GATHER_RULES(T, batch, head);
  // The last tiles of queries see the most keys: they start first.
  const int first = (gridDim.x - 1 - blockIdx.x) * QUERIES;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, column = lane % 4 * 2;
  const int begin = rules.first_key(first) / KEYS * KEYS, end = rules.end_key(first + QUERIES - 1);
  const float logit_scale = (float)scale * LOG2_E;
  const float exponent_scale = EXTRAS ? 1.f : logit_scale;  // with extras the logits are scaled before they are added

  load_tile<QUERIES, D, THREADS>(q_tile, OF_HEAD(q), q_row, first, rules.queries, width);
  if (begin < end) load_tile<KEYS, D, THREADS>(k_tile, OF_HEAD(k), k_row, begin, rules.keys, width);
  commit_copies();

  const bool by_key = EXTRAS && rules.by_key(), beside = EXTRAS && rules.pairs_beside(), odd = group % 2;

  float out[STRIPS][D / 8][4] = {};
  float highest[STRIPS][2], sum[STRIPS][2] = {};
  UNROLL for (int strip = 0; strip < STRIPS; strip++) highest[strip][0] = highest[strip][1] = NEGATIVE_INFINITY;

  for (int start = begin; start < end; start += KEYS) {
    wait_for_copies<0>();
    __syncthreads();  // K is here, and everyone is done with V
    load_tile<KEYS, D, THREADS>(v_tile, OF_HEAD(v), v_row, start, rules.keys, width);
    commit_copies();

    float s[STRIPS][KEYS / 8][4] = {};
    UNROLL for (int step = 0; step < D / 16; step++) {
      u32 left[STRIPS][4];
      UNROLL for (int strip = 0; strip < STRIPS; strip++) {
        load_left<D>(left[strip], q_tile, (warp * STRIPS + strip) * 16, step);
      }
      UNROLL for (int n = 0; n < KEYS / 8; n += 2) {
        u32 right[2][2];
        load_right_of_rows<D>(right, k_tile, n * 8, step);
        UNROLL for (int strip = 0; strip < STRIPS; strip++) {
          multiply_add(s[strip][n], left[strip], right[0], T());
          multiply_add(s[strip][n + 1], left[strip], right[1], T());
        }
      }
    }
    wait_for_copies<0>();
    __syncthreads();  // V is here, and everyone is done with K
    if (start + KEYS < end) load_tile<KEYS, D, THREADS>(k_tile, OF_HEAD(k), k_row, start + KEYS, rules.keys, width);
    commit_copies();

    const bool edge = !rules.sees_all(first, first + QUERIES - 1, start, start + KEYS - 1);
    u32 open[KEYS / 32];  // a bit to each key of the tile, if they are the same for all queries
    UNROLL for (int i = 0; i < KEYS / 32; i++) {
      if (by_key) open[i] = __ballot_sync(FULL_WARP, rules.opens(start + i * 32 + lane));
    }
    UNROLL for (int strip = 0; strip < STRIPS; strip++) {
      const int row = first + (warp * STRIPS + strip) * 16 + group;
      if (edge || EXTRAS) {
        UNROLL for (int n = 0; n < KEYS / 8; n++) {
          float added[2][2];
          UNROLL for (int half = 0; half < 2; half++) {
            if (EXTRAS) rules.added_pair(added[half], row + half * 8, start + n * 8 + column, beside);
          }
          UNROLL for (int i = 0; i < 4; i++) {
            const int query = row + i / 2 * 8, place = n * 8 + column + i % 2, key = start + place;
            bool seen = !edge || rules.sees(query, key);
            if (EXTRAS && seen) {
              s[strip][n][i] = s[strip][n][i] * logit_scale + added[i / 2][i % 2] * LOG2_E;
              seen = by_key ? open[n / 4] >> place % 32 & 1 : rules.allows(query, key);
            }
            if (!seen) s[strip][n][i] = NEGATIVE_INFINITY;
          }
        }
      }
      UNROLL for (int half = 0; half < 2; half++) {  // rows `row` and `row + 8`
        float top = highest[strip][half];
        UNROLL for (int n = 0; n < KEYS / 8; n++) {
          top = fmaxf(top, fmaxf(s[strip][n][2 * half], s[strip][n][2 * half + 1]));
        }
        top = over_lanes<Largest, 4>(top);
        const float base = top == NEGATIVE_INFINITY ? 0.f : top * exponent_scale;
        const float shrink = fast_exp2(highest[strip][half] * exponent_scale - base);
        highest[strip][half] = top;
        float total = sum[strip][half] * shrink;
        UNROLL for (int n = 0; n < KEYS / 8; n++) {
          UNROLL for (int i = 2 * half; i < 2 * half + 2; i++) {
            s[strip][n][i] = fast_exp2(s[strip][n][i] * exponent_scale - base);
            total += s[strip][n][i];
          }
        }
        sum[strip][half] = total;
        UNROLL for (int n = 0; n < D / 8; n++) {
          out[strip][n][2 * half] *= shrink;
          out[strip][n][2 * half + 1] *= shrink;
        }
        if (EXTRAS && rules.threshold) {
          UNROLL for (int n = 0; n < KEYS / 8; n += 4) {  // two patches
            const Words drawn = rules.patch(row + half * 8, start + n * 8 + column + (odd ? 16 : 0));
            u32 own[2], others[2], words[2][2];
            UNROLL for (int i = 0; i < 2; i++) {  // the halves of row 2i (low) and of 2i + 1 (high)
              const u32 low = __byte_perm(drawn.at[2 * i], drawn.at[2 * i + 1], 0x5410);
              const u32 high = __byte_perm(drawn.at[2 * i], drawn.at[2 * i + 1], 0x7632);
              own[i] = odd ? high : low, others[i] = odd ? low : high;
            }
            share_draws(words, own, others, odd);
            UNROLL for (int i = 0; i < 8; i++) {
              const bool keep = kept(words[i / 4][i % 4 / 2], i % 2, rules.threshold);
              if (!keep) s[strip][n + i / 2][2 * half + i % 2] = 0.f;
            }
          }
        }
      }
    }
    UNROLL for (int step = 0; step < KEYS / 16; step++) {
      u32 left[STRIPS][4];
      UNROLL for (int strip = 0; strip < STRIPS; strip++) {
        as_left<T>(left[strip], s[strip][2 * step], s[strip][2 * step + 1]);
      }
      UNROLL for (int n = 0; n < D / 8; n += 2) {
        u32 right[2][2];
        load_right<D>(right, v_tile, n * 8, step);
        UNROLL for (int strip = 0; strip < STRIPS; strip++) {
          multiply_add(out[strip][n], left[strip], right[0], T());
          multiply_add(out[strip][n + 1], left[strip], right[1], T());
        }
      }
    }
  }
  wait_for_copies<0>();

  log_sums += (batch * heads + head) * queries;
  UNROLL for (int strip = 0; strip < STRIPS; strip++) {
    UNROLL for (int half = 0; half < 2; half++) {
      const float total = over_lanes<Plus, 4>(sum[strip][half]);
      const int query = first + (warp * STRIPS + strip) * 16 + group + half * 8;
      if (query >= rules.queries) continue;
      const float scale_out = total > 0.f ? (EXTRAS ? rules.survivor_scale() : 1.f) / total : 0.f;
      UNROLL for (int n = 0; n < D / 8; n++) {
        if (n * 8 >= width) break;
        u32 both = pack<T>(out[strip][n][2 * half] * scale_out, out[strip][n][2 * half + 1] * scale_out);
        *reinterpret_cast<u32*>(OF_HEAD(y) + query * y_row + n * 8 + column) = both;
      }
      // Base 2. A row with nothing to attend to gets infinity: backward finds exp2(s - infinity) = 0 there.
      if (lane % 4 == 0) {
        const float log_sum = highest[strip][half] * exponent_scale + fast_log2(total);
        log_sums[query] = total > 0.f ? log_sum : POSITIVE_INFINITY;
      }
    }
  }
}
