#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <type_traits>

#include "bf/math/classifier_rows.hpp"
#include "bf/math/hard_classes.hpp"
#include "gemm.hpp"
#include "kernels.hpp"
#include "launch.cuh"

// The margin softmax over many classes without its logits. Rows are divided by their norms once a call; cosines of a
// tile of rows x classes come from one GEMM, are used by one kernel, and are overwritten by the next tile. The backward
// passes make them again, turn them into gradients of logits and multiply once more, so that memory does not grow with
// rows times classes. Tiles depend on the shape alone and every sum has a fixed order: the same bits from run to run.

namespace bf::cuda {

namespace {

constexpr int threads = 256, warp = 32, rows_per_block = threads / warp;
constexpr int row_threads = 128;  // for one row of a tile

// With products of 16 bits cosines are halves: of unit rows they need no exponent, and their 11 bits keep what the 8 of
// bf16 would lose. Gradients of logits, which do need it, take their place in bf16.
//
// 128 MiB a tile: larger products are worth more than tiles that stay in the L2 of a Hopper (50 MB). 33,024 rows x
// 85,742 classes took 25.8 ms in tiles of 32 MiB, 25.0 of 64 and 23.1 of 128 (H100,
// benchmarks/results/2026-11-27-h100/). Sums of classes take at most half as much again.
constexpr std::int64_t tile_bytes = std::int64_t{128} << 20, most_rows = 8192, most_classes = 16384;

/// Length of the tiles that cut `total` into equal parts of at most `most`, a multiple of `unit`.
std::int64_t even_tiles(std::int64_t total, std::int64_t most, std::int64_t unit = 128) {
    const std::int64_t parts = std::max<std::int64_t>(1, (total + most - 1) / most),
                       length = (total + parts - 1) / parts;
    return (length + unit - 1) / unit * unit;
}

struct Tiling {
    std::int64_t rows, classes;

    /// `entry`, `sum`: bytes of an entry of the tile and of the sums of its classes. Tiles hold all `centers` of a
    /// class.
    Tiling(std::int64_t row_count, std::int64_t class_count, std::int64_t dim, std::size_t entry, std::size_t sum,
           std::int64_t centers) {
        const std::int64_t unit = 128 * centers;
        rows = even_tiles(row_count, most_rows);
        const std::int64_t row_bytes = rows * static_cast<std::int64_t>(entry),
                           sum_bytes = std::max<std::int64_t>(dim, 1) * static_cast<std::int64_t>(sum),
                           most = std::min({most_classes, tile_bytes / row_bytes, tile_bytes / 2 / sum_bytes});
        classes = even_tiles(class_count, std::max(unit, most / unit * unit), unit);
    }
};

/// Products run over a number of classes that tensor cores take at full speed; what is added is zero.
template <class I>
BF_HD I padded(I classes) {
    return (classes + 7) / 8 * 8;
}

unsigned blocks_of(std::int64_t rows, std::int64_t each) { return static_cast<unsigned>((rows + each - 1) / each); }

// ---------------------------------------------------------------------------------------------------------------------
// Device code. Rows of D values belong to a warp each; rows of tiles to a block.

template <class T>
__device__ T warp_sum(T value) {
    for (int step = warp / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

/// The row of this warp; rows beyond the end are for the caller to leave out.
__device__ std::int64_t warp_row() { return blockIdx.x * std::int64_t{rows_per_block} + threadIdx.x / warp; }

template <class U, class T>
__device__ U rounded(T value) {
    if constexpr (std::is_same_v<U, __nv_bfloat16>)
        return __float2bfloat16_rn(value);
    else if constexpr (std::is_same_v<U, __half>)
        return __float2half_rn(value);
    else
        return value;
}

__device__ float widened(__half value) { return __half2float(value); }
__device__ float widened(float value) { return value; }
__device__ double widened(double value) { return value; }

template <class T>
__global__ void __launch_bounds__(threads)
    inverse_norm_kernel(std::int64_t rows, std::int64_t dim, const T* x, T* out) {
    const std::int64_t r = warp_row();
    if (r >= rows) return;
    T sum = 0;
    for (std::int64_t d = threadIdx.x % warp; d < dim; d += warp) sum += x[r * dim + d] * x[r * dim + d];
    sum = warp_sum(sum);
    const T norm = std::sqrt(sum), least = static_cast<T>(1e-12);
    if (threadIdx.x % warp == 0) out[r] = T(1) / (norm > least ? norm : least);
}

/// out [all, ld] = x [rows, dim] times the inverse norms, in the dtype of the products; zeros beyond rows and
/// dim.
template <class T, class U>
__global__ void __launch_bounds__(threads)
    unit_rows_kernel(std::int64_t rows, std::int64_t all, std::int64_t dim, std::int64_t ld, const T* x,
                     const T* inverse_norm, U* out) {
    const std::int64_t r = warp_row();
    if (r >= all) return;
    const std::int64_t there = r < rows ? dim : 0;
    const T inverse = r < rows ? inverse_norm[r] : T(0);
    for (std::int64_t d = threadIdx.x % warp; d < ld; d += warp)
        out[r * ld + d] = rounded<U>(d < there ? x[r * dim + d] * inverse : T(0));
}

template <class T>
__global__ void __launch_bounds__(threads)
    target_cosine_kernel(std::int64_t rows, std::int64_t dim, std::int64_t classes, std::int64_t class_begin,
                         const T* x, const T* inverse_x, const T* w, const T* inverse_w, const std::int64_t* labels,
                         T* cosine) {
    const std::int64_t r = warp_row();
    if (r >= rows) return;
    const std::int64_t k = labels[r] - class_begin;
    const bool inside = k >= 0 && k < classes;
    T sum = 0;
    if (inside)
        for (std::int64_t d = threadIdx.x % warp; d < dim; d += warp) sum += x[r * dim + d] * w[k * dim + d];
    sum = warp_sum(sum);
    if (threadIdx.x % warp == 0) cosine[r] = inside ? sum * inverse_x[r] * inverse_w[k] : T(0);
}

/// target_cosine_kernel() of classes of several centers, the nearest of which is the target row; labels outside the
/// range have none, -1.
template <class T>
__global__ void __launch_bounds__(threads)
    target_center_kernel(std::int64_t rows, std::int64_t dim, std::int64_t classes, std::int64_t class_begin,
                         std::int64_t centers, const T* x, const T* inverse_x, const T* w, const T* inverse_w,
                         const std::int64_t* labels, T* cosine, std::int64_t* target_rows) {
    const std::int64_t r = warp_row();
    if (r >= rows) return;
    const std::int64_t own = labels[r] - class_begin;
    T best = 0;
    std::int64_t target = -1;
    if (own >= 0 && own < classes)
        for (std::int64_t k = own * centers; k < (own + 1) * centers; ++k) {
            T sum = 0;
            for (std::int64_t d = threadIdx.x % warp; d < dim; d += warp) sum += x[r * dim + d] * w[k * dim + d];
            const T here = warp_sum(sum) * inverse_x[r] * inverse_w[k];
            if (target >= 0 && !(here > best) && here == here) continue;
            best = here;
            target = class_begin * centers + k;
        }
    if (threadIdx.x % warp != 0) return;
    cosine[r] = best;
    target_rows[r] = target;
}

/// Most heads leave the logits of other classes as they are: s cos.
struct UsualClasses {
    static constexpr bool hard = false;
    UsualClasses from(std::int64_t) const { return *this; }
    __device__ UsualClasses of_row(std::int64_t) const { return *this; }
    template <class T>
    __device__ T logit(T plain, T) const {
        return plain;
    }
};
/// math::HardClasses of each row.
template <class T>
struct HardRows {
    static constexpr bool hard = true;
    const T *above, *shift;
    HardRows from(std::int64_t r0) const { return {above + r0, shift}; }
    __device__ math::HardClasses<T> of_row(std::int64_t r) const { return {above[r], *shift}; }
};

/// CurricularFace's thresholds of rows, and what moves t; all rows in one block, as margin_rows_kernel().
template <class T>
__global__ void __launch_bounds__(1024)
    hard_classes_kernel(T m, double rate, std::int64_t rows, const T* cosine, T* t, T* above) {
    double sum = 0;
    for (std::int64_t r = threadIdx.x; r < rows; r += 1024) {
        const T c = cosine[r];
        above[r] = math::hard_above(c, m);
        sum += static_cast<double>(c > T(1) ? T(1) : (c < T(-1) ? T(-1) : c));
    }
    sum = warp_sum(sum);
    __shared__ double sums[warp];
    if (threadIdx.x % warp == 0) sums[threadIdx.x / warp] = sum;
    __syncthreads();
    if (threadIdx.x >= warp) return;
    sum = warp_sum(sums[threadIdx.x]);
    if (threadIdx.x == 0 && rate > 0)
        *t = static_cast<T>(rate * sum / static_cast<double>(rows) + (1 - rate) * static_cast<double>(*t));
}

/// 16 bytes of a tile, moved as one.
template <class T>
struct alignas(16) Pack {
    static constexpr int count = 16 / sizeof(T);
    T v[count];
};

template <class T>
__device__ math::OnlineSum<T> shuffled(const math::OnlineSum<T>& s, int step) {
    return {__shfl_xor_sync(0xffffffffu, s.largest, step), __shfl_xor_sync(0xffffffffu, s.sum, step)};
}

/// Where in a pack that starts at class k of the tile something is other than the cosine of another class: the row's
/// own class, or the end of the tile. `own` is negative where the own class is elsewhere.
template <int count>
__device__ bool special(int k, int own, int width) {
    return static_cast<unsigned>(own - k) < static_cast<unsigned>(count) || k + count > width;
}

/// The row's own class as counted in the tile, or -1.
__device__ int own_class(std::int64_t label, std::int64_t first_class, int width) {
    const std::int64_t k = label - first_class;
    return k >= 0 && k < width ? static_cast<int>(k) : -1;
}

/// Joins what the threads of a block saw of a row of the tile into the row's statistics; `first`: they start here.
/// hard: the largest s cos too, to plain.
template <bool hard, class T>
__device__ void join_row(math::OnlineSum<T> s, T top, bool first, T* largest, T* sum, T* plain) {
    constexpr int warps = row_threads / warp;
    const std::int64_t r = blockIdx.x;
    for (int step = warp / 2; step > 0; step /= 2) {
        s.join(shuffled(s, step));
        if constexpr (hard) {
            const T other = __shfl_xor_sync(0xffffffffu, top, step);
            top = other > top ? other : top;
        }
    }
    __shared__ T tops[warps], sums[warps], plains[warps];
    if (threadIdx.x % warp == 0) {
        tops[threadIdx.x / warp] = s.largest;
        sums[threadIdx.x / warp] = s.sum;
        if constexpr (hard) plains[threadIdx.x / warp] = top;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    math::OnlineSum<T> all;
    if (!first) all = {largest[r], sum[r]};
    for (int i = 0; i < warps; ++i) all.join({tops[i], sums[i]});
    largest[r] = all.largest;
    sum[r] = all.sum;
    if constexpr (hard) {
        top = first ? plains[0] : plain[r];
        for (int i = 0; i < warps; ++i) top = plains[i] > top ? plains[i] : top;
        plain[r] = top;
    }
}

/// Takes the cosines of one row of the tile into the row's statistics.
template <class T, class C, class Head>
__global__ void __launch_bounds__(row_threads)
    statistics_kernel(const C* tile, std::int64_t ld, int width, T scale, const std::int64_t* labels,
                      std::int64_t first_class, bool first, Head head, T* largest, T* sum, T* plain) {
    constexpr int count = Pack<C>::count;
    const std::int64_t r = blockIdx.x;
    const int own = own_class(labels[r], first_class, width);
    const T none = -static_cast<T>(HUGE_VAL);
    const auto classes = head.of_row(r);
    math::OnlineSum<T> s;
    T top = none;
    for (int k = static_cast<int>(threadIdx.x) * count; k < width; k += row_threads * count) {
        const auto cosines = *reinterpret_cast<const Pack<C>*>(tile + r * ld + k);
        T logits[count];
        for (int i = 0; i < count; ++i) logits[i] = math::tile_logit(widened(cosines.v[i]), scale);
        if (special<count>(k, own, width))
            for (int i = 0; i < count; ++i)
                if (k + i == own || k + i >= width) logits[i] = none;
        if constexpr (Head::hard)
            for (int i = 0; i < count; ++i) {
                top = logits[i] > top ? logits[i] : top;
                logits[i] = classes.logit(logits[i], scale);
            }
        s.add(logits);
    }
    join_row<Head::hard>(s, top, first, largest, sum, plain);
}

/// The largest cosine of a class and its place among the centers: the first of equal ones; not a number where one is
/// none.
template <class C>
__device__ int nearest_center(const C* cosines, int centers) {
    int best = 0;
    auto top = widened(cosines[0]);
    for (int c = 1; c < centers; ++c) {
        const auto here = widened(cosines[c]);
        if (!(here > top) && here == here) continue;
        top = here;
        best = c;
    }
    return best;
}

/// The same for classes of several centers: `width` counts rows of W, the first class being whole.
template <class T, class C, class Head>
__global__ void __launch_bounds__(row_threads)
    center_statistics_kernel(const C* tile, std::int64_t ld, int width, int centers, T scale,
                             const std::int64_t* labels, std::int64_t first_class, bool first, Head head, T* largest,
                             T* sum, T* plain) {
    const std::int64_t r = blockIdx.x;
    const int count = width / centers, own = own_class(labels[r], first_class, count);
    const T none = -static_cast<T>(HUGE_VAL);
    const auto classes = head.of_row(r);
    math::OnlineSum<T> s;
    T top = none;
    for (int k = static_cast<int>(threadIdx.x); k < count; k += row_threads) {
        if (k == own) continue;
        const C* cosines = tile + r * ld + k * centers;
        const T here = math::tile_logit(static_cast<T>(widened(cosines[nearest_center(cosines, centers)])), scale);
        const T logits[1] = {classes.logit(here, scale)};
        top = here > top ? here : top;
        s.add(logits);
    }
    join_row<Head::hard>(s, top, first, largest, sum, plain);
}

/// All rows in one block: the order of the two sums is fixed, and the work is O(rows).
template <class T>
__global__ void __launch_bounds__(1024)
    margin_rows_kernel(Margin margin, T scale, std::int64_t rows, const T* largest, const T* sum, const T* cosine,
                       const T* plain, const T* m2, const T* m3, T* target_logit, T* slope, T* log_sum_exp, T* loss,
                       T* correct) {
    double total = 0, hits = 0;
    for (std::int64_t r = threadIdx.x; r < rows; r += 1024) {
        const Margin own = m2 ? margin.with(static_cast<double>(m2[r]), static_cast<double>(m3[r])) : margin;
        const auto row = math::margin_row(own, scale, largest[r], sum[r], cosine[r]);
        target_logit[r] = row.target_logit;
        slope[r] = row.slope;
        log_sum_exp[r] = row.log_sum_exp;
        total += static_cast<double>(row.loss());
        hits += scale * cosine[r] > plain[r] ? 1 : 0;
    }
    total = warp_sum(total);
    hits = warp_sum(hits);
    __shared__ double totals[warp], hit_counts[warp];
    if (threadIdx.x % warp == 0) {
        totals[threadIdx.x / warp] = total;
        hit_counts[threadIdx.x / warp] = hits;
    }
    __syncthreads();
    if (threadIdx.x >= warp) return;
    total = warp_sum(totals[threadIdx.x]);
    hits = warp_sum(hit_counts[threadIdx.x]);
    if (threadIdx.x == 0) {
        *loss = static_cast<T>(total);
        *correct = static_cast<T>(hits);
    }
}

/// d loss / d cos of another class, divided by s.
template <class T, class Head>
__device__ T other_class(const math::GradientRow<T>& row, const Head& head, std::int64_t r, T cosine, T scale) {
    if constexpr (Head::hard) {
        const auto classes = head.of_row(r);
        const T plain = math::tile_logit(cosine, scale);
        return math::tile_exp(classes.logit(plain, scale) - row.log_sum_exp) * classes.slope(plain, scale);
    } else {
        return row.other(cosine, scale);
    }
}

/// Turns the cosines of a tile into d loss / d logit, in their place: rows down, packs of classes across; zeros beyond
/// the width. The row's weight and the scale are the same everywhere and multiply the finished sums.
template <class T, class C, class U, class Head>
__global__ void __launch_bounds__(threads)
    gradient_kernel(void* tile, std::int64_t ld, int width, T scale, const math::GradientRow<T>* rows,
                    std::int64_t first_class, Head head) {
    static_assert(sizeof(C) == sizeof(U));
    constexpr int count = Pack<C>::count;
    const std::int64_t r = blockIdx.y;
    const int k = static_cast<int>(blockIdx.x * threads + threadIdx.x) * count;
    if (k >= padded(width)) return;  // a pack that starts inside ends inside the tile's ld
    const math::GradientRow<T> row = rows[r];
    const auto cosines = *reinterpret_cast<const Pack<C>*>(static_cast<const C*>(tile) + r * ld + k);
    T g[count];
    for (int i = 0; i < count; ++i) g[i] = other_class(row, head, r, static_cast<T>(widened(cosines.v[i])), scale);
    if (const int own = own_class(row.label, first_class, width); special<count>(k, own, width))
        for (int i = 0; i < count; ++i)
            if (k + i == own || k + i >= width) g[i] = k + i == own ? row.own() : T(0);
    Pack<U> out;
    for (int i = 0; i < count; ++i) out.v[i] = rounded<U>(g[i]);
    *reinterpret_cast<Pack<U>*>(static_cast<U*>(tile) + r * ld + k) = out;
}

/// The same for classes of several centers, a class a thread; `width` counts rows of W and first_row is the first of
/// them. The thread after the last class writes the zeros.
template <class T, class C, class U, class Head>
__global__ void __launch_bounds__(threads)
    center_gradient_kernel(void* tile, std::int64_t ld, int width, int centers, T scale,
                           const math::GradientRow<T>* rows, const std::int64_t* target_rows, std::int64_t first_row,
                           Head head) {
    static_assert(sizeof(C) == sizeof(U));
    const std::int64_t r = blockIdx.y;
    const int k = static_cast<int>(blockIdx.x * threads + threadIdx.x), count = width / centers;
    U* const out = static_cast<U*>(tile) + r * ld;
    if (k == count)
        for (int i = width; i < padded(width); ++i) out[i] = rounded<U>(T(0));
    if (k >= count) return;
    const math::GradientRow<T> row = rows[r];
    const C* cosines = static_cast<const C*>(tile) + r * ld + k * centers;
    int best = nearest_center(cosines, centers);
    T g = other_class(row, head, r, static_cast<T>(widened(cosines[best])), scale);
    if (row.label == first_row / centers + k) {
        best = static_cast<int>(target_rows[r] - first_row) - k * centers;
        g = row.own();
    }
    for (int c = 0; c < centers; ++c) out[k * centers + c] = rounded<U>(c == best ? g : T(0));
}

/// What the gradient kernel reads of each row, side by side.
template <class T>
struct GatherGradientRows {
    const T *log_sum_exp, *target_logit, *slope;
    const std::int64_t* labels;
    math::GradientRow<T>* out;
    BF_HD void operator()(std::int64_t r) const { out[r] = {log_sum_exp[r], target_logit[r], slope[r], labels[r]}; }
};

/// to[r] = from[r].
template <class E>
struct CopyRows {
    const E* from;
    E* to;
    BF_HD void operator()(std::int64_t r) const { to[r] = from[r]; }
};
/// Classes of rows of W.
struct ClassOfRow {
    const std::int64_t* rows;
    std::int64_t centers;
    std::int64_t* labels;
    BF_HD void operator()(std::int64_t r) const { labels[r] = rows[r] / centers; }
};

/// A scalar in device memory.
struct DeviceScalar {
    const void* at;
    bool wide;
    __device__ double value() const {
        return wide ? *static_cast<const double*>(at) : static_cast<double>(*static_cast<const float*>(at));
    }
};

/// out = the gradient of raw rows from the sums g of their unit rows.
template <class T>
__global__ void __launch_bounds__(threads)
    project_kernel(std::int64_t rows, std::int64_t dim, const T* g, const T* x, const T* inverse_norm, double weight,
                   DeviceScalar seed, T* out) {
    const std::int64_t r = warp_row();
    if (r >= rows) return;
    T dot = 0;
    for (std::int64_t d = threadIdx.x % warp; d < dim; d += warp) dot += g[r * dim + d] * x[r * dim + d];
    math::UnitGradient<T> gradient{inverse_norm[r], static_cast<T>(weight * seed.value()), T(0)};
    gradient.finish(warp_sum(dot));
    for (std::int64_t d = threadIdx.x % warp; d < dim; d += warp) {
        const std::int64_t i = r * dim + d;
        out[i] = gradient(g[i], x[i]);
    }
}

template <class T>
__global__ void __launch_bounds__(threads)
    compensate_kernel(math::Compensation rule, std::int64_t rows, std::int64_t dim, const T* e, const T* then,
                      const std::int64_t* labels, const T* w, T* out) {
    const std::int64_t r = warp_row();
    if (r >= rows) return;
    const T *from = e + r * dim, *old = then + r * dim, *now = w + labels[r] * dim;
    T ee = 0, tt = 0, nn = 0;
    for (std::int64_t d = threadIdx.x % warp; d < dim; d += warp) {
        ee += from[d] * from[d];
        tt += old[d] * old[d];
        nn += now[d] * now[d];
    }
    const auto factors = rule.factors(warp_sum(ee), warp_sum(tt), warp_sum(nn));
    for (std::int64_t d = threadIdx.x % warp; d < dim;
         d += warp)  // out may be e: each value is read before it is written
        out[r * dim + d] = rule.entry(from[d], old[d], now[d], factors);
}

// ---------------------------------------------------------------------------------------------------------------------
// Host side.

template <class T>
const T* in(const Tensor& t) {
    return static_cast<const T*>(t.raw());
}
template <class T>
T* at(const Tensor& t) {
    return static_cast<T*>(t.raw());
}

template <class E>
constexpr Element element = std::is_same_v<E, __half>
                                ? Element::f16
                                : (std::is_same_v<E, __nv_bfloat16>
                                       ? Element::bf16
                                       : (std::is_same_v<E, double> ? Element::f64 : Element::f32));

/// Calls f<T, C, U>(): dtype of w, of cosines and their operands, of gradients of logits and their operands.
template <class F>
void visit_products(const ClassifierWeights& weights, F&& f) {
    if (weights.w.dtype() == DType::f32 && weights.products == DType::bf16)
        f.template operator()<float, __half, __nv_bfloat16>();
    else
        visit_real(weights.w.dtype(), "margin_softmax", [&]<class T>() { f.template operator()<T, T, T>(); });
}

/// Device memory for `count` of what kernels compute with; no tensor of the engine's own dtypes.
template <class E>
class Scratch {
  public:
    Scratch() = default;
    Scratch(const Context& context, std::int64_t count)
        : bytes_(Tensor::empty({count * static_cast<std::int64_t>(sizeof(E))},
                               {.dtype = DType::u8, .device = context.device})) {}
    E* data() const { return static_cast<E*>(bytes_.raw()); }

  private:
    Tensor bytes_;
};

/// Which products of a tile a call makes beside its cosines.
enum class Sums { none, classes, rows };

/// Rows and classes of one call, cut into tiles: holds the scratch and makes tiles of cosines.
template <class T, class C, class U>
class Tiles {
  public:
    Tiles(Context& context, const ClassifierWeights& weights, std::int64_t row_count, Sums sums)
        : context_(context),
          weights_(weights),
          rows_(row_count),
          classes_(weights.w.dim(0)),
          dim_(weights.w.dim(1)),
          ld_((dim_ + 7) / 8 * 8),  // tensor cores want rows of whole 16 bytes; zeros do no harm
          tiling_(row_count, classes_, dim_, sizeof(C), sizeof(T), weights.centers),
          sums_(sums),
          x_(context, rows_ * ld_),
          w_(context, tiling_.classes * ld_),
          tile_(context, tiling_.rows * tiling_.classes) {
        if (sums != Sums::none) rows_data_ = {context, rows_};
        if (two_roundings && sums == Sums::classes) x_of_sums_ = {context, rows_ * ld_};
        if (two_roundings && sums == Sums::rows) w_of_sums_ = {context, tiling_.classes * ld_};
    }
    const Tiling& tiling() const { return tiling_; }

    /// A matrix [count, D] for the sums of the next products.
    Tensor sums(std::int64_t count) const {
        return Tensor::empty({count, dim_}, {.dtype = dtype_of<T>, .device = context_.device});
    }
    /// Puts a set of rows at rows [begin, ..) of the call.
    void add_rows(const ClassifierRows& rows, std::int64_t begin) {
        unit_rows(rows.x, rows.inverse_norm, rows.count(), x_.data() + begin * ld_);
        if (sums_ == Sums::none) return;
        if (two_roundings && sums_ == Sums::classes)
            unit_rows(rows.x, rows.inverse_norm, rows.count(), x_of_sums_.data() + begin * ld_);
        for_each(context_, rows.count(),
                 GatherGradientRows<T>{in<T>(rows.log_sum_exp), in<T>(rows.target_logit), in<T>(rows.slope),
                                       in<std::int64_t>(rows.labels), rows_data_.data() + begin});
        if (weights_.centers > 1) {
            if (begin == 0) targets_ = {context_, rows_};
            for_each(context_, rows.count(),
                     CopyRows<std::int64_t>{in<std::int64_t>(rows.target_rows), targets_.data() + begin});
        }
        if (!rows.hard_above.defined()) return;
        if (begin == 0) above_ = {context_, rows_};
        shift_ = in<T>(rows.hard_shift);
        for_each(context_, rows.count(), CopyRows<T>{in<T>(rows.hard_above), above_.data() + begin});
    }
    /// Calls f(k0, k1) for each tile of classes, its unit rows being ready.
    template <class F>
    void each_class_tile(const F& f) {
        for (std::int64_t k0 = 0; k0 < classes_; k0 += tiling_.classes) {
            const std::int64_t k1 = std::min(classes_, k0 + tiling_.classes);
            const Tensor w = weights_.w.rows(k0, k1), inverse_norm = weights_.inverse_norm.rows(k0, k1);
            unit_rows(w, inverse_norm, padded(k1 - k0), w_.data());
            if (two_roundings && sums_ == Sums::rows) unit_rows(w, inverse_norm, padded(k1 - k0), w_of_sums_.data());
            f(k0, k1);
        }
    }
    /// Calls f(r0, r1) for each tile of rows.
    template <class F>
    void each_row_tile(const F& f) const {
        for (std::int64_t r0 = 0; r0 < rows_; r0 += tiling_.rows) f(r0, std::min(rows_, r0 + tiling_.rows));
    }
    /// Cosines of rows [r0, r1) with the present classes.
    const C* cosines(std::int64_t r0, std::int64_t r1, std::int64_t width) {
        gemm(context_, r1 - r0, padded(width), ld_, 1, {x_.data() + r0 * ld_, element<C>, ld_, false},
             {w_.data(), element<C>, ld_, true}, 0, tile_.data(), element<C>, tiling_.classes);
        return tile_.data();
    }
    /// d loss / d logit of the same tile, in the place of its cosines.
    void gradient(std::int64_t r0, std::int64_t r1, std::int64_t k0, std::int64_t k1) {
        cosines(r0, r1, k1 - k0);
        if (shift_)
            gradient(HardRows<T>{above_.data() + r0, shift_}, r0, r1, k0, k1);
        else
            gradient(UsualClasses{}, r0, r1, k0, k1);
    }
    /// sums [classes, D] (+)= gradient^T unit rows.
    void add_class_sums(std::int64_t r0, std::int64_t r1, std::int64_t width, T* sums) {
        gemm(context_, padded(width), dim_, r1 - r0, 1, {tile_.data(), element<U>, tiling_.classes, true},
             {of_sums(x_, x_of_sums_) + r0 * ld_, element<U>, ld_, false}, r0 == 0 ? 0 : 1, sums, element<T>, dim_);
    }
    /// sums [rows, D] (+)= gradient unit classes.
    void add_row_sums(std::int64_t r0, std::int64_t r1, std::int64_t k0, std::int64_t width, T* sums) {
        gemm(context_, r1 - r0, dim_, padded(width), 1, {tile_.data(), element<U>, tiling_.classes, false},
             {of_sums(w_, w_of_sums_), element<U>, ld_, false}, k0 == 0 ? 0 : 1, sums + r0 * dim_, element<T>, dim_);
    }

  private:
    template <class Head>
    void gradient(const Head& head, std::int64_t r0, std::int64_t r1, std::int64_t k0, std::int64_t k1) {
        const auto height = static_cast<unsigned>(r1 - r0);
        const auto width = static_cast<int>(k1 - k0);
        const T scale = static_cast<T>(weights_.scale);
        void* const tile = tile_.data();
        if (weights_.centers == 1) {
            const dim3 grid(blocks_of(k1 - k0, threads * Pack<C>::count), height);
            launch_kernel(context_, gradient_kernel<T, C, U, Head>, grid, threads, tile, tiling_.classes, width, scale,
                          rows_data_.data() + r0, weights_.class_begin + k0, head);
        } else {
            const dim3 grid(blocks_of((k1 - k0) / weights_.centers + 1, threads), height);
            launch_kernel(context_, center_gradient_kernel<T, C, U, Head>, grid, threads, tile, tiling_.classes, width,
                          static_cast<int>(weights_.centers), scale, rows_data_.data() + r0, targets_.data() + r0,
                          weights_.class_begin * weights_.centers + k0, head);
        }
        BF_CUDA(cudaGetLastError(), "tile ", r1 - r0, " x ", k1 - k0);
    }

    static constexpr bool two_roundings = !std::is_same_v<C, U>;

    static const U* of_sums(const Scratch<C>& cosines, const Scratch<U>& own) {
        if constexpr (two_roundings)
            return own.data();
        else
            return cosines.data();
    }
    /// x [n, D] as unit rows out [all, ld]; zeros beyond n.
    template <class E>
    void unit_rows(const Tensor& x, const Tensor& inverse_norm, std::int64_t all, E* out) {
        if (all == 0) return;
        launch_kernel(context_, unit_rows_kernel<T, E>, blocks_of(all, rows_per_block), threads, x.dim(0), all, dim_,
                      ld_, in<T>(x), in<T>(inverse_norm), out);
        BF_CUDA(cudaGetLastError(), "rows ", x.dim(0), ", D ", dim_);
    }

    Context& context_;
    const ClassifierWeights& weights_;
    std::int64_t rows_, classes_, dim_, ld_;
    Tiling tiling_;
    Sums sums_;
    Scratch<C> x_, w_, tile_;
    Scratch<U> x_of_sums_, w_of_sums_;
    Scratch<math::GradientRow<T>> rows_data_;
    Scratch<T> above_;
    Scratch<std::int64_t> targets_;
    const T* shift_ = nullptr;  ///< there: classes may be hard
};

/// out = through the normalisation of rows x [n, D], times weight and seed.
template <class T>
void project(Context& context, const T* g, const Tensor& x, const Tensor& inverse_norm, double weight,
             const Tensor& seed, const Tensor& out) {
    const std::int64_t rows = x.dim(0), dim = x.dim(1);
    if (rows == 0) return;
    launch_kernel(context, project_kernel<T>, blocks_of(rows, rows_per_block), threads, rows, dim, g, in<T>(x),
                  in<T>(inverse_norm), weight, DeviceScalar{seed.raw(), seed.dtype() == DType::f64}, at<T>(out));
    BF_CUDA(cudaGetLastError(), "rows ", rows, ", D ", dim);
}

template <class T>
void launch_inverse_norms(Context& context, const Tensor& x, const Tensor& y) {
    launch_kernel(context, inverse_norm_kernel<T>, blocks_of(x.dim(0), rows_per_block), threads, x.dim(0), x.dim(1),
                  in<T>(x), at<T>(y));
    BF_CUDA(cudaGetLastError(), "rows ", x.dim(0), ", D ", x.dim(1));
}

template <class T>
void launch_target_cosine(Context& context, const ClassifierRows& rows, const ClassifierWeights& weights,
                          const Tensor& cosine) {
    if (weights.centers > 1) {
        launch_kernel(context, target_center_kernel<T>, blocks_of(rows.count(), rows_per_block), threads, rows.count(),
                      rows.x.dim(1), weights.w.dim(0) / weights.centers, weights.class_begin, weights.centers,
                      in<T>(rows.x), in<T>(rows.inverse_norm), in<T>(weights.w), in<T>(weights.inverse_norm),
                      in<std::int64_t>(rows.labels), at<T>(cosine), at<std::int64_t>(rows.target_rows));
        BF_CUDA(cudaGetLastError(), "rows ", rows.count(), ", centers ", weights.centers);
        return;
    }
    launch_kernel(context, target_cosine_kernel<T>, blocks_of(rows.count(), rows_per_block), threads, rows.count(),
                  rows.x.dim(1), weights.w.dim(0), weights.class_begin, in<T>(rows.x), in<T>(rows.inverse_norm),
                  in<T>(weights.w), in<T>(weights.inverse_norm), in<std::int64_t>(rows.labels), at<T>(cosine));
    BF_CUDA(cudaGetLastError(), "rows ", rows.count());
}

template <class T>
void launch_hard_classes(Context& context, double m, double rate, const Tensor& cosine, const Tensor& t,
                         const Tensor& above) {
    launch_kernel(context, hard_classes_kernel<T>, 1, 1024, static_cast<T>(m), rate, cosine.numel(), in<T>(cosine),
                  at<T>(t), at<T>(above));
    BF_CUDA(cudaGetLastError(), "rows ", cosine.numel());
}

template <class T, class C, class U, class Head>
void tiled_statistics(Context& context, const ClassifierRows& rows, const ClassifierWeights& weights,
                      const Tensor& largest, const Tensor& sum, const Head& head, T* plain) {
    Tiles<T, C, U> tiles(context, weights, rows.count(), Sums::none);
    tiles.add_rows(rows, 0);
    tiles.each_class_tile([&](std::int64_t k0, std::int64_t k1) {
        tiles.each_row_tile([&](std::int64_t r0, std::int64_t r1) {
            const C* tile = tiles.cosines(r0, r1, k1 - k0);
            const auto height = static_cast<unsigned>(r1 - r0);
            const auto width = static_cast<int>(k1 - k0);
            const T scale = static_cast<T>(weights.scale);
            const std::int64_t* labels = in<std::int64_t>(rows.labels) + r0;
            T* const plain_at = plain ? plain + r0 : nullptr;
            if (weights.centers == 1)
                launch_kernel(context, statistics_kernel<T, C, Head>, height, row_threads, tile, tiles.tiling().classes,
                              width, scale, labels, weights.class_begin + k0, k0 == 0, head.from(r0),
                              at<T>(largest) + r0, at<T>(sum) + r0, plain_at);
            else
                launch_kernel(context, center_statistics_kernel<T, C, Head>, height, row_threads, tile,
                              tiles.tiling().classes, width, static_cast<int>(weights.centers), scale, labels,
                              weights.class_begin + k0 / weights.centers, k0 == 0, head.from(r0), at<T>(largest) + r0,
                              at<T>(sum) + r0, plain_at);
            BF_CUDA(cudaGetLastError(), "tile ", r1 - r0, " x ", k1 - k0);
        });
    });
}

template <class T>
void launch_margin_rows(Context& context, const Margin& margin, double scale, const ClassifierRows& rows,
                        const ClassifierStatistics& s, const Tensor& loss, const Tensor& correct) {
    launch_kernel(context, margin_rows_kernel<T>, 1, 1024, margin, static_cast<T>(scale), rows.count(),
                  in<T>(s.largest), in<T>(s.sum), in<T>(s.cosine), in<T>(s.plain.defined() ? s.plain : s.largest),
                  rows.m2.defined() ? in<T>(rows.m2) : nullptr, rows.m3.defined() ? in<T>(rows.m3) : nullptr,
                  at<T>(rows.target_logit), at<T>(rows.slope), at<T>(rows.log_sum_exp), at<T>(loss), at<T>(correct));
    BF_CUDA(cudaGetLastError(), "rows ", rows.count());
}

template <class T, class C, class U>
void tiled_dw(Context& context, const ClassifierRows* sets, int set_count, double row_weight, const Tensor& seed,
              const ClassifierWeights& weights, const Tensor& dw) {
    std::int64_t rows = 0;
    for (int s = 0; s < set_count; ++s) rows += sets[s].count();
    if (rows == 0) return fill(context, dw, 0);
    Tiles<T, C, U> tiles(context, weights, rows, Sums::classes);
    std::int64_t begin = 0;
    for (int s = 0; s < set_count; begin += sets[s++].count())
        if (sets[s].count() > 0) tiles.add_rows(sets[s], begin);
    const Tensor sums = tiles.sums(tiles.tiling().classes);
    tiles.each_class_tile([&](std::int64_t k0, std::int64_t k1) {
        tiles.each_row_tile([&](std::int64_t r0, std::int64_t r1) {
            tiles.gradient(r0, r1, k0, k1);
            tiles.add_class_sums(r0, r1, k1 - k0, at<T>(sums));
        });
        project<T>(context, in<T>(sums), weights.w.rows(k0, k1), weights.inverse_norm.rows(k0, k1),
                   row_weight * weights.scale, seed, dw.rows(k0, k1));
    });
}

template <class T, class C, class U>
void tiled_dx(Context& context, const ClassifierRows& rows, double row_weight, const Tensor& seed,
              const ClassifierWeights& weights, const Tensor& dx) {
    Tiles<T, C, U> tiles(context, weights, rows.count(), Sums::rows);
    tiles.add_rows(rows, 0);
    const Tensor sums = tiles.sums(rows.count());
    tiles.each_class_tile([&](std::int64_t k0, std::int64_t k1) {
        tiles.each_row_tile([&](std::int64_t r0, std::int64_t r1) {
            tiles.gradient(r0, r1, k0, k1);
            tiles.add_row_sums(r0, r1, k0, k1 - k0, at<T>(sums));
        });
    });
    project<T>(context, in<T>(sums), rows.x, rows.inverse_norm, row_weight * weights.scale, seed, dx);
}

template <class T>
void launch_compensate(Context& context, const math::Compensation& rule, const Tensor& e, const Tensor& then,
                       const Tensor& labels, const Tensor& w, const Tensor& out) {
    const std::int64_t rows = labels.numel(), dim = w.dim(1);
    launch_kernel(context, compensate_kernel<T>, blocks_of(rows, rows_per_block), threads, rule, rows, dim, in<T>(e),
                  in<T>(then), in<std::int64_t>(labels), in<T>(w), at<T>(out));
    BF_CUDA(cudaGetLastError(), "rows ", rows, ", D ", dim);
}

}  // namespace

// Entries of KernelTable; see bf/kernels/cpu_classifier.hpp for what each does.

void inverse_norms(Context& context, const Tensor& x, const Tensor& y) {
    if (x.dim(0) == 0) return;
    visit_real(x.dtype(), "margin_softmax", [&]<class T>() { launch_inverse_norms<T>(context, x, y); });
}

void target_cosine(Context& context, const ClassifierRows& rows, const ClassifierWeights& weights,
                   const Tensor& cosine) {
    if (rows.count() == 0) return;
    visit_real(cosine.dtype(), "margin_softmax",
               [&]<class T>() { launch_target_cosine<T>(context, rows, weights, cosine); });
}

void classifier_statistics(Context& context, const ClassifierRows& rows, const ClassifierWeights& weights,
                           const Tensor& largest, const Tensor& sum, const Tensor& plain) {
    if (rows.count() == 0) return;
    visit_products(weights, [&]<class T, class C, class U>() {
        if (plain.defined())
            tiled_statistics<T, C, U>(context, rows, weights, largest, sum,
                                      HardRows<T>{in<T>(rows.hard_above), in<T>(rows.hard_shift)}, at<T>(plain));
        else
            tiled_statistics<T, C, U>(context, rows, weights, largest, sum, UsualClasses{}, static_cast<T*>(nullptr));
    });
}

void class_labels(Context& context, const Tensor& rows, std::int64_t centers, const Tensor& labels) {
    for_each(context, rows.numel(), ClassOfRow{in<std::int64_t>(rows), centers, at<std::int64_t>(labels)});
}

void hard_classes(Context& context, double m, double rate, const Tensor& cosine, const Tensor& t, const Tensor& above) {
    if (cosine.numel() == 0) return;
    visit_real(cosine.dtype(), "margin_softmax",
               [&]<class T>() { launch_hard_classes<T>(context, m, rate, cosine, t, above); });
}

void margin_rows(Context& context, const Margin& margin, double scale, const ClassifierRows& rows,
                 const ClassifierStatistics& statistics, const Tensor& loss, const Tensor& correct) {
    visit_real(rows.x.dtype(), "margin_softmax",
               [&]<class T>() { launch_margin_rows<T>(context, margin, scale, rows, statistics, loss, correct); });
}

void classifier_dw(Context& context, const ClassifierRows* sets, int set_count, double row_weight, const Tensor& seed,
                   const ClassifierWeights& weights, const Tensor& dw) {
    visit_products(weights, [&]<class T, class C, class U>() {
        tiled_dw<T, C, U>(context, sets, set_count, row_weight, seed, weights, dw);
    });
}

void classifier_dx(Context& context, const ClassifierRows& rows, double row_weight, const Tensor& seed,
                   const ClassifierWeights& weights, const Tensor& dx) {
    if (rows.count() == 0) return;
    visit_products(
        weights, [&]<class T, class C, class U>() { tiled_dx<T, C, U>(context, rows, row_weight, seed, weights, dx); });
}

void compensate(Context& context, const math::Compensation& rule, const Tensor& e, const Tensor& then,
                const Tensor& labels, const Tensor& w, const Tensor& out) {
    if (labels.numel() == 0) return;
    visit_real(w.dtype(), "compensate",
               [&]<class T>() { launch_compensate<T>(context, rule, e, then, labels, w, out); });
}

}  // namespace bf::cuda
