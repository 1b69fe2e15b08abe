// What stands before and after the products of layers that treat left and right alike: convolutions
// (convolution.py) and linear layers (linear.py).
//
// The channels of a pixel are two halves, p and q, which change places where the picture is
// mirrored; s = (p + q) / sqrt 2 then stays and a = (p - q) / sqrt 2 changes its sign. The products
// are taken on a strip, in which the pictures lie side by side. Arrays lie as PyTorch's
// channels-last has them, in bf16 or float32; biases are float32:
//
//     pictures    n h w 2 half          p, then q
//     turned      h n w 2 half          s, then a
//     parts       h n columns 6 half    see `spread`
//     tokens      count 2 half          p, then q
//     planes      2 count half          s of all tokens, then a of all

#include <cstdint>
#include <vector>

#include "vectors.h"

namespace {

struct Shape {
    int pictures, rows, width, half;
    int64_t all_rows() const { return int64_t(pictures) * rows; }
    // Where in the strip a row of the pictures lies, in rows of pictures.
    int64_t in_strip(int64_t row) const { return row % rows * pictures + row / rows; }
};

// For every `step`-th column of pictures six parts, in a strip. With l and r for the columns on its
// left and right, zeros beyond the edge:
//     s   (s_l + s_r) / sqrt 2   (a_r - a_l) / sqrt 2     of which the s that comes out is made
//     a   (a_l + a_r) / sqrt 2   (s_r - s_l) / sqrt 2     of which the a
template <typename T>
void spread(const T* pictures, T* parts, Shape shape, int step, int threads) {
    const int width = shape.width, half = shape.half, columns = (width + step - 1) / step;
#pragma omp parallel num_threads(threads)
    {
        const std::vector<T> edge(2 * half, T{});
#pragma omp for
        for (int64_t row = 0; row < shape.all_rows(); ++row) {
            T* to = parts + shape.in_strip(row) * columns * 6 * half;
            for (int column = 0; column < columns; ++column, to += 6 * half) {
                const int at = column * step;
                const T* here = pictures + (row * width + at) * 2 * half;
                const T* left = at > 0 ? here - 2 * half : edge.data();
                const T* right = at + 1 < width ? here + 2 * half : edge.data();
#pragma omp simd
                for (int i = 0; i < half; ++i) {
                    const float p = get(here[i]), q = get(here[half + i]);
                    const float p_l = get(left[i]), q_l = get(left[half + i]);
                    const float p_r = get(right[i]), q_r = get(right[half + i]);
                    const float s_l = p_l + q_l, a_l = p_l - q_l;
                    const float s_r = p_r + q_r, a_r = p_r - q_r;
                    put(ROOT * (p + q), to[i]);
                    put(0.5f * (s_l + s_r), to[half + i]);
                    put(0.5f * (a_r - a_l), to[2 * half + i]);
                    put(ROOT * (p - q), to[3 * half + i]);
                    put(0.5f * (a_l + a_r), to[4 * half + i]);
                    put(0.5f * (s_r - s_l), to[5 * half + i]);
                }
            }
        }
    }
}

// The transpose of `spread`: the gradient by the pictures from the gradient by the parts.
template <typename T>
void gather(const T* parts, T* pictures, Shape shape, int step, int threads) {
    const int width = shape.width, half = shape.half, columns = (width + step - 1) / step;
#pragma omp parallel num_threads(threads)
    {
        const std::vector<T> nothing(6 * half, T{});
#pragma omp for
        for (int64_t row = 0; row < shape.all_rows(); ++row) {
            const T* strip = parts + shape.in_strip(row) * columns * 6 * half;
            const auto around = [&](int at) {  // the parts that this column is the middle of
                const bool there = at >= 0 && at < width && at % step == 0;
                return there ? strip + at / step * 6 * half : nothing.data();
            };
            for (int at = 0; at < width; ++at) {
                const T* here = around(at);
                const T* left = around(at - 1);  // to which this column is the right one
                const T* right = around(at + 1);
                T* to = pictures + (row * width + at) * 2 * half;
#pragma omp simd
                for (int i = 0; i < half; ++i) {
                    const float s = ROOT * get(here[i]) +
                                    0.5f * (get(left[half + i]) + get(right[half + i]) +
                                            get(left[5 * half + i]) - get(right[5 * half + i]));
                    const float a = ROOT * get(here[3 * half + i]) +
                                    0.5f * (get(left[4 * half + i]) + get(right[4 * half + i]) +
                                            get(left[2 * half + i]) - get(right[2 * half + i]));
                    put(s + a, to[i]);
                    put(s - a, to[half + i]);
                }
            }
        }
    }
}

// From p and q in pictures to s and a in a strip, or back, which is the same map the other way round.
template <typename T>
void turn(const T* from, T* to, Shape shape, bool into_strip, int threads) {
    const int half = shape.half;
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < shape.all_rows(); ++row) {
        const int64_t length = int64_t(shape.width) * 2 * half, strip = shape.in_strip(row);
        const T* x = from + (into_strip ? row : strip) * length;
        T* turned = to + (into_strip ? strip : row) * length;
        for (int column = 0; column < shape.width; ++column, x += 2 * half, turned += 2 * half) {
#pragma omp simd
            for (int i = 0; i < half; ++i) {
                const float one = get(x[i]), other = get(x[half + i]);
                put(ROOT * (one + other), turned[i]);
                put(ROOT * (one - other), turned[half + i]);
            }
        }
    }
}

// From tokens to planes.
template <typename T>
void part(const T* tokens, T* planes, int64_t count, int half, int threads) {
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < count; ++row) {
        const T* x = tokens + row * 2 * half;
        T *s = planes + row * half, *a = s + count * half;
#pragma omp simd
        for (int i = 0; i < half; ++i) {
            const float p = get(x[i]), q = get(x[half + i]);
            put(ROOT * (p + q), s[i]);
            put(ROOT * (p - q), a[i]);
        }
    }
}

// The other way round, with a bias added to each token, unless it is missing.
template <typename T>
void join(const T* planes, const float* bias, T* tokens, int64_t count, int half, int threads) {
    const std::vector<float> none(2 * half);
    const float* added = bias ? bias : none.data();
#pragma omp parallel for num_threads(threads)
    for (int64_t row = 0; row < count; ++row) {
        const T *s = planes + row * half, *a = s + count * half;
        T* x = tokens + row * 2 * half;
#pragma omp simd
        for (int i = 0; i < half; ++i) {
            const float one = get(s[i]), other = get(a[i]);
            put(ROOT * (one + other) + added[i], x[i]);
            put(ROOT * (one - other) + added[half + i], x[half + i]);
        }
    }
}

}  // namespace

#define FUNCTIONS(NAME, T)                                                                         \
    void spread_##NAME(const T* from, T* to, int n, int rows, int width, int half, int step,       \
                       int threads) {                                                              \
        spread(from, to, {n, rows, width, half}, step, threads);                                   \
    }                                                                                              \
    void gather_##NAME(const T* from, T* to, int n, int rows, int width, int half, int step,       \
                       int threads) {                                                              \
        gather(from, to, {n, rows, width, half}, step, threads);                                   \
    }                                                                                              \
    void turn_##NAME(const T* from, T* to, int n, int rows, int width, int half, int into_strip,   \
                     int threads) {                                                                \
        turn(from, to, {n, rows, width, half}, into_strip, threads);                               \
    }                                                                                              \
    void part_##NAME(const T* tokens, T* planes, int count, int half, int threads) {               \
        part(tokens, planes, count, half, threads);                                                \
    }                                                                                              \
    void join_##NAME(const T* planes, const float* bias, T* tokens, int count, int half,           \
                     int threads) {                                                                \
        join(planes, bias, tokens, count, half, threads);                                          \
    }

extern "C" {
FUNCTIONS(float32, float)
FUNCTIONS(bfloat16, Bf16)
}
