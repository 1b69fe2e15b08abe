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

template <typename T>
T* token(T* tokens, int64_t row, Tokens shape) {
    return tokens + row * shape.width();
}

// What the planes have of a token.
template <typename T>
struct InPlanes {
    T *s, *a;
    InPlanes(T* planes, int64_t row, Tokens shape)
        : s(planes + row * shape.half), a(s + shape.count * shape.half) {}
};

// Layer norm (Ba et al. 2016, arXiv 1607.06450) of one token. Its mean and 1 / its deviation are
// kept.
template <typename T>
inline void norm_one(const T* x, const float* weight, const float* bias, InPlanes<T> to,
                     float* moments, Tokens shape) {
    const int half = shape.half, width = shape.width();
    Vector total{}, squares{};
    for (int i = 0; i < width; i += SIZE) total += load(x + i);
    const float mean = sum(total) / width;
    for (int i = 0; i < width; i += SIZE) {
        const Vector apart = load(x + i) - mean;
        squares += apart * apart;
    }
    const float rate = 1 / std::sqrt(sum(squares) / width + EPSILON);
    for (int i = 0; i < half; i += SIZE) {
        Vector p = (load(x + i) - mean) * rate * load(weight + i) + load(bias + i);
        const int j = half + i;
        Vector q = (load(x + j) - mean) * rate * load(weight + j) + load(bias + j);
        turn(p, q);
        store(p, to.s + i);
        store(q, to.a + i);
    }
    moments[0] = mean;
    moments[1] = rate;
}

// The gradient by the token, which has `more` from elsewhere, and what it adds to the sums that are
// the gradients by weights and biases.
template <typename T>
inline void norm_one_back(const T* x, const float* weight, const float* moments,
                          InPlanes<const T> by, const T* more, T* by_x, float* sums, Tokens shape) {
    const int half = shape.half, width = shape.width();
    const float mean = moments[0], rate = moments[1];
    const auto go_through = [=](auto each) {  // place, gradient by what comes out, normed
        for (int i = 0; i < half; i += SIZE) {
            Vector p = load(by.s + i), q = load(by.a + i);
            turn(p, q);
            each(i, p, (load(x + i) - mean) * rate);
            each(half + i, q, (load(x + half + i) - mean) * rate);
        }
    };
    Vector along{}, constant{};
    go_through([&](int i, const Vector& by_y, const Vector& normed) {
        add(by_y * normed, sums + i);
        add(by_y, sums + width + i);
        const Vector by_normed = by_y * load(weight + i);
        along += by_normed * normed;
        constant += by_normed;
    });
    const float slope = sum(along) / width, offset = sum(constant) / width;
    go_through([&](int i, const Vector& by_y, const Vector& normed) {
        const Vector by_normed = by_y * load(weight + i);
        store(load(more + i) + (by_normed - normed * slope - offset) * rate, by_x + i);
    });
}

// A token, and what is in the planes, and a bias.
template <typename T>
inline void add_one(InPlanes<const T> planes, const float* added, const T* x, T* to, Tokens shape) {
    const int half = shape.half;
    for (int i = 0; i < half; i += SIZE) {
        Vector p = load(planes.s + i), q = load(planes.a + i);
        turn(p, q);
        store(load(x + i) + p + load(added + i), to + i);
        store(load(x + half + i) + q + load(added + half + i), to + half + i);
    }
}

// The gradient by the planes, and what it adds to the sum that is the gradient by the bias.
template <typename T>
inline void add_one_back(const T* by_x, InPlanes<T> by_planes, float* sums, Tokens shape) {
    const int half = shape.half;
    for (int i = 0; i < half; i += SIZE) {
        Vector p = load(by_x + i), q = load(by_x + half + i);
        add(p, sums + i);
        add(q, sums + half + i);
        turn(p, q);
        store(p, by_planes.s + i);
        store(q, by_planes.a + i);
    }
}

template <typename T>
void norm(const T* tokens, const float* weight, const float* bias, T* planes, float* moments,
          Tokens shape, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < shape.count; row++)
        norm_one(token(tokens, row, shape), weight, bias, {planes, row, shape}, moments + 2 * row,
                 shape);
}

template <typename T>
void norm_back(const T* tokens, const float* weight, const float* moments, const T* by_planes,
               const T* more, T* by_tokens, float* sums, Tokens shape, int threads) {
    sum_up(shape.count, 2 * shape.width(), sums, threads, [=](int64_t row, float* part) {
        norm_one_back(token(tokens, row, shape), weight, moments + 2 * row, {by_planes, row, shape},
                      token(more, row, shape), token(by_tokens, row, shape), part, shape);
    });
}

template <typename T>
void add_planes(const T* planes, const float* added, const T* tokens, T* total, Tokens shape,
                int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < shape.count; row++)
        add_one({planes, row, shape}, added, token(tokens, row, shape), token(total, row, shape),
                shape);
}

template <typename T>
void add_planes_back(const T* by_tokens, T* by_planes, float* sums, Tokens shape, int threads) {
    sum_up(shape.count, shape.width(), sums, threads, [=](int64_t row, float* part) {
        add_one_back(token(by_tokens, row, shape), {by_planes, row, shape}, part, shape);
    });
}

// One after the other, while a token is in the processor's cache.
template <typename T>
void add_norm(const T* planes, const float* added, const T* tokens, const float* weight,
              const float* bias, T* total, T* normed, float* moments, Tokens shape, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < shape.count; row++) {
        T* x = token(total, row, shape);
        add_one({planes, row, shape}, added, token(tokens, row, shape), x, shape);
        norm_one<T>(x, weight, bias, {normed, row, shape}, moments + 2 * row, shape);
    }
}

// Sums: by weights, by biases, by what is added.
template <typename T>
void add_norm_back(const T* total, const float* weight, const float* moments, const T* by_normed,
                   const T* more, T* by_tokens, T* by_planes, float* sums, Tokens shape,
                   int threads) {
    sum_up(shape.count, 3 * shape.width(), sums, threads, [=](int64_t row, float* part) {
        T* by_x = token(by_tokens, row, shape);
        norm_one_back(token(total, row, shape), weight, moments + 2 * row, {by_normed, row, shape},
                      token(more, row, shape), by_x, part, shape);
        add_one_back<T>(by_x, {by_planes, row, shape}, part + 2 * shape.width(), shape);
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

}  // namespace

#define FUNCTIONS(NAME, T)                                                                         \
    void norm_##NAME(const T* tokens, const float* weight, const float* bias, T* planes,           \
                     float* moments, int count, int half, int threads) {                           \
        norm(tokens, weight, bias, planes, moments, {count, half}, threads);                       \
    }                                                                                              \
    void norm_back_##NAME(const T* tokens, const float* weight, const float* moments,              \
                          const T* by_planes, const T* more, T* by_tokens, float* sums, int count, \
                          int half, int threads) {                                                 \
        norm_back(tokens, weight, moments, by_planes, more, by_tokens, sums, {count, half},        \
                  threads);                                                                        \
    }                                                                                              \
    void activate_##NAME(const T* planes, const float* bias, T* to, int count, int half,           \
                         int threads) {                                                            \
        activate(planes, bias, to, {count, half}, threads);                                        \
    }                                                                                              \
    void activate_back_##NAME(const T* planes, const float* bias, const T* by_y, T* by_planes,     \
                              float* sums, int count, int half, int threads) {                     \
        activate_back(planes, bias, by_y, by_planes, sums, {count, half}, threads);                \
    }                                                                                              \
    void add_planes_##NAME(const T* planes, const float* added, const T* tokens, T* total,         \
                           int count, int half, int threads) {                                     \
        add_planes(planes, added, tokens, total, {count, half}, threads);                          \
    }                                                                                              \
    void add_planes_back_##NAME(const T* by_tokens, T* by_planes, float* sums, int count,          \
                                int half, int threads) {                                           \
        add_planes_back(by_tokens, by_planes, sums, {count, half}, threads);                       \
    }                                                                                              \
    void add_norm_##NAME(const T* planes, const float* added, const T* tokens,                     \
                         const float* weight, const float* bias, T* total, T* normed,              \
                         float* moments, int count, int half, int threads) {                       \
        add_norm(planes, added, tokens, weight, bias, total, normed, moments, {count, half},       \
                 threads);                                                                         \
    }                                                                                              \
    void add_norm_back_##NAME(const T* total, const float* weight, const float* moments,           \
                              const T* by_normed, const T* more, T* by_tokens, T* by_planes,       \
                              float* sums, int count, int half, int threads) {                     \
        add_norm_back(total, weight, moments, by_normed, more, by_tokens, by_planes, sums,         \
                      {count, half}, threads);                                                     \
    }

extern "C" {
FUNCTIONS(float32, float)
FUNCTIONS(bfloat16, Bf16)
}
