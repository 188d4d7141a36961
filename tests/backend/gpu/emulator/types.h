// CUDA's small types for g++: keywords, vectors, half and bfloat16.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define EMULATED 1

// ---- keywords: nothing to say to g++, except that block-shared variables outlive a thread ----
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

// ---- vectors, aligned as on the GPU, where a misaligned float4 is an error ----
template <class T> constexpr size_t vector_alignment(int n) {
  return sizeof(T) * n > 16 ? 16 : sizeof(T) * n;
}
#define DEFINE_VECTORS(T, NAME)                                  \
  struct alignas(vector_alignment<T>(2)) NAME##2 { T x, y; };    \
  struct NAME##3 { T x, y, z; };                                 \
  struct alignas(vector_alignment<T>(4)) NAME##4 { T x, y, z, w; }; \
  inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }     \
  inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
DEFINE_VECTORS(float, float)
DEFINE_VECTORS(double, double)
DEFINE_VECTORS(int, int)
DEFINE_VECTORS(unsigned, uint)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// ---- half and bfloat16: stored in 16 bits, computed in float, rounded to nearest even ----
namespace emulator {

template <class To, class From> inline To bits_as(From value) {
  static_assert(sizeof(To) == sizeof(From), "");
  To result;
  std::memcpy(&result, &value, sizeof result);
  return result;
}

// GCC's own half type; its conversions round to nearest even on every CPU.
inline uint16_t float_to_half(float value) {
  return bits_as<uint16_t>((_Float16)value);
}
inline float half_to_float(uint16_t bits) {
  return (float)bits_as<_Float16>(bits);
}
inline uint16_t float_to_bfloat16(float value) {
  if (value != value) return 0x7fff;
  uint32_t bits = bits_as<uint32_t>(value);
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
inline float bfloat16_to_float(uint16_t bits) {
  return bits_as<float>((uint32_t)bits << 16);
}

}  // namespace emulator

struct __half {
  uint16_t bits;
};
struct __nv_bfloat16 {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};
inline __half __float2half_rn(float value) { return {emulator::float_to_half(value)}; }
inline float __half2float(__half value) { return emulator::half_to_float(value.bits); }
inline __half2 __floats2half2_rn(float a, float b) { return {__float2half_rn(a), __float2half_rn(b)}; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {emulator::float_to_bfloat16(value)}; }
inline float __bfloat162float(__nv_bfloat16 value) { return emulator::bfloat16_to_float(value.bits); }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) {
  return {__float2bfloat16_rn(a), __float2bfloat16_rn(b)};
}
