// What stands between the CNN's convolutions in a training step: pooling, and batch norm with GELU.
//
// Pictures lie as PyTorch's channels-last has them, n h w channels, in bf16 or float32; the channels
// are a multiple of SIZE. Sums are float32.

#include "sums.h"
#include "vectors.h"

namespace {

// Windows of WIDTH x WIDTH pixels of which the largest is taken: 3 x 3 around each second pixel where
// the picture's sides are odd, else 2 x 2. What lies outside of the picture does not count.
struct Windows {
    int n, rows, columns, channels;
    int rows_out() const { return (rows + 1) / 2; }
    int columns_out() const { return (columns + 1) / 2; }
};

constexpr int begin(int width) { return width == 3 ? -1 : 0; }  // window i begins at 2 i + begin

// `which` is the place of the largest in its window, rows first; the first one of equals.
template <int WIDTH, typename Number>
void pool(const Number* x, Number* largest, uint16_t* which, Windows windows, int threads) {
    const int channels = windows.channels;
#pragma omp parallel for num_threads(threads)
    for (int line = 0; line < windows.n * windows.rows_out(); line++) {
        const int picture = line / windows.rows_out();
        const int top = line % windows.rows_out() * 2 + begin(WIDTH);
        for (int column = 0; column < windows.columns_out(); column++) {
            const int left = column * 2 + begin(WIDTH);
            const Number* pixels[WIDTH * WIDTH];
            int places[WIDTH * WIDTH], count = 0;
            for (int k = 0; k < WIDTH * WIDTH; k++) {
                const int row = top + k / WIDTH, at = left + k % WIDTH;
                if (row < 0 || row >= windows.rows || at < 0 || at >= windows.columns) continue;
                const int64_t above = (int64_t)picture * windows.rows + row;
                pixels[count] = x + (above * windows.columns + at) * channels;
                places[count++] = k;
            }
            const int64_t to = ((int64_t)line * windows.columns_out() + column) * channels;
            for (int c = 0; c < channels; c += SIZE) {
                Vector best = load(pixels[0] + c);
                Integers place = Integers{} + places[0];
                for (int k = 1; k < count; k++) {
                    const Vector here = load(pixels[k] + c);
                    const Integers larger = (here > best) | (here != here);  // NaN is not hidden
                    best = larger ? here : best;
                    place = larger ? Integers{} + places[k] : place;
                }
                store(best, largest + to + c);
                const Halves halves = __builtin_convertvector(place, Halves);
                std::memcpy(which + to + c, &halves, sizeof halves);
            }
        }
    }
}

// The gradient by the pictures: each pixel gets it from the windows whose largest it is.
template <int WIDTH, typename Number>
void unpool(const Number* gradient, const uint16_t* which, Number* by_x, Windows windows,
            int threads) {
    const int channels = windows.channels;
#pragma omp parallel for num_threads(threads)
    for (int line = 0; line < windows.n * windows.rows; line++) {
        const int picture = line / windows.rows, row = line % windows.rows;
        for (int column = 0; column < windows.columns; column++) {
            int64_t from[4];  // the windows it is in
            int places[4], count = 0;
            for (int i = row / 2; 2 * i + begin(WIDTH) <= row; i++)
                for (int j = column / 2; 2 * j + begin(WIDTH) <= column; j++) {
                    const int64_t above = (int64_t)picture * windows.rows_out() + i;
                    from[count] = (above * windows.columns_out() + j) * channels;
                    places[count++] =
                        (row - 2 * i - begin(WIDTH)) * WIDTH + column - 2 * j - begin(WIDTH);
                }
            Number* to = by_x + ((int64_t)line * windows.columns + column) * channels;
            for (int c = 0; c < channels; c += SIZE) {
                Vector total{};
                for (int k = 0; k < count; k++) {
                    Halves halves;
                    std::memcpy(&halves, which + from[k] + c, sizeof halves);
                    const Integers here = __builtin_convertvector(halves, Integers) == places[k];
                    const Vector given = load(gradient + from[k] + c);
                    total += here ? given : Vector{};
                }
                store(total, to + c);
            }
        }
    }
}

struct Pixels {
    int64_t count;
    int channels;
};

// Call `each`(place of the number, its channel) for the first of every SIZE numbers.
template <typename Each>
void go_through(Pixels pixels, int threads, Each each) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t pixel = 0; pixel < pixels.count; pixel++)
        for (int c = 0; c < pixels.channels; c += SIZE) each(pixel * pixels.channels + c, c);
}

// Add up what `each`(place of the number, its channel, sums of two kinds) adds to the sums of its
// channel, over all pixels: 2 x channels sums.
template <typename Each>
void add_up(Pixels pixels, float* sums, int threads, Each each) {
    const int channels = pixels.channels;
    sum_up(pixels.count, 2 * channels, sums, threads, [=](int64_t pixel, float* part) {
        for (int c = 0; c < channels; c += SIZE) {
            Vector one = load(part + c), other = load(part + channels + c);
            each(pixel * channels + c, c, one, other);
            store(one, part + c);
            store(other, part + channels + c);
        }
    });
}

// Sums of x - shift and of its square, by channels.
template <typename Number>
void moments(const Number* x, float* sums, Pixels pixels, int threads) {
    add_up(pixels, sums, threads, [=](int64_t at, int c, Vector& sum, Vector& squares) {
        const Vector shifted = load(x + at) - load(x + c);  // the first pixel is the shift
        sum += shifted;
        squares += shifted * shifted;
    });
}

// gelu(scale (x - shift) + offset + shortcut); the first pixel is the shift, the shortcut may be
// missing.
template <typename Number>
void activate(const Number* x, const Number* shortcut, const float* scale, const float* offset,
              Number* y, Pixels pixels, int threads) {
    go_through(pixels, threads, [=](int64_t at, int c) {
        Vector z = (load(x + at) - load(x + c)) * load(scale + c) + load(offset + c);
        if (shortcut) z += load(shortcut + at);
        Vector below, density;
        normal(z, below, density);
        store(z * below, y + at);
    });
}

// The gradient by z, of which `activate` gives gelu(z), and by channels its sum and that of it times
// x - shift.
template <typename Number>
void activate_back(const Number* x, const Number* shortcut, const float* scale,
                   const float* offset, const Number* gradient, Number* by_z, float* sums,
                   Pixels pixels, int threads) {
    add_up(pixels, sums, threads, [=](int64_t at, int c, Vector& sum, Vector& products) {
        const Vector shifted = load(x + at) - load(x + c);
        Vector z = shifted * load(scale + c) + load(offset + c);
        if (shortcut) z += load(shortcut + at);
        Vector below, density;
        normal(z, below, density);
        const Vector by = load(gradient + at) * (below + z * density);
        store(by, by_z + at);
        sum += by;
        products += by * shifted;
    });
}

// scale by_z + slope (x - shift) + offset, which may take the place of by_z.
template <typename Number>
void normalize_back(const Number* x, const Number* by_z, const float* scale, const float* slope,
                    const float* offset, Number* by_x, Pixels pixels, int threads) {
    go_through(pixels, threads, [=](int64_t at, int c) {
        const Vector shifted = load(x + at) - load(x + c);
        store(load(by_z + at) * load(scale + c) + shifted * load(slope + c) + load(offset + c),
              by_x + at);
    });
}

}  // namespace

#define FUNCTIONS(NAME, T)                                                                         \
    void pool_##NAME(const T* x, T* largest, uint16_t* which, int n, int rows, int columns,        \
                     int channels, int threads) {                                                  \
        (rows % 2 ? pool<3, T> : pool<2, T>)(x, largest, which, {n, rows, columns, channels},      \
                                             threads);                                             \
    }                                                                                              \
    void unpool_##NAME(const T* gradient, const uint16_t* which, T* by_x, int n, int rows,         \
                       int columns, int channels, int threads) {                                   \
        (rows % 2 ? unpool<3, T> : unpool<2, T>)(gradient, which, by_x,                            \
                                                 {n, rows, columns, channels}, threads);           \
    }                                                                                              \
    void moments_##NAME(const T* x, float* sums, int pixels, int channels, int threads) {          \
        moments(x, sums, {pixels, channels}, threads);                                             \
    }                                                                                              \
    void activate_##NAME(const T* x, const T* shortcut, const float* scale, const float* offset,   \
                         T* y, int pixels, int channels, int threads) {                            \
        activate(x, shortcut, scale, offset, y, {pixels, channels}, threads);                      \
    }                                                                                              \
    void activate_back_##NAME(const T* x, const T* shortcut, const float* scale,                   \
                              const float* offset, const T* gradient, T* by_z, float* sums,        \
                              int pixels, int channels, int threads) {                             \
        activate_back(x, shortcut, scale, offset, gradient, by_z, sums, {pixels, channels},        \
                      threads);                                                                    \
    }                                                                                              \
    void normalize_back_##NAME(const T* x, const T* by_z, const float* scale, const float* slope,  \
                               const float* offset, T* by_x, int pixels, int channels,             \
                               int threads) {                                                      \
        normalize_back(x, by_z, scale, slope, offset, by_x, {pixels, channels}, threads);          \
    }

extern "C" {
FUNCTIONS(float32, float)
FUNCTIONS(bfloat16, Bf16)
}
