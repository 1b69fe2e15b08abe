// Numbers read from float32 or bf16 and written to it, singly and in vectors of 16, and functions of
// such vectors.
//
// Vectors are those of GCC: right on any processor, fast where one register holds one (AVX-512).

#pragma once

#include <cstdint>
#include <cstring>

namespace {

constexpr int SIZE = 16;             // numbers in a vector
constexpr float ROOT = 0.70710678f;  // sqrt(1 / 2), of sums and differences of mirrored pairs
constexpr float LOG2_E = 1.44269504f;

typedef float Vector __attribute__((vector_size(4 * SIZE)));
typedef int32_t Integers __attribute__((vector_size(4 * SIZE)));
typedef uint32_t Bits __attribute__((vector_size(4 * SIZE)));
typedef uint16_t Halves __attribute__((vector_size(2 * SIZE)));

struct Bf16 {
    uint16_t bits;
};

// One number at a time, in loops that the compiler makes vectors of.
inline float get(float x) { return x; }

inline float get(Bf16 x) {
    const uint32_t bits = uint32_t(x.bits) << 16;
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

inline void put(float x, float& to) { to = x; }

inline void put(float x, Bf16& to) {  // to the nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    to.bits = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline Vector load(const float* from) {
    Vector x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline Vector load(const Bf16* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Vector)(__builtin_convertvector(halves, Bits) << 16);
}

inline void store(Vector x, float* to) { std::memcpy(to, &x, sizeof x); }

inline void store(Vector x, Bf16* to) {  // to the nearest, ties to even
    Bits bits = (Bits)x;
    Halves halves = __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
}

// 2^x for x <= 0, to about 2e-7 of it, and 2^-63 for all x below -63, so that its products with
// small gradients are not subnormal, and slow. Of all polynomials of its degree that are 1 at 0 this
// one is off by the least.
inline Vector power_of_2(Vector x) {
    const Vector least = Vector{} - 63.0f;
    x = x < least ? least : x;  // this way round NaN stays
    const Vector shifted = x + 12582912.0f;  // 1.5 x 2^23: the nearest integer is in the low bits
    const Vector rest = x - (shifted - 12582912.0f);
    Vector y = Vector{} + 1.32647e-3f;
    y = y * rest + 9.67151e-3f;
    y = y * rest + 5.550734e-2f;
    y = y * rest + 2.4022242e-1f;
    y = y * rest + 6.9314698e-1f;
    y = y * rest + 1.0f;
    return (Vector)((Integers)y + ((Integers)shifted << 23));
}

// The share of a normal distribution below z, to about 1e-7, and its density there.
// Abramowitz & Stegun 1964, 7.1.26.
inline void normal(Vector z, Vector& below, Vector& density) {
    const Vector size = z < 0.0f ? -z : z;
    const Vector e = power_of_2(z * z * (-0.5f * LOG2_E));  // e^(-z^2 / 2)
    const Vector t = 1.0f / (1.0f + 0.23164190f * size);  // 0.3275911 / sqrt 2
    Vector tail = Vector{} + 0.5307027145f;
    tail = tail * t - 0.7265760135f;
    tail = tail * t + 0.7107068705f;
    tail = tail * t - 0.142248368f;
    tail = tail * t + 0.127414796f;
    tail = tail * t * e;  // beyond |z|
    below = z < 0.0f ? tail : 1.0f - tail;
    density = 0.39894228f * e;
}

// All numbers of a vector added up: halves, quarters and so on by pairs.
template <int COUNT>
float sum_of(const float* from) {
    if constexpr (COUNT == 1) {
        return from[0];
    } else {
        typedef float Half __attribute__((vector_size(2 * COUNT)));
        Half low, high;
        std::memcpy(&low, from, sizeof low);
        std::memcpy(&high, from + COUNT / 2, sizeof high);
        low += high;
        float numbers[COUNT / 2];
        std::memcpy(numbers, &low, sizeof low);
        return sum_of<COUNT / 2>(numbers);
    }
}

inline float sum(Vector x) { return sum_of<SIZE>((const float*)&x); }

}  // namespace
