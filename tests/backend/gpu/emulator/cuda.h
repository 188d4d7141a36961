// The names a kernel uses, and how Python starts one.
#pragma once
#include <string>
#include <tuple>
#include <utility>
#include "warp.h"

#define threadIdx (::emulator::machine.current->thread)
#define blockIdx (::emulator::machine.block_index)
#define blockDim (::emulator::machine.block_size)
#define gridDim (::emulator::machine.grid_size)
#define CALLER int line = __builtin_LINE()

using std::max;
using std::min;

inline void __syncthreads(CALLER) { emulator::block_barrier(line); }
inline void __syncwarp(unsigned mask = ~0u, CALLER) {
  emulator::warp_collective("__syncwarp", line, mask, nullptr, emulator::nothing);
}
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, CALLER) {
  int group = emulator::lane() & ~(width - 1);
  return emulator::shuffle("__shfl_sync", mask, value, group | (source & (width - 1)), line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, CALLER) {
  int me = emulator::lane(), other = me ^ flip;
  bool beyond = (other & ~(width - 1)) > (me & ~(width - 1));
  return emulator::shuffle("__shfl_xor_sync", mask, value, beyond ? me : other, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, CALLER) {
  int me = emulator::lane();
  bool beyond = (me & (width - 1)) + (int)by >= width;
  return emulator::shuffle("__shfl_down_sync", mask, value, beyond ? me : me + (int)by, line);
}
inline unsigned __ballot_sync(unsigned mask, int vote, CALLER) {
  emulator::VoteArgument argument{vote != 0, 0};
  emulator::warp_collective("__ballot_sync", line, mask, &argument, emulator::count_votes);
  return argument.result;
}
template <class T> T atomicAdd(T* place, std::common_type_t<T> value) {
  T before = *place;
  *place = before + value;
  return before;
}
inline void __threadfence() {}

inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline double rsqrt(double x) { return 1. / sqrt(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((uint64_t)a * b) >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __byte_perm(unsigned a, unsigned b, unsigned chosen) {
  uint64_t both = (uint64_t)b << 32 | a;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) result |= (both >> 8 * (chosen >> 4 * i & 7) & 0xff) << 8 * i;
  return result;
}
inline unsigned __float_as_uint(float x) { return emulator::bits_as<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return emulator::bits_as<float>(x); }
inline int __float_as_int(float x) { return emulator::bits_as<int>(x); }
inline float __int_as_float(int x) { return emulator::bits_as<float>(x); }

namespace emulator {

template <class... A, size_t... I>
int launch(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared_bytes, void** arguments,
           std::index_sequence<I...>) {
  std::tuple<std::remove_cv_t<A>...> values(*(std::remove_cv_t<A>*)arguments[I]...);
  auto call = std::make_pair(kernel, values);
  auto run = [](void* p) {
    auto& call = *(decltype(std::make_pair(kernel, values))*)p;
    std::apply(call.first, call.second);
  };
  return run_grid(grid, block, shared_bytes, run, &call);
}
template <class... A>
int launch(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared_bytes, void** arguments) {
  return launch(kernel, grid, block, shared_bytes, arguments, std::index_sequence_for<A...>{});
}

// A letter and a size for each parameter: p8 i4 i8 f4 f8.
template <class... A> const char* signature(void (*)(A...)) {
  static std::string text;
  auto letter = [](auto is_pointer, auto is_float) { return is_pointer ? "p" : is_float ? "f" : "i"; };
  text = ((letter(std::is_pointer<A>(), std::is_floating_point<A>()) + std::to_string(sizeof(A)) + " ") + ... + "");
  return text.c_str();
}

}  // namespace emulator

#define EXPORT_KERNEL(...)                                                                       \
  extern "C" int kernel_launch(const unsigned* g, const unsigned* b, size_t shared, void** a) {  \
    return emulator::launch(__VA_ARGS__, dim3(g[0], g[1], g[2]), dim3(b[0], b[1], b[2]), shared, a); \
  }                                                                                              \
  extern "C" const char* kernel_signature() { return emulator::signature(__VA_ARGS__); }         \
  extern "C" const char* kernel_error() { return emulator::machine.error; }                      \
  extern "C" void kernel_order(int order, uint64_t seed) {                                       \
    emulator::machine.order = order;                                                             \
    emulator::machine.random_state = seed;                                                       \
  }                                                                                              \
  extern "C" uint64_t kernel_conflicts() { return emulator::machine.bank_conflicts; }
