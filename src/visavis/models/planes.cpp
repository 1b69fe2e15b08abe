// What stands between the products of the ViT's blocks (planes.py), where channels come in pairs: see
// mirror.cpp for their halves p and q, their sums s and differences a. Arrays, in bf16 or float32:
//
//     tokens    count 2 half    p, then q
//     planes    2 count half    s of all tokens, then a of all
//
// A half is a multiple of SIZE. Weights, biases and sums are float32 and lie as a token does.

#include <cmath>

#include "sums.h"
#include "vectors.h"

namespace {

constexpr float EPSILON = 1e-5f;  // of PyTorch's LayerNorm

struct Tokens {
    int64_t count;
    int half;
    int width() const { return 2 * half; }
};

// From s and a to p and q or back, which is the same map.
inline void turn(Vector& one, Vector& other) {
    const Vector sum = ROOT * (one + other);
    other = ROOT * (one - other);
    one = sum;
}

inline void add(Vector x, float* to) { store(load(to) + x, to); }

// Layer norm (Ba et al. 2016, arXiv 1607.06450). Of each token its mean and 1 / its deviation are
// kept.
template <typename T>
void norm(const T* tokens, const float* weight, const float* bias, T* planes, float* moments,
          Tokens shape, int threads) {
    const int half = shape.half, width = shape.width();
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < shape.count; row++) {
        const T* x = tokens + row * width;
        Vector total{}, squares{};
        for (int i = 0; i < width; i += SIZE) total += load(x + i);
        const float mean = sum(total) / width;
        for (int i = 0; i < width; i += SIZE) {
            const Vector apart = load(x + i) - mean;
            squares += apart * apart;
        }
        const float rate = 1 / std::sqrt(sum(squares) / width + EPSILON);
        T *s = planes + row * half, *a = s + shape.count * half;
        for (int i = 0; i < half; i += SIZE) {
            Vector p = (load(x + i) - mean) * rate * load(weight + i) + load(bias + i);
            const int j = half + i;
            Vector q = (load(x + j) - mean) * rate * load(weight + j) + load(bias + j);
            turn(p, q);
            store(p, s + i);
            store(q, a + i);
        }
        moments[2 * row] = mean;
        moments[2 * row + 1] = rate;
    }
}

// The gradient by the tokens, and the sums that are the gradients by weights and biases.
template <typename T>
void norm_back(const T* tokens, const float* weight, const float* moments, const T* by_planes,
               T* by_tokens, float* sums, Tokens shape, int threads) {
    const int half = shape.half, width = shape.width();
    sum_up(shape.count, 2 * width, sums, threads, [=](int64_t row, float* part) {
        const T *x = tokens + row * width, *s = by_planes + row * half;
        const T* a = s + shape.count * half;
        const float mean = moments[2 * row], rate = moments[2 * row + 1];
        const auto go_through = [=](auto each) {  // place, gradient by what comes out, normed
            for (int i = 0; i < half; i += SIZE) {
                Vector p = load(s + i), q = load(a + i);
                turn(p, q);
                each(i, p, (load(x + i) - mean) * rate);
                each(half + i, q, (load(x + half + i) - mean) * rate);
            }
        };
        Vector along{}, constant{};
        go_through([&](int i, const Vector& by_y, const Vector& normed) {
            add(by_y * normed, part + i);
            add(by_y, part + width + i);
            const Vector by_normed = by_y * load(weight + i);
            along += by_normed * normed;
            constant += by_normed;
        });
        const float slope = sum(along) / width, offset = sum(constant) / width;
        go_through([&](int i, const Vector& by_y, const Vector& normed) {
            const Vector by_normed = by_y * load(weight + i);
            store((by_normed - normed * slope - offset) * rate, by_tokens + row * width + i);
        });
    });
}

// gelu(z), z being what is in the planes and a bias, in p and q.
template <typename T>
void activate(const T* planes, const float* bias, T* to, Tokens shape, int threads) {
    const int half = shape.half;
    const int64_t all = shape.count * half;
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < all; row += half)
        for (int i = 0; i < half; i += SIZE) {
            Vector p = load(planes + row + i), q = load(planes + all + row + i), below, density;
            turn(p, q);
            p += load(bias + i);
            q += load(bias + half + i);
            normal(p, below, density);
            p *= below;
            normal(q, below, density);
            q *= below;
            turn(p, q);
            store(p, to + row + i);
            store(q, to + all + row + i);
        }
}

// The gradient by the planes, and the sum that is the gradient by the bias.
template <typename T>
void activate_back(const T* planes, const float* bias, const T* by_y, T* by_planes, float* sums,
                   Tokens shape, int threads) {
    const int half = shape.half;
    const int64_t all = shape.count * half;
    sum_up(shape.count, 2 * half, sums, threads, [=](int64_t row, float* part) {
        for (int i = 0; i < half; i += SIZE) {
            const int64_t at = row * half + i;
            Vector z[2] = {load(planes + at), load(planes + all + at)};
            Vector by[2] = {load(by_y + at), load(by_y + all + at)};
            turn(z[0], z[1]);
            turn(by[0], by[1]);
            for (int k = 0; k < 2; k++) {
                Vector below, density;
                z[k] += load(bias + k * half + i);
                normal(z[k], below, density);
                by[k] *= below + z[k] * density;
                add(by[k], part + k * half + i);
            }
            turn(by[0], by[1]);
            store(by[0], by_planes + at);
            store(by[1], by_planes + all + at);
        }
    });
}

// The tokens, and what is in the planes, and a bias.
template <typename T>
void add_planes(const T* planes, const float* bias, const T* tokens, T* to, Tokens shape,
                int threads) {
    const int half = shape.half;
    const int64_t all = shape.count * half;
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < all; row += half) {
        const T* x = tokens + 2 * row;
        T* y = to + 2 * row;
        for (int i = 0; i < half; i += SIZE) {
            Vector p = load(planes + row + i), q = load(planes + all + row + i);
            turn(p, q);
            store(load(x + i) + p + load(bias + i), y + i);
            store(load(x + half + i) + q + load(bias + half + i), y + half + i);
        }
    }
}

// The gradient by the planes, and the sum that is the gradient by the bias.
template <typename T>
void add_planes_back(const T* by_tokens, T* by_planes, float* sums, Tokens shape, int threads) {
    const int half = shape.half;
    const int64_t all = shape.count * half;
    sum_up(shape.count, 2 * half, sums, threads, [=](int64_t row, float* part) {
        for (int i = 0; i < half; i += SIZE) {
            const int64_t at = row * half + i;
            Vector p = load(by_tokens + row * 2 * half + i);
            Vector q = load(by_tokens + row * 2 * half + half + i);
            add(p, part + i);
            add(q, part + half + i);
            turn(p, q);
            store(p, by_planes + at);
            store(q, by_planes + all + at);
        }
    });
}

}  // namespace

#define FUNCTIONS(NAME, T)                                                                         \
    void norm_##NAME(const T* tokens, const float* weight, const float* bias, T* planes,           \
                     float* moments, int count, int half, int threads) {                           \
        norm(tokens, weight, bias, planes, moments, {count, half}, threads);                       \
    }                                                                                              \
    void norm_back_##NAME(const T* tokens, const float* weight, const float* moments,              \
                          const T* by_planes, T* by_tokens, float* sums, int count, int half,      \
                          int threads) {                                                           \
        norm_back(tokens, weight, moments, by_planes, by_tokens, sums, {count, half}, threads);    \
    }                                                                                              \
    void activate_##NAME(const T* planes, const float* bias, T* to, int count, int half,           \
                         int threads) {                                                            \
        activate(planes, bias, to, {count, half}, threads);                                        \
    }                                                                                              \
    void activate_back_##NAME(const T* planes, const float* bias, const T* by_y, T* by_planes,     \
                              float* sums, int count, int half, int threads) {                     \
        activate_back(planes, bias, by_y, by_planes, sums, {count, half}, threads);                \
    }                                                                                              \
    void add_planes_##NAME(const T* planes, const float* bias, const T* tokens, T* to, int count,  \
                           int half, int threads) {                                                \
        add_planes(planes, bias, tokens, to, {count, half}, threads);                              \
    }                                                                                              \
    void add_planes_back_##NAME(const T* by_tokens, T* by_planes, float* sums, int count,          \
                                int half, int threads) {                                           \
        add_planes_back(by_tokens, by_planes, sums, {count, half}, threads);                       \
    }

extern "C" {
FUNCTIONS(float32, float)
FUNCTIONS(bfloat16, Bf16)
}
