#pragma once
#include "bf/math/element.hpp"

// Index functors that move elements: transposes, rows taken and added by index.

namespace bf::math {

/// Transposes a batch of matrices x [rows, cols] to y [cols, rows] while casting: one element of y an index. For
/// matrices with a short side; the others go through tiles.
template <class From, class To>
struct Transpose {
    const From* x;
    To* y;
    std::int64_t rows, cols;

    BF_HD void operator()(std::int64_t i) const {
        const Division line = divide(i, rows);  // (batch, col), row
        const Division at = divide(line.quotient, cols);
        y[i] = element_cast<To>(x[(at.quotient * rows + line.rest) * cols + at.rest]);
    }
};

/// The same by tiles of 32 x 32: a block reads a tile along the rows of x and writes it along the rows of y, so that
/// both sides are neighbours in memory. Blocks have 32 x 8 threads (lane, line).
template <class From, class To>
struct TransposeTile {
    static constexpr int side = 32, lines = 8;
    const From* x;
    To* y;
    std::int64_t rows, cols;

    BF_HD std::int64_t tiles(std::int64_t batch) const { return batch * ceil_div(rows, side) * ceil_div(cols, side); }
    /// cell [side][side + 1]: the extra column keeps the columns of a tile apart in shared memory.
    BF_HD void read(std::int64_t tile, int line, int lane, To (*cell)[side + 1]) const {
        const Place p = place(tile);
        for (int k = line; k < side; k += lines)
            if (p.row + k < rows && p.col + lane < cols)
                cell[k][lane] = element_cast<To>(x[p.matrix + (p.row + k) * cols + p.col + lane]);
    }
    BF_HD void write(std::int64_t tile, int line, int lane, const To (*cell)[side + 1]) const {
        const Place p = place(tile);
        for (int k = line; k < side; k += lines)
            if (p.col + k < cols && p.row + lane < rows)
                y[p.matrix + (p.col + k) * rows + p.row + lane] = cell[lane][k];
    }

  private:
    struct Place {
        std::int64_t matrix, row, col;
    };
    BF_HD Place place(std::int64_t tile) const {
        const Division col = divide(tile, ceil_div(cols, side));
        const Division row = divide(col.quotient, ceil_div(rows, side));
        return {row.quotient * rows * cols, row.rest * side, col.rest * side};
    }
};

/// y[i] = x[index[i]] over rows of `cols` elements; V neighbours an index. Without an index every row of y is x[0].
template <class S, int V>
struct GatherRows {
    const S* x;
    const std::int64_t* index;
    S* y;
    std::int64_t cols;  ///< a multiple of V

    BF_HD std::int64_t groups(std::int64_t rows) const { return rows * (cols / V); }
    BF_HD void operator()(std::int64_t i) const {
        const Division at = divide(i, cols / V);
        const S* row = x + (index ? index[at.quotient] * cols : 0);
        const Pack<S, V> pack = *reinterpret_cast<const Pack<S, V>*>(row + at.rest * V);
        *reinterpret_cast<Pack<S, V>*>(y + i * V) = pack;
    }
};

/// Links rows with the same index: next[i] is the following one (-1: none), first[i] says that none comes before.
/// Quadratic in the number of rows, without atomics or a sort.
struct LinkRows {
    const std::int64_t* index;
    std::int64_t *next, *first;
    std::int64_t n;

    BF_HD void operator()(std::int64_t i) const {
        std::int64_t before = 0, after = i + 1;
        while (before < i && index[before] != index[i]) ++before;
        while (after < n && index[after] != index[i]) ++after;
        first[i] = before == i;
        next[i] = after < n ? after : -1;
    }
};

/// dx[index[i]] += dy[i] in order of i: the first row of a chain adds all of it. One element of dy an index.
template <class S>
struct ScatterAddRows {
    const S* dy;
    const std::int64_t *index, *next, *first;
    S* dx;
    std::int64_t cols;

    BF_HD void operator()(std::int64_t i) const {
        using T = Compute<S>;
        const Division at = divide(i, cols);
        if (!first[at.quotient]) return;
        S& to = dx[index[at.quotient] * cols + at.rest];
        T sum = element_cast<T>(to);
        for (std::int64_t row = at.quotient; row >= 0; row = next[row])
            sum += element_cast<T>(dy[row * cols + at.rest]);
        to = element_cast<S>(sum);
    }
};

}  // namespace bf::math
