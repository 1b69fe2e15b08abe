// Self-attention with a bias for each pair of tokens, forward and backward, for heads of 16 numbers.
//
// One picture and head at a time: its 3 x t x 16 queries, keys and values and its t x t weights stay
// in the processor's cache, in float32, and the weights are computed again in the backward pass.
// Arrays that come and go lie as PyTorch has them:
//
//     qkv      n t 2 3 heads/2 16   bf16 or float32; each half of the heads has its own q, k, v
//     bias     heads t t        float32
//     read     n t heads 16     as qkv
//     softmax  n heads t 2      float32; of each row its largest score, and 1 / its denominator
//
// `omp` is what PyTorch itself uses.

#include <vector>

#include "vectors.h"

namespace {

// A head has SIZE numbers.
constexpr int ROWS = 8;   // tokens whose sums are in registers at once
constexpr float SCALE = 0.25f;  // 1 / sqrt(SIZE)
constexpr float MASKED = -1e30f;

// All numbers of a vector added up, or the largest of them: halves, quarters and so on by pairs.
template <bool ADDED, int COUNT>
float reduce(const float* from) {
    if constexpr (COUNT == 1) {
        return from[0];
    } else {
        typedef float Half __attribute__((vector_size(2 * COUNT)));
        Half low, high;
        std::memcpy(&low, from, sizeof low);
        std::memcpy(&high, from + COUNT / 2, sizeof high);
        low = ADDED ? low + high : (low > high ? low : high);
        float numbers[COUNT / 2];
        std::memcpy(numbers, &low, sizeof low);
        return reduce<ADDED, COUNT / 2>(numbers);
    }
}

float sum(Vector x) { return reduce<true, SIZE>((const float*)&x); }

float maximum(Vector x) { return reduce<false, SIZE>((const float*)&x); }

// One picture and head, and room for what is computed of it. `padded` tokens fill whole vectors.
struct Head {
    const int tokens, padded, vectors;
    std::vector<Vector> q, k, v, dread;         // padded of each; past the last token zeros
    std::vector<Vector> k_columns, v_columns;   // SIZE x vectors
    std::vector<Vector> weights, dscores;       // padded x vectors

    explicit Head(int t)
        : tokens(t), padded((t + SIZE - 1) / SIZE * SIZE), vectors(padded / SIZE),
          q(padded), k(padded), v(padded), dread(padded),
          k_columns(padded), v_columns(padded),
          weights(padded * vectors), dscores(padded * vectors) {}

    // The biases of one head after another, padded x vectors each. What is past the last token is
    // masked, so that its weight is 0.
    std::vector<Vector> pad(const float* biases, int heads) const {
        std::vector<Vector> to(heads * padded * vectors, Vector{} + MASKED);
        for (int row = 0; row < heads * tokens; row++) {
            const int place = row / tokens * padded + row % tokens;
            std::memcpy((float*)to.data() + place * padded, biases + row * tokens, 4 * tokens);
        }
        return to;
    }

    template <typename Number>
    void read_rows(const Number* from, int stride, float scale, std::vector<Vector>& to) {
        for (int i = 0; i < tokens; i++) to[i] = load(from + (int64_t)i * stride) * scale;
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

    // total[r] = sum over i of matrix[r][i] rows[i], for ROWS rows that lie `step` numbers apart,
    // and their numbers `along` apart.
    void combine(const float* matrix, int step, int along, const std::vector<Vector>& rows,
                 Vector* total) {
        Vector sums[ROWS] = {};
        for (int i = 0; i < tokens; i++) {
            Vector x = rows[i];
            for (int r = 0; r < ROWS; r++) sums[r] += matrix[r * step + i * along] * x;
        }
        for (int r = 0; r < ROWS; r++) total[r] = sums[r];
    }
};

// Where the queries of a head begin among the numbers of a token.
int in_token(int head, int heads) {
    const int pairs = heads / 2;
    return (head / pairs * 3 * pairs + head % pairs) * SIZE;
}

template <typename Number>
void forward(const Number* qkv, const float* bias, Number* read, float* softmax, int n, int t,
             int heads, int chunks, int threads) {
    const int width = heads * SIZE, half = width / 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        Head now(t);
        const std::vector<Vector> padded = now.pad(bias, heads);
        for (int task = 0; task < (n - chunk + chunks - 1) / chunks * heads; task++) {
            const int head = task % heads, picture = task / heads * chunks + chunk;
            const Vector* biases = &padded[head * now.padded * now.vectors];
            const Number* from = qkv + (int64_t)picture * t * 3 * width + in_token(head, heads);
            now.read_rows(from, 3 * width, SCALE, now.q);
            now.read_rows(from + half, 3 * width, 1, now.k);
            now.read_rows(from + 2 * half, 3 * width, 1, now.v);
            now.transpose(now.k, now.k_columns);
            for (int row = 0; row < t; row += ROWS) {
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
                    if (row + r < t) {
                        float* kept = softmax + (((int64_t)picture * heads + head) * t + row + r) * 2;
                        kept[0] = top;
                        kept[1] = 1 / totals[r];
                    }
                }
                Vector sums[ROWS];
                now.combine((float*)weights, now.padded, 1, now.v, sums);
                for (int r = 0; r < ROWS && row + r < t; r++)
                    store(sums[r] / totals[r],
                          read + ((int64_t)picture * t + row + r) * width + head * SIZE);
            }
        }
    }
}

// dbias is chunks x heads x t x t: each chunk's own sum, so that the order of summation, and with
// it every bit, is the same whatever the number of threads.
template <typename Number>
void backward(const Number* qkv, const float* bias, const float* softmax, const Number* dread,
              Number* dqkv, float* dbias, int n, int t, int heads, int chunks, int threads) {
    const int width = heads * SIZE, half = width / 2;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < chunks; chunk++) {
        Head now(t);
        const std::vector<Vector> padded = now.pad(bias, heads);
        std::vector<Vector> summed(padded.size());
        for (int task = 0; task < (n - chunk + chunks - 1) / chunks * heads; task++) {
            const int head = task % heads, picture = task / heads * chunks + chunk;
            const int64_t first = (int64_t)head * now.padded * now.vectors;
            const Vector* biases = &padded[first];
            const int64_t place = (int64_t)picture * t * 3 * width + in_token(head, heads);
            const Number* from = qkv + place;
            now.read_rows(from, 3 * width, SCALE, now.q);
            now.read_rows(from + half, 3 * width, 1, now.k);
            now.read_rows(from + 2 * half, 3 * width, 1, now.v);
            now.read_rows(dread + (int64_t)picture * t * width + head * SIZE, width, 1, now.dread);
            now.transpose(now.k, now.k_columns);
            now.transpose(now.v, now.v_columns);
            const float* kept = softmax + ((int64_t)picture * heads + head) * t * 2;
            for (int row = 0; row < t; row += ROWS) {
                Vector* weights = &now.weights[row * now.vectors];
                Vector* dscores = &now.dscores[row * now.vectors];
                now.products(row, now.q, now.k_columns, &biases[row * now.vectors], weights);
                now.products(row, now.dread, now.v_columns, nullptr, dscores);
                for (int r = 0; r < ROWS && row + r < t; r++) {
                    Vector* w = weights + r * now.vectors;
                    Vector* d = dscores + r * now.vectors;
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
                Vector sums[ROWS];
                now.combine((float*)dscores, now.padded, 1, now.k, sums);
                for (int r = 0; r < ROWS && row + r < t; r++)
                    store(sums[r] * SCALE, dqkv + place + (int64_t)(row + r) * 3 * width);
            }
            for (int row = 0; row < t; row += ROWS) {  // of the tokens that are read
                Vector dk[ROWS], dv[ROWS];
                now.combine((float*)now.dscores.data() + row, 1, now.padded, now.q, dk);
                now.combine((float*)now.weights.data() + row, 1, now.padded, now.dread, dv);
                for (int r = 0; r < ROWS && row + r < t; r++) {
                    Number* to = dqkv + place + (int64_t)(row + r) * 3 * width;
                    store(dk[r], to + half);
                    store(dv[r], to + 2 * half);
                }
            }
        }
        float* to = dbias + (int64_t)chunk * heads * t * t;
        for (int row = 0; row < heads * t; row++) {
            const int place = row / t * now.padded + row % t;
            std::memcpy(to + row * t, (const float*)summed.data() + place * now.padded, 4 * t);
        }
    }
}

}  // namespace

#define FOR(NUMBER, NAME)                                                                        \
    extern "C" void forward_##NAME(const NUMBER* qkv, const float* bias, NUMBER* read,           \
                                   float* softmax, int n, int t, int heads, int chunks,          \
                                   int threads) {                                                \
        forward(qkv, bias, read, softmax, n, t, heads, chunks, threads);                         \
    }                                                                                            \
    extern "C" void backward_##NAME(const NUMBER* qkv, const float* bias, const float* softmax,  \
                                    const NUMBER* dread, NUMBER* dqkv, float* dbias, int n,      \
                                    int t, int heads, int chunks, int threads) {                 \
        backward(qkv, bias, softmax, dread, dqkv, dbias, n, t, heads, chunks, threads);          \
    }

FOR(float, float32)
FOR(Bf16, bfloat16)
