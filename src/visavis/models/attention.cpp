// Self-attention with a bias for each pair of tokens, forward and backward, for heads of 16 numbers.
//
// One picture at a time: its queries, keys and values stay in the processor's cache, in float32, and
// so do the weights of ROWS readers of one head, which are computed again in the backward pass.
// Heads come in pairs, those of the first half with those of the second; what is read and written
// are the sums of a pair and the differences, as planes.cpp has them. The first `readers` of a
// picture's t tokens read all t:
//
//     qkv      2 n t 3 heads/2 16   bf16 or float32
//     added    2 3 heads/2 16       float32, to each token's queries, keys and values
//     bias     heads readers t      float32
//     read     2 n readers heads/2 16   as qkv
//     softmax  n heads 2 readers    float32; the largest score in powers of 2, 1 / the denominator
//
// `omp` is what PyTorch itself uses.

#include <algorithm>
#include <vector>

#include "vectors.h"

namespace {

// A head has SIZE numbers.
constexpr int ROWS = 13;  // readers whose sums are in registers: 65 is 5 x 13, 37 nearly 3 x 13
constexpr float SCALE = 0.25f;  // 1 / sqrt(SIZE)
constexpr float MASKED = -1e30f;

typedef std::vector<Vector> Rows;

// Of a SIZE x SIZE matrix in blocks of HALF x HALF, exchange those that lie across from each other,
// and go on inside of each.
template <int HALF = SIZE / 2>
inline void transpose(Vector* rows) {
    Integers first;
    for (int i = 0; i < SIZE; i++) first[i] = i & HALF ? SIZE + (i ^ HALF) : i;
#pragma GCC unroll 16
    for (int i = 0; i < SIZE; i++)
        if (!(i & HALF)) {
            const Vector a = rows[i], b = rows[i + HALF];
            rows[i] = __builtin_shuffle(a, b, first);
            rows[i + HALF] = __builtin_shuffle(a, b, first ^ HALF);
        }
    if constexpr (HALF > 1) transpose<HALF / 2>(rows);
}

// In number i of the first row the sum of row i, or its largest number; the others are lost.
template <bool ADDED, int HALF = SIZE / 2>
inline Vector reduce_each(Vector* rows) {
    Integers own;
    for (int i = 0; i < SIZE; i++) own[i] = i & HALF ? SIZE + i : i;
#pragma GCC unroll 8
    for (int i = 0; i < HALF; i++) {
        const Vector a = __builtin_shuffle(rows[i], rows[i + HALF], own);
        const Vector b = __builtin_shuffle(rows[i], rows[i + HALF], own ^ HALF);
        rows[i] = ADDED ? a + b : (a > b ? a : b);
    }
    if constexpr (HALF > 1) reduce_each<ADDED, HALF / 2>(rows);
    return rows[0];
}

// Which of a token's vectors has the queries of a head, once they are parted. Its keys are `pairs`
// further, and its values as much again.
inline int of_queries(int head, int pairs) { return head / pairs * 3 * pairs + head % pairs; }

// Weights of a head lie in blocks of ROWS readers: in each the first SIZE tokens of all of them, the
// next SIZE and so on. What fills up readers and tokens changes nothing that is handed on.
struct Picture {
    const int tokens, readers;
    const int rows;     // readers, filled up to ROWS
    const int vectors;  // of SIZE tokens each
    const int room;     // for the vectors of all tokens, filled up to either

    Picture(int t, int r)
        : tokens(t), readers(r), rows((r + ROWS - 1) / ROWS * ROWS), vectors((t + SIZE - 1) / SIZE),
          room(std::max(rows, vectors * SIZE)) {}

    // Where a row of heads x readers begins; its next SIZE numbers are ROWS vectors further.
    int64_t place(int row) const {
        const int reader = row % readers;
        return ((int64_t)row / readers * rows + reader / ROWS * ROWS) * vectors + reader % ROWS;
    }

    // The biases, in powers of 2. What is past the last token is masked: it adds 2^-63 to a sum of 1
    // or more, which is nothing.
    Rows pad(const float* biases, int heads) const {
        Rows to((int64_t)heads * rows * vectors, Vector{} + MASKED);
        for (int row = 0; row < heads * readers; row++) {
            float* first = (float*)&to[place(row)];
            for (int i = 0; i < tokens; i++, biases++)
                first[i / SIZE * ROWS * SIZE + i % SIZE] = *biases * LOG2_E;
        }
        return to;
    }

    void unpad(const Rows& from, int heads, float* to) const {
        for (int row = 0; row < heads * readers; row++) {
            const float* first = (const float*)&from[place(row)];
            for (int i = 0; i < tokens; i++, to++) *to = first[i / SIZE * ROWS * SIZE + i % SIZE];
        }
    }

    // `count` tokens' sums and differences, which lie `apart` numbers from each other, of `pairs`
    // vectors, with what is added to these: the first vector of all tokens, with `room` for them,
    // the second and so on, then those of the other half.
    template <typename Number>
    void part(int count, int pairs, const Number* sums, int64_t apart, const float* added,
              Vector* to) const {
        Vector* second = to + pairs * room;
        for (int i = 0; i < count; i++)
            for (int pair = 0; pair < pairs; pair++, sums += SIZE) {
                const Vector s = load(sums), a = load(sums + apart);
                Vector one = ROOT * (s + a), other = ROOT * (s - a);
                if (added) {
                    one += load(added + pair * SIZE);
                    other += load(added + (pairs + pair) * SIZE);
                }
                to[pair * room + i] = one;
                second[pair * room + i] = other;
            }
    }

    template <typename Number>
    void join(int count, int pairs, const Vector* from, Number* sums, int64_t apart) const {
        const Vector* second = from + pairs * room;
        for (int i = 0; i < count; i++)
            for (int pair = 0; pair < pairs; pair++, sums += SIZE) {
                const Vector one = from[pair * room + i], other = second[pair * room + i];
                store(ROOT * (one + other), sums);
                store(ROOT * (one - other), sums + apart);
            }
    }

    // Number c of SIZE tokens, of the next SIZE and so on; then number c + 1.
    void to_columns(const Vector* from, Vector* columns) const {
        for (int j = 0; j < vectors; j++) {
            Vector x[SIZE];
            std::memcpy(x, from + j * SIZE, sizeof x);
            transpose(x);
#pragma GCC unroll 16
            for (int c = 0; c < SIZE; c++) columns[c * vectors + j] = x[c];
        }
    }

    // out[r] = start[r] + a[r] . columns, for ROWS rows and WIDE vectors.
    template <int WIDE>
    void products_of(const Vector* a, const Vector* columns, const Vector* start,
                     Vector* out) const {
        const float* numbers = (const float*)a;
        Vector total[ROWS][WIDE];
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < WIDE; j++) total[r][j] = start ? start[j * ROWS + r] : Vector{};
#pragma GCC unroll 1
        for (int c = 0; c < SIZE; c++) {
            Vector column[WIDE];
            for (int j = 0; j < WIDE; j++) column[j] = columns[c * vectors + j];
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++)
                for (int j = 0; j < WIDE; j++) total[r][j] += numbers[r * SIZE + c] * column[j];
        }
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++)
            for (int j = 0; j < WIDE; j++) out[j * ROWS + r] = total[r][j];
    }

    // The same for all vectors.
    void products(const Vector* a, const Vector* columns, const Vector* start, Vector* out) const {
        for (int j = 0; j < vectors; j += 2) {
            const Vector* first = start ? start + j * ROWS : nullptr;
            if (j + 1 < vectors)
                products_of<2>(a, columns + j, first, out + j * ROWS);
            else
                products_of<1>(a, columns + j, first, out + j * ROWS);
        }
    }

    // total[r] = sum of weights[r][i] x[i] over all tokens, for ROWS rows.
    void combine(const Vector* weights, const Vector* x, Vector* total) const {
        Vector sums[ROWS] = {};
        const float* numbers = (const float*)weights;
        for (int first = 0; first < tokens; first += SIZE, numbers += ROWS * SIZE)
#pragma GCC unroll 1
            for (int i = 0; i < std::min(SIZE, tokens - first); i++)
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; r++) sums[r] += numbers[r * SIZE + i] * x[first + i];
        std::memcpy(total, sums, sizeof sums);
    }

    // total[i] += sum of weights[r][i] x[r] over ROWS rows, for all tokens.
    void combine_back(const Vector* weights, const Vector* x, Vector* total) const {
        Vector rows[ROWS];
        std::memcpy(rows, x, sizeof rows);
        const float* numbers = (const float*)weights;
        for (int first = 0; first < tokens; first += SIZE, numbers += ROWS * SIZE)
#pragma GCC unroll 1
            for (int i = 0; i < std::min(SIZE, tokens - first); i++) {
                Vector sum = total[first + i];
#pragma GCC unroll 16
                for (int r = 0; r < ROWS; r++) sum += numbers[r * SIZE + i] * rows[r];
                total[first + i] = sum;
            }
    }

    // Call with the place of each vector of ROWS readers' weights and its reader's number.
    template <typename Each>
    void each_weight(Each each) const {
        for (int j = 0; j < vectors; j++)
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; r++) each(j * ROWS + r, r);
    }
};

template <typename Number>
void forward(const Number* qkv, const float* added, const float* bias, Number* read,
             float* softmax, int n, int t, int readers, int heads, int chunks, int threads) {
    const int pairs = heads / 2, half = pairs * SIZE;
    const int64_t plane = (int64_t)n * t * 3 * half, read_plane = (int64_t)n * readers * half;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        const Picture now(t, readers);
        const Rows biases = now.pad(bias, heads);
        Rows all(3 * heads * now.room), made(heads * now.room);
        Rows columns(SIZE * now.vectors), weights(ROWS * now.vectors);
        Vector* w = weights.data();
        for (int picture = chunk; picture < n; picture += chunks) {
            now.part(t, 3 * pairs, qkv + (int64_t)picture * t * 3 * half, plane, added, all.data());
            for (int head = 0; head < heads; head++) {
                Vector* q = &all[of_queries(head, pairs) * now.room];
                const Vector *k = q + pairs * now.room, *v = k + pairs * now.room;
                float* kept = softmax + ((int64_t)picture * heads + head) * 2 * readers;
                for (int i = 0; i < readers; i++) q[i] *= SCALE * LOG2_E;
                now.to_columns(k, columns.data());
                for (int row = 0; row < readers; row += ROWS) {
                    const int64_t first = (int64_t)(head * now.rows + row) * now.vectors;
                    now.products(q + row, columns.data(), &biases[first], w);
                    Vector highest[SIZE] = {}, totals[SIZE] = {};
                    std::memcpy(highest, w, ROWS * sizeof *w);
                    now.each_weight([&](int at, int r) {
                        highest[r] = w[at] > highest[r] ? w[at] : highest[r];
                    });
                    const Vector top = reduce_each<false>(highest);
                    now.each_weight([&](int at, int r) {
                        totals[r] += w[at] = power_of_2(w[at] - top[r]);
                    });
                    const Vector share = 1 / reduce_each<true>(totals);
                    const int count = std::min(ROWS, readers - row);
                    std::memcpy(kept + row, &top, 4 * count);
                    std::memcpy(kept + readers + row, &share, 4 * count);
                    Vector* sums = &made[head * now.room + row];
                    now.combine(w, v, sums);
                    for (int r = 0; r < ROWS; r++) sums[r] *= share[r];
                }
            }
            now.join(readers, pairs, made.data(), read + (int64_t)picture * readers * half,
                     read_plane);
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
    const int64_t plane = (int64_t)n * t * 3 * half, read_plane = (int64_t)n * readers * half;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        const Picture now(t, readers);
        const Rows biases = now.pad(bias, heads);
        Rows all(3 * heads * now.room), by(heads * now.room), by_k(now.room), by_v(now.room);
        Rows k_columns(SIZE * now.vectors), v_columns(SIZE * now.vectors);
        Rows weights(ROWS * now.vectors), by_scores(ROWS * now.vectors);
        Rows summed(biases.size()), summed_added(3 * heads);
        Vector *w = weights.data(), *d = by_scores.data();
        for (int picture = chunk; picture < n; picture += chunks) {
            const int64_t begin = (int64_t)picture * t * 3 * half;
            now.part(t, 3 * pairs, qkv + begin, plane, added, all.data());
            now.part(readers, pairs, by_read + (int64_t)picture * readers * half, read_plane,
                     nullptr, by.data());
            for (int head = 0; head < heads; head++) {
                Vector* q = &all[of_queries(head, pairs) * now.room];
                Vector *k = q + pairs * now.room, *v = k + pairs * now.room;
                const float* kept = softmax + ((int64_t)picture * heads + head) * 2 * readers;
                for (int i = 0; i < readers; i++) q[i] *= SCALE * LOG2_E;
                std::fill(q + readers, q + now.room, Vector{});
                now.to_columns(k, k_columns.data());
                now.to_columns(v, v_columns.data());
                std::fill(by_k.begin(), by_k.end(), Vector{});
                std::fill(by_v.begin(), by_v.end(), Vector{});
                for (int row = 0; row < readers; row += ROWS) {
                    const int64_t first = (int64_t)(head * now.rows + row) * now.vectors;
                    const Vector* by_rows = &by[head * now.room + row];
                    now.products(q + row, k_columns.data(), &biases[first], w);
                    now.products(by_rows, v_columns.data(), nullptr, d);
                    const int count = std::min(ROWS, readers - row);
                    Vector top{}, share{}, totals[SIZE] = {};
                    std::memcpy(&top, kept + row, 4 * count);
                    std::memcpy(&share, kept + readers + row, 4 * count);
                    now.each_weight([&](int at, int r) {
                        w[at] = power_of_2(w[at] - top[r]) * share[r];
                        totals[r] += w[at] * d[at];
                    });
                    const Vector mean = reduce_each<true>(totals);
                    Vector* sum = &summed[first];
                    now.each_weight([&](int at, int r) {
                        d[at] = w[at] * (d[at] - mean[r]);
                        sum[at] += d[at];
                    });
                    now.combine_back(d, q + row, by_k.data());
                    now.combine_back(w, by_rows, by_v.data());
                    now.combine(d, k, q + row);  // no longer the queries but the gradient by them
                }
                const auto finish = [&](const Vector* from, float scale, int which, Vector* to) {
                    Vector total{};
                    for (int i = 0; i < t; i++) total += to[i] = from[i] * scale;
                    summed_added[of_queries(head, pairs) + which * pairs] += total;
                };
                finish(q, SCALE, 0, q);
                finish(by_k.data(), 1 / LOG2_E, 1, k);
                finish(by_v.data(), 1, 2, v);
            }
            now.join(t, 3 * pairs, all.data(), by_qkv + begin, plane);
        }
        std::memcpy(by_added + (int64_t)chunk * 6 * half, summed_added.data(), 4 * 6 * half);
        now.unpad(summed, heads, by_bias + (int64_t)chunk * heads * readers * t);
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
