// What stands before and after the products of convolutions that make six or four rows of a picture
// at once (winograd.py). The channels of a pixel are two halves, p and q; s = (p + q) / sqrt 2 and
// a = (p - q) / sqrt 2, as in mirror.cpp. Numbers are float32, in vectors, so that a half is a
// multiple of 16. Arrays lie as PyTorch's channels-last has them; `taps` are the rows that a tile
// reads, two more than it makes:
//
//     pictures    n h w 2 half               p, then q
//     read        taps 2 n tiles w 3 half    for s, then for a, see `read_tiles`
//     made        taps 2 n tiles w half      s, then a
//
// `matrix` is one of those of winograd.py, and has a column for each of the taps.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

namespace {

struct Shape {
    int pictures, rows, width, half;
};

template <int TAPS>
struct Tiles {
    static constexpr int MADE = TAPS - 2;

    Shape shape;
    int of_picture = (shape.rows + MADE - 1) / MADE;
    int64_t all = int64_t(shape.pictures) * of_picture;

    int first_row(int64_t tile) const { return int(tile % of_picture) * MADE; }
    int64_t pixel(int64_t tile, int row, int column) const {  // where it is in the pictures
        const int64_t picture = tile / of_picture;
        return ((picture * shape.rows + row) * shape.width + column) * 2 * shape.half;
    }
    int64_t column(int64_t tile, int column) const { return tile * shape.width + column; }
};

// A matrix that the compiler can keep in registers.
template <int ROWS, int COLUMNS>
struct Matrix {
    float at[ROWS][COLUMNS];

    explicit Matrix(const float* from) { std::copy_n(from, ROWS * COLUMNS, &at[0][0]); }
    Vector row_times(int row, const Vector* x) const {
        Vector sum = at[row][0] * x[0];
#pragma GCC unroll 8
        for (int i = 1; i < COLUMNS; ++i) sum += at[row][i] * x[i];
        return sum;
    }
    Vector column_times(int column, const Vector* x) const {
        Vector sum = at[0][column] * x[0];
#pragma GCC unroll 8
        for (int i = 1; i < ROWS; ++i) sum += at[i][column] * x[i];
        return sum;
    }
};

// For each column of a tile, with l and r for the columns on its left and right and zeros beyond the
// edges, the matrix times what its rows have of
//     s   (s_l + s_r) / sqrt 2   (a_r - a_l) / sqrt 2     of which the s that comes out is made
//     a   (a_l + a_r) / sqrt 2   (s_r - s_l) / sqrt 2     of which the a
template <int TAPS>
void read_tiles(const float* pictures, const float* matrix, float* read, Shape shape, int threads) {
    const Tiles<TAPS> tiles{shape};
    const Matrix<TAPS, TAPS> by(matrix);
    const int half = shape.half;
    const int64_t plane = tiles.all * shape.width * 3 * half;
#pragma omp parallel num_threads(threads)
    {
        const std::vector<float> edge(2 * half);
#pragma omp for
        for (int64_t tile = 0; tile < tiles.all; ++tile) {
            for (int column = 0; column < shape.width; ++column) {
                const float *here[TAPS], *left[TAPS], *right[TAPS];
                for (int k = 0; k < TAPS; ++k) {
                    const int row = tiles.first_row(tile) - 1 + k;
                    const bool in = row >= 0 && row < shape.rows;
                    const float* pixel =
                        in ? pictures + tiles.pixel(tile, row, column) : edge.data();
                    here[k] = pixel;
                    left[k] = in && column > 0 ? pixel - 2 * half : edge.data();
                    right[k] = in && column + 1 < shape.width ? pixel + 2 * half : edge.data();
                }
                float* to = read + tiles.column(tile, column) * 3 * half;
                for (int i = 0; i < half; i += SIZE) {
                    const auto write = [&](const Vector* x, float* first) {
#pragma GCC unroll 8
                        for (int k = 0; k < TAPS; ++k)
                            store(by.row_times(k, x), first + 2 * k * plane + i);
                    };
                    Vector s[TAPS], a[TAPS];
                    for (int k = 0; k < TAPS; ++k) {
                        const Vector p = load(here[k] + i), q = load(here[k] + half + i);
                        s[k] = ROOT * (p + q);
                        a[k] = ROOT * (p - q);
                    }
                    write(s, to);
                    write(a, to + plane);
                    for (int k = 0; k < TAPS; ++k) {
                        const Vector p = load(right[k] + i) + load(left[k] + i);
                        const Vector q = load(right[k] + half + i) + load(left[k] + half + i);
                        s[k] = 0.5f * (p + q);
                        a[k] = 0.5f * (p - q);
                    }
                    write(s, to + half);
                    write(a, to + plane + half);
                    for (int k = 0; k < TAPS; ++k) {
                        const Vector p = load(right[k] + i) - load(left[k] + i);
                        const Vector q = load(right[k] + half + i) - load(left[k] + half + i);
                        s[k] = 0.5f * (p + q);
                        a[k] = 0.5f * (p - q);
                    }
                    write(a, to + 2 * half);
                    write(s, to + plane + 2 * half);
                }
            }
        }
    }
}

// For each row that a tile makes, that row of the matrix times what the taps made.
template <int TAPS>
void make_tiles(const float* made, const float* matrix, float* pictures, Shape shape, int threads) {
    const Tiles<TAPS> tiles{shape};
    const Matrix<TAPS - 2, TAPS> by(matrix);
    const int half = shape.half;
    const int64_t plane = tiles.all * shape.width * half;
#pragma omp parallel for num_threads(threads)
    for (int64_t tile = 0; tile < tiles.all; ++tile) {
        const int first = tiles.first_row(tile), rows = std::min(TAPS - 2, shape.rows - first);
        for (int column = 0; column < shape.width; ++column) {
            const float* from = made + tiles.column(tile, column) * half;
            float* to = pictures + tiles.pixel(tile, first, column);
            for (int i = 0; i < half; i += SIZE) {
                Vector p[TAPS], q[TAPS];
                for (int k = 0; k < TAPS; ++k) {
                    const Vector s = load(from + 2 * k * plane + i);
                    const Vector a = load(from + (2 * k + 1) * plane + i);
                    p[k] = ROOT * (s + a);
                    q[k] = ROOT * (s - a);
                }
                for (int row = 0; row < rows; ++row) {
                    float* pixel = to + int64_t(row) * shape.width * 2 * half + i;
                    store(by.row_times(row, p), pixel);
                    store(by.row_times(row, q), pixel + half);
                }
            }
        }
    }
}

// The transpose of `make_tiles`.
template <int TAPS>
void unmake_tiles(const float* pictures, const float* matrix, float* made, Shape shape,
                  int threads) {
    const Tiles<TAPS> tiles{shape};
    const Matrix<TAPS - 2, TAPS> by(matrix);
    const int half = shape.half;
    const int64_t plane = tiles.all * shape.width * half;
#pragma omp parallel for num_threads(threads)
    for (int64_t tile = 0; tile < tiles.all; ++tile) {
        const int first = tiles.first_row(tile), rows = std::min(TAPS - 2, shape.rows - first);
        for (int column = 0; column < shape.width; ++column) {
            const float* from = pictures + tiles.pixel(tile, first, column);
            float* to = made + tiles.column(tile, column) * half;
            for (int i = 0; i < half; i += SIZE) {
                Vector s[TAPS - 2]{}, a[TAPS - 2]{};
                for (int row = 0; row < rows; ++row) {
                    const float* pixel = from + int64_t(row) * shape.width * 2 * half + i;
                    const Vector p = load(pixel), q = load(pixel + half);
                    s[row] = ROOT * (p + q);
                    a[row] = ROOT * (p - q);
                }
#pragma GCC unroll 8
                for (int k = 0; k < TAPS; ++k) {
                    store(by.column_times(k, s), to + 2 * k * plane + i);
                    store(by.column_times(k, a), to + (2 * k + 1) * plane + i);
                }
            }
        }
    }
}

}  // namespace

#define FUNCTION(NAME)                                                                             \
    void NAME##_float32(const float* from, const float* matrix, float* to, int taps, int n,        \
                        int rows, int width, int half, int threads) {                              \
        (taps == 8 ? NAME<8> : NAME<6>)(from, matrix, to, {n, rows, width, half}, threads);        \
    }

extern "C" {
FUNCTION(read_tiles)
FUNCTION(make_tiles)
FUNCTION(unmake_tiles)
}
