// Sums over many rows, taken chunk by chunk, so that threads change no bit.

#pragma once

#include <cstdint>
#include <vector>

namespace {

// Add up what `add`(row, part) adds to the numbers of its part, over all rows.
template <typename Add>
void sum_up(int64_t rows, int numbers, float* sums, int threads, Add add) {
    constexpr int CHUNKS = 64;
    std::vector<float> parts((int64_t)CHUNKS * numbers);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        float* part = parts.data() + (int64_t)chunk * numbers;
        for (int64_t row = rows * chunk / CHUNKS; row < rows * (chunk + 1) / CHUNKS; row++)
            add(row, part);
    }
    for (int i = 0; i < numbers; i++) {
        double total = 0;
        for (int chunk = 0; chunk < CHUNKS; chunk++) total += parts[(int64_t)chunk * numbers + i];
        sums[i] = (float)total;
    }
}

}  // namespace
