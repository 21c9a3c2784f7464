#pragma once
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/core/tensor.hpp"
#include "bf/kernels/cpu_simd.hpp"

// CPU: weights of a convolution as the right side of products of blocks, and their gradient as sums of such products.

namespace bf::cpu {

/// Values k .. k + count of a right side whose columns are block_cols wide, for lanes<T> of them: value i from from +
/// i * row. Pairs take two values each.
template <class E, class T>
void store_elements(const T* from, std::int64_t row, std::int64_t count, E* to, std::int64_t k) {
    for (std::int64_t i = 0; i < count; ++i, from += row) {
        if constexpr (std::is_same_v<E, Bf16Pair>) {
            E* const pairs = to + (k + i) / 2 * block_cols<T>;
            for (std::int64_t l = 0; l < lanes<T>; ++l) pairs[l] = pair_of(bf16(from[l]), bf16(from[row + l]));
            ++i, from += row;
        } else {
            store(to + (k + i) * block_cols<T>, load(from));
        }
    }
}
/// Columns [first, first + block_cols) of the right side of a product from weights [outs, in, taps], as elements E (a
/// pair: of neighbouring channels). Forward: values (tap, in) of the columns `outs`.
template <class E, class T>
void pack_forward(const T* w, std::int64_t outs, std::int64_t in, std::int64_t taps, std::int64_t first, E* to) {
    constexpr std::int64_t some = 16;
    const Tensor scratch = Tensor::empty({some * taps + lanes<T>, lanes<T>}, {.dtype = dtype_of<T>});
    T* turned = scratch.data<T>();
    for (std::int64_t half = 0; half < block_cols<T>; half += lanes<T>, to += lanes<T>) {
        const std::int64_t from = first + half, count = std::clamp<std::int64_t>(outs - from, 0, lanes<T>);
        for (std::int64_t c = 0; c < in; c += some) {
            const std::int64_t channels = std::min(some, in - c);
            turn_rows(w + (from * in + c) * taps, in * taps, count, channels * taps, turned);
            for (std::int64_t tap = 0; tap < taps; ++tap)
                store_elements<E>(turned + tap * lanes<T>, taps * lanes<T>, channels, to, tap * in + c);
        }
    }
}
/// Of the input gradient: values (tap of `order`, out) of the columns `in`.
template <class E, class T>
void pack_backward(const T* w, std::int64_t outs, std::int64_t in, std::int64_t taps,
                   const std::vector<std::int64_t>& order, std::int64_t first, E* to) {
    constexpr std::int64_t step = std::is_same_v<E, Bf16Pair> ? 2 : 1;
    const Tensor scratch = Tensor::empty({step * taps + lanes<T>, lanes<T>}, {.dtype = dtype_of<T>});
    T* turned = scratch.data<T>();
    for (std::int64_t half = 0; half < block_cols<T>; half += lanes<T>, to += lanes<T>) {
        const std::int64_t from = first + half, count = std::clamp<std::int64_t>(in - from, 0, lanes<T>);
        for (std::int64_t o = 0; o < outs; o += step) {
            for (std::int64_t i = 0; i < step; ++i)
                turn_rows(w + ((o + i) * in + from) * taps, taps, count, taps, turned + i * taps * lanes<T>);
            for (std::size_t m = 0; m < order.size(); ++m)
                store_elements<E>(turned + order[m] * lanes<T>, taps * lanes<T>, step, to,
                                  static_cast<std::int64_t>(m) * outs + o);
        }
    }
}
/// All columns: pack(first, to) packs a block of them.
template <class E, class Pack>
Tensor column_blocks(std::int64_t depth, std::int64_t cols, Pack&& pack) {
    constexpr std::int64_t width = block_cols<SumOf<E>>;
    const std::int64_t panels = padded_cols<SumOf<E>>(cols) / width, panel = width * depth;
    const Tensor packed = Tensor::empty({panels, panel}, {.dtype = dtype_of<E>});
    parallel_for(panels, 1, [&](std::int64_t p, std::int64_t) { pack(p * width, packed.data<E>() + p * panel); });
    return packed;
}

/// dw [outs, in, taps] = the sum over `parts` of sums [parts, taps, in, width], in order.
template <class T>
void join_sums(const T* sums, std::int64_t parts, std::int64_t taps, std::int64_t in, std::int64_t width,
               std::int64_t outs, T* dw) {
    const std::int64_t row = in * taps, blocks = (row + lanes<T> - 1) / lanes<T>;
    parallel_for((outs + lanes<T> - 1) / lanes<T> * blocks, 64, [&](std::int64_t begin, std::int64_t end) {
        alignas(64) T made[lanes<T> * lanes<T>], turned[lanes<T> * lanes<T>];
        for (std::int64_t i = begin; i < end; ++i) {
            const std::int64_t out = i / blocks * lanes<T>, first = i % blocks * lanes<T>,
                               count = std::min(lanes<T>, row - first), rows = std::min(lanes<T>, outs - out);
            for (std::int64_t j = 0; j < count; ++j) {
                const std::int64_t c = (first + j) / taps, t = (first + j) % taps;
                Vector<T> total{};
                for (std::int64_t part = 0; part < parts; ++part)
                    total += load(sums + ((part * taps + t) * in + c) * width + out);
                store(made + j * lanes<T>, total);
            }
            T* to = dw + out * row + first;
            if (count == lanes<T> && rows == lanes<T>) {
                transpose_lanes(made, lanes<T>, to, row);
                continue;
            }
            transpose_lanes(made, lanes<T>, turned, lanes<T>);
            for (std::int64_t o = 0; o < rows; ++o) std::copy_n(turned + o * lanes<T>, count, to + o * row);
        }
    });
}

}  // namespace bf::cpu
