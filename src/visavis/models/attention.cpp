// Self-attention with a bias for each pair of tokens, forward and backward, for heads of 16 numbers.
//
// One picture and pair of heads at a time: the 3 x t x 16 queries, keys and values and its t x t weights stay
// in the processor's cache, in float32, and the weights are computed again in the backward pass.
// Heads come in pairs, those of the first half with those of the second; what is read and written
// are the sums of a pair and the differences, as planes.cpp has them. The first `readers` of a
// picture's t tokens read all t:
//
//     qkv      2 n t 3 heads/2 16   bf16 or float32
//     added    2 3 heads/2 16       float32, to each token's queries, keys and values
//     bias     heads readers t      float32
//     read     2 n readers heads/2 16   as qkv
//     softmax  n heads readers 2    float32; of each its largest score, and 1 / its denominator
//
// `omp` is what PyTorch itself uses.

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace {

// A head has SIZE numbers.
constexpr int ROWS = 8;         // tokens whose sums are in registers at once
constexpr float SCALE = 0.25f;  // 1 / sqrt(SIZE)
constexpr float MASKED = -1e30f;

// One picture and head, and room for what is computed of it. `rows` are the readers, filled up to
// ROWS; `padded` tokens fill whole vectors.
struct Head {
    const int tokens, readers, rows, padded, vectors;
    std::vector<Vector> q, k, v, by_read;      // padded of each; past the last token zeros
    std::vector<Vector> k_columns, v_columns;  // SIZE x vectors
    std::vector<Vector> weights, by_scores;    // rows x vectors

    Head(int t, int r)
        : tokens(t), readers(r), rows((r + ROWS - 1) / ROWS * ROWS),
          padded((t + SIZE - 1) / SIZE * SIZE), vectors(padded / SIZE),
          q(padded), k(padded), v(padded), by_read(padded),
          k_columns(padded), v_columns(padded),
          weights(rows * vectors), by_scores(rows * vectors) {}

    // The biases of one head after another, rows x vectors each. What is past the last token is
    // masked, so that its weight is 0.
    std::vector<Vector> pad(const float* biases, int heads) const {
        std::vector<Vector> to(heads * rows * vectors, Vector{} + MASKED);
        for (int row = 0; row < heads * readers; row++) {
            const int place = row / readers * rows + row % readers;
            std::memcpy((float*)to.data() + place * padded, biases + row * tokens, 4 * tokens);
        }
        return to;
    }

    // One head of a pair, with what is added to it; the planes lie `apart` numbers from each other.
    template <typename Number>
    void read_rows(int count, const Number* sums, int64_t apart, int stride, bool second,
                   Vector added, float scale, std::vector<Vector>& to) {
        for (int i = 0; i < count; i++) {
            const Number* from = sums + (int64_t)i * stride;
            const Vector s = load(from), a = load(from + apart);
            to[i] = (ROOT * (second ? s - a : s + a) + added) * scale;
        }
    }

    // Both heads of a pair.
    template <typename Number>
    void write_rows(int count, const Vector* first, const Vector* second, Number* sums,
                    int64_t apart, int stride) const {
        for (int i = 0; i < count; i++) {
            Number* to = sums + (int64_t)i * stride;
            store(ROOT * (first[i] + second[i]), to);
            store(ROOT * (first[i] - second[i]), to + apart);
        }
    }

    void transpose(const std::vector<Vector>& rows, std::vector<Vector>& columns) {
        const float* from = (const float*)rows.data();
        float* to = (float*)columns.data();
        for (int i = 0; i < tokens; i++)
            for (int c = 0; c < SIZE; c++) to[c * padded + i] = from[i * SIZE + c];
    }

    // out[row + r] = start[row + r] + a[row + r] . columns, for ROWS rows.
    void products(int row, const std::vector<Vector>& a, const std::vector<Vector>& columns,
                  const Vector* start, Vector* out) {
        const float* numbers = (const float*)&a[row];
        for (int j = 0; j < vectors; j++) {
            Vector total[ROWS];
            for (int r = 0; r < ROWS; r++) total[r] = start ? start[r * vectors + j] : Vector{};
            for (int c = 0; c < SIZE; c++) {
                Vector column = columns[c * vectors + j];
                for (int r = 0; r < ROWS; r++) total[r] += numbers[r * SIZE + c] * column;
            }
            for (int r = 0; r < ROWS; r++) out[r * vectors + j] = total[r];
        }
    }

    // total[r] = sum of matrix[r][i] rows[i] over `count` rows, for ROWS rows of the matrix that lie
    // `step` numbers apart, and their numbers `along` apart.
    void combine(const float* matrix, int step, int along, const std::vector<Vector>& rows,
                 int count, Vector* total) {
        Vector sums[ROWS] = {};
        for (int i = 0; i < count; i++) {
            Vector x = rows[i];
            for (int r = 0; r < ROWS; r++) sums[r] += matrix[r * step + i * along] * x;
        }
        for (int r = 0; r < ROWS; r++) total[r] = sums[r];
    }
};

template <typename Number>
void forward(const Number* qkv, const float* added, const float* bias, Number* read,
             float* softmax, int n, int t, int readers, int heads, int chunks, int threads) {
    const int pairs = heads / 2, half = pairs * SIZE;
    const int64_t plane = (int64_t)n * t * 3 * half;
    const int64_t read_plane = (int64_t)n * readers * half;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        Head now(t, readers);
        const std::vector<Vector> padded = now.pad(bias, heads);
        std::vector<Vector> made[2] = {now.q, now.q};
        for (int task = 0; task < (n - chunk + chunks - 1) / chunks * pairs; task++) {
            const int pair = task % pairs, picture = task / pairs * chunks + chunk;
            const int64_t place = (int64_t)picture * readers * half + pair * SIZE;
            const Number* from = qkv + (int64_t)picture * t * 3 * half + pair * SIZE;
            for (int second = 0; second < 2; second++) {
                const int head = second * pairs + pair;
                const int64_t first = ((int64_t)picture * heads + head) * readers;
                const Vector* biases = &padded[head * now.rows * now.vectors];
                const float* to_add = added + second * 3 * half + pair * SIZE;
                const auto get_rows = [&](int which, int count, float scale, auto& to) {
                    now.read_rows(count, from + which * half, plane, 3 * half, second,
                                  load(to_add + which * half), scale, to);
                };
                get_rows(0, readers, SCALE, now.q);
                get_rows(1, t, 1, now.k);
                get_rows(2, t, 1, now.v);
                now.transpose(now.k, now.k_columns);
                for (int row = 0; row < readers; row += ROWS) {
                    Vector* weights = &now.weights[row * now.vectors];
                    now.products(row, now.q, now.k_columns, &biases[row * now.vectors], weights);
                    float totals[ROWS];
                    for (int r = 0; r < ROWS; r++) {
                        Vector* scores = weights + r * now.vectors;
                        Vector highest = scores[0];
                        for (int j = 1; j < now.vectors; j++)
                            highest = scores[j] > highest ? scores[j] : highest;
                        const float top = maximum(highest);
                        Vector total{};
                        for (int j = 0; j < now.vectors; j++)
                            total += scores[j] = exponential(scores[j] - top);
                        totals[r] = sum(total);
                        if (row + r < readers) {
                            float* kept = softmax + (first + row + r) * 2;
                            kept[0] = top;
                            kept[1] = 1 / totals[r];
                        }
                    }
                    Vector* sums = &made[second][row];
                    now.combine((float*)weights, now.padded, 1, now.v, t, sums);
                    for (int r = 0; r < ROWS; r++) sums[r] /= totals[r];
                }
            }
            now.write_rows(readers, made[0].data(), made[1].data(), read + place, read_plane,
                           half);
        }
    }
}

// by_added and by_bias have one part for each chunk, its own sum, so that the order of summation, and
// with it every bit, is the same whatever the number of threads.
template <typename Number>
void backward(const Number* qkv, const float* added, const float* bias, const float* softmax,
              const Number* by_read, Number* by_qkv, float* by_added, float* by_bias, int n, int t,
              int readers, int heads, int chunks, int threads) {
    const int pairs = heads / 2, half = pairs * SIZE;
    const int64_t plane = (int64_t)n * t * 3 * half;
    const int64_t read_plane = (int64_t)n * readers * half;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        Head now(t, readers);
        const std::vector<Vector> padded = now.pad(bias, heads);
        std::vector<Vector> summed(padded.size()), summed_added(2 * 3 * pairs);
        std::vector<Vector> made[2][3];  // of both heads by queries, keys and values
        for (auto& of_head : made)
            for (auto& rows : of_head) rows = now.q;
        for (int task = 0; task < (n - chunk + chunks - 1) / chunks * pairs; task++) {
            const int pair = task % pairs, picture = task / pairs * chunks + chunk;
            const int64_t place = (int64_t)picture * t * 3 * half + pair * SIZE;
            for (int second = 0; second < 2; second++) {
                const int head = second * pairs + pair;
                const int64_t first = (int64_t)head * now.rows * now.vectors;
                const Vector* biases = &padded[first];
                const float* to_add = added + second * 3 * half + pair * SIZE;
                const auto get_rows = [&](int which, int count, float scale, auto& to) {
                    now.read_rows(count, qkv + place + which * half, plane, 3 * half, second,
                                  load(to_add + which * half), scale, to);
                };
                get_rows(0, readers, SCALE, now.q);
                get_rows(1, t, 1, now.k);
                get_rows(2, t, 1, now.v);
                now.read_rows(readers, by_read + (int64_t)picture * readers * half + pair * SIZE,
                              read_plane, half, second, Vector{}, 1, now.by_read);
                now.transpose(now.k, now.k_columns);
                now.transpose(now.v, now.v_columns);
                const float* kept = softmax + ((int64_t)picture * heads + head) * readers * 2;
                for (int row = 0; row < readers; row += ROWS) {
                    Vector* weights = &now.weights[row * now.vectors];
                    Vector* by_scores = &now.by_scores[row * now.vectors];
                    now.products(row, now.q, now.k_columns, &biases[row * now.vectors], weights);
                    now.products(row, now.by_read, now.v_columns, nullptr, by_scores);
                    for (int r = 0; r < ROWS && row + r < readers; r++) {
                        Vector* w = weights + r * now.vectors;
                        Vector* d = by_scores + r * now.vectors;
                        Vector* s = &summed[first + (row + r) * now.vectors];
                        const float top = kept[2 * (row + r)], share = kept[2 * (row + r) + 1];
                        Vector total{};
                        for (int j = 0; j < now.vectors; j++) {
                            w[j] = exponential(w[j] - top) * share;
                            total += w[j] * d[j];
                        }
                        const float mean = sum(total);
                        for (int j = 0; j < now.vectors; j++) {
                            d[j] = w[j] * (d[j] - mean);
                            s[j] += d[j];
                        }
                    }
                    Vector* by_q = &made[second][0][row];
                    now.combine((float*)by_scores, now.padded, 1, now.k, t, by_q);
                    for (int r = 0; r < ROWS; r++) by_q[r] *= SCALE;
                }
                auto& by_queries = made[second][0];  // of tokens that do not read there is nothing
                std::fill(by_queries.begin() + readers, by_queries.end(), Vector{});
                for (int row = 0; row < t; row += ROWS) {  // of the tokens that are read
                    now.combine((float*)now.by_scores.data() + row, 1, now.padded, now.q, readers,
                                &made[second][1][row]);
                    now.combine((float*)now.weights.data() + row, 1, now.padded, now.by_read,
                                readers, &made[second][2][row]);
                }
                for (int which = 0; which < 3; which++)
                    for (int i = 0; i < t; i++)
                        summed_added[(second * 3 + which) * pairs + pair] += made[second][which][i];
            }
            for (int which = 0; which < 3; which++)
                now.write_rows(t, made[0][which].data(), made[1][which].data(),
                               by_qkv + place + which * half, plane, 3 * half);
        }
        std::memcpy(by_added + (int64_t)chunk * 6 * half, summed_added.data(), 4 * 6 * half);
        float* to = by_bias + (int64_t)chunk * heads * readers * t;
        for (int row = 0; row < heads * readers; row++) {
            const int at = row / readers * now.rows + row % readers;
            std::memcpy(to + row * t, (const float*)summed.data() + at * now.padded, 4 * t);
        }
    }
}

}  // namespace

#define FUNCTIONS(NAME, T)                                                                         \
    void forward_##NAME(const T* qkv, const float* added, const float* bias, T* read,              \
                        float* softmax, int n, int t, int readers, int heads, int chunks,          \
                        int threads) {                                                             \
        forward(qkv, added, bias, read, softmax, n, t, readers, heads, chunks, threads);           \
    }                                                                                              \
    void backward_##NAME(const T* qkv, const float* added, const float* bias,                      \
                         const float* softmax, const T* by_read, T* by_qkv, float* by_added,       \
                         float* by_bias, int n, int t, int readers, int heads, int chunks,         \
                         int threads) {                                                            \
        backward(qkv, added, bias, softmax, by_read, by_qkv, by_added, by_bias, n, t, readers,     \
                 heads, chunks, threads);                                                          \
    }

extern "C" {
FUNCTIONS(float32, float)
FUNCTIONS(bfloat16, Bf16)
}
