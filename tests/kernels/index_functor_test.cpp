// The index and fold functors that the CUDA kernels launch, run here in serial loops and compared with the CPU table:
// index maths, chunks, joins and tails are proven on machines without a GPU.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "bf/base/random.hpp"
#include "bf/kernels/dispatch.hpp"
#include "bf/math/channels.hpp"
#include "bf/math/index.hpp"
#include "bf/math/map.hpp"
#include "bf/math/memory.hpp"
#include "bf/math/multi_tensor.hpp"
#include "bf/math/norm.hpp"
#include "bf/math/pool.hpp"
#include "bf/math/rows.hpp"

namespace {

namespace math = bf::math;
using bf::bf16;
using bf::DType;
using bf::Format;
using bf::Tensor;

bf::Context cpu;

/// What for_each of cuda/launch.cuh does.
template <class F>
void for_each(std::int64_t n, const F& f) {
    for (std::int64_t i = 0; i < n; ++i) f(i);
}

/// What fold_kernel of cuda/fold.cuh does: the same places, the same tree.
template <class F>
void fold(std::int64_t blocks, const F& f) {
    std::vector<typename F::State> state(math::fold_threads);
    for (std::int64_t block = 0; block < blocks; ++block) {
        const auto place = [&](int thread) { return math::fold_place(thread, f.columns, F::adjacent); };
        std::vector<bool> taken(math::fold_threads);
        for (int thread = 0; thread < math::fold_threads; ++thread) {
            const auto at = place(thread);
            const auto slot = static_cast<std::size_t>(at.member * f.columns + at.column);
            EXPECT_FALSE(taken[slot]);
            taken[slot] = true;
            state[slot] = f.thread(block, at.member, at.column);
        }
        for (int distance = math::fold_threads / 2; distance >= f.columns; distance /= 2)
            for (int thread = 0; thread < distance; ++thread) {
                const auto to = static_cast<std::size_t>(thread);
                state[to] = F::combine(state[to], state[to + static_cast<std::size_t>(distance)]);
            }
        for (int thread = 0; thread < math::fold_threads; ++thread) {
            const auto at = place(thread);
            f.finish(block, at.member, at.column, state[static_cast<std::size_t>(at.column)]);
        }
    }
}

/// Normal values in any real dtype.
Tensor draw(const bf::Shape& shape, DType dtype, std::uint64_t salt = 0, Format format = Format::plain) {
    bf::Rng rng(21, bf::Stream::test, salt);
    Tensor t = Tensor::empty(shape, {DType::f32, bf::cpu_device, format});
    for (float& v : t.span<float>()) v = rng.normal();
    Tensor y = Tensor::empty(shape, {dtype, bf::cpu_device, format});
    bf::cpu_table().convert(cpu, t, y);
    return y;
}
/// A tensor of NaN (of -1 for integers), so that an element that is not written shows.
Tensor unwritten(const bf::Shape& shape, DType dtype, Format format = Format::plain) {
    Tensor t = Tensor::empty(shape, {dtype, bf::cpu_device, format});
    const bool integer = dtype == DType::i64 || dtype == DType::i32 || dtype == DType::u8;
    bf::cpu_table().fill(cpu, t, integer ? 1 : std::nan(""));
    return t;
}
Tensor like(const Tensor& t) { return unwritten(t.shape(), t.dtype(), t.format()); }
Tensor wide(const Tensor& t) {
    Tensor y = Tensor::empty(t.shape(), {DType::f64, bf::cpu_device, t.format()});
    bf::cpu_table().convert(cpu, t, y);
    return y;
}

void expect_same_bits(const Tensor& got, const Tensor& want, const char* what) {
    ASSERT_EQ(got.bytes(), want.bytes()) << what;
    EXPECT_EQ(std::memcmp(got.raw(), want.raw(), got.bytes()), 0) << what;
}
/// Largest difference relative to the largest value.
void expect_close(const Tensor& got, const Tensor& want, double tolerance, const char* what) {
    const Tensor a = wide(got), b = wide(want);
    ASSERT_EQ(a.numel(), b.numel()) << what;
    double worst = 0, largest = 1e-3;
    for (std::int64_t i = 0; i < a.numel(); ++i) {
        const double x = a.data<double>()[i], y = b.data<double>()[i];
        ASSERT_TRUE(std::isfinite(x)) << what << " element " << i;
        worst = std::max(worst, std::abs(x - y));
        largest = std::max(largest, std::abs(y));
    }
    EXPECT_LE(worst / largest, tolerance) << what;
}

/// Calls f for each storage type with the DType of what it is computed in.
template <class F>
void every_storage(F&& f) {
    f.template operator()<float>(DType::f32);
    f.template operator()<double>(DType::f64);
    f.template operator()<bf16>(DType::f32);
}
/// Tensors of 16-bit storage are compared with the CPU's result on the same values in f32.
template <class S>
Tensor computed(const Tensor& t) {
    Tensor y = Tensor::empty(t.shape(), {bf::dtype_of<math::Compute<S>>, bf::cpu_device, t.format()});
    bf::cpu_table().convert(cpu, t, y);
    return y;
}
/// bf16 keeps 8 bits: half a unit of the last is at most 2^-8 of a value.
template <class S>
constexpr double rounding = std::is_same_v<S, bf16>    ? 1.0 / 256
                            : std::is_same_v<S, float> ? 2e-6
                                                       : 1e-13;

TEST(Map, PointwiseWithTails) {
    every_storage([]<class S>(DType) {
        using T = math::Compute<S>;
        for (const std::int64_t n : {1, 7, 8, 64, 1003})
            for (const bool aligned : {true, false}) {
                const Tensor x = draw({n}, bf::dtype_of<S>), z = draw({n}, bf::dtype_of<S>, 1),
                             dy = draw({n}, bf::dtype_of<S>, 2), y = like(x), dx = like(x);
                using Value = math::Map<math::UnaryValue<math::Sigmoid, T>, S, 1>;
                for_each(Value::groups(n), Value{{T(0), T(0)}, {x.data<S>()}, y.data<S>(), n, aligned});
                using Gradient = math::Map<math::BinaryGradient<math::Div, T, false>, S, 3>;
                for_each(Gradient::groups(n),
                         Gradient{{}, {x.data<S>(), z.data<S>(), dy.data<S>()}, dx.data<S>(), n, aligned});
                const Tensor cx = computed<S>(x), cz = computed<S>(z), cdy = computed<S>(dy), cy = like(cx),
                             cdx = like(cx);
                bf::cpu_table().unary(cpu, bf::Unary::sigmoid, 0, 0, cx, cy);
                bf::cpu_table().binary_dz(cpu, bf::Binary::div, cx, cz, cdy, cdx);
                expect_close(y, cy, rounding<S>, "sigmoid");
                expect_close(dx, cdx, rounding<S>, "div dz");
            }
    });
}

TEST(Map, CastFillDropout) {
    const std::int64_t n = 1003;
    const Tensor x = draw({n}, DType::f32), half = unwritten({n}, DType::bf16), want = like(half);
    using Down = math::Cast<float, bf16>;
    for_each(Down::groups(n), Down{x.data<float>(), half.data<bf16>(), n, true});
    bf::cpu_table().convert(cpu, x, want);
    expect_same_bits(half, want, "f32 to bf16");
    const Tensor up = unwritten({n}, DType::f64), want_up = like(up);
    using Up = math::Cast<bf16, double>;
    for_each(Up::groups(n), Up{half.data<bf16>(), up.data<double>(), n, true});
    bf::cpu_table().convert(cpu, half, want_up);
    expect_same_bits(up, want_up, "bf16 to f64");

    const Tensor filled = unwritten({n}, DType::f32), want_filled = like(filled);
    for_each(math::Fill<std::uint32_t>::groups(n),
             math::Fill<std::uint32_t>{static_cast<std::uint32_t*>(filled.raw()), std::bit_cast<std::uint32_t>(1.5f), n,
                                       true});
    bf::cpu_table().fill(cpu, want_filled, 1.5);
    expect_same_bits(filled, want_filled, "fill");

    every_storage([&]<class S>(DType) {
        using T = math::Compute<S>;
        for (const std::int64_t size : {3, 4, 1001}) {
            const Tensor in = draw({size}, bf::dtype_of<S>, 3), y = like(in);
            for_each(math::Dropout<S>::groups(size),
                     math::Dropout<S>{bf::random_key(11, bf::Stream::dropout), 5, static_cast<float>(0.3),
                                      static_cast<T>(1 / (1 - 0.3)), in.data<S>(), y.data<S>(), size, true});
            const Tensor cin = computed<S>(in), cy = like(cin), want_y = like(in);
            bf::cpu_table().dropout(cpu, 0.3, 11, 5, cin, cy);
            bf::cpu_table().convert(cpu, cy, want_y);
            expect_same_bits(y, want_y, "dropout");
        }
    });
}

TEST(Index, TransposeByElementAndByTile) {
    for (const auto& [n, c, h, w] : {std::array<std::int64_t, 4>{2, 3, 5, 7}, {1, 70, 9, 11}, {3, 33, 8, 4}}) {
        const Tensor x = draw({n, c, h, w}, DType::f32), want = unwritten(x.shape(), DType::bf16, Format::nhwc);
        bf::cpu_table().convert(cpu, x, want);
        const Tensor y = like(want), z = like(want);
        const std::int64_t plane = h * w;
        for_each(x.numel(), math::Transpose<float, bf16>{x.data<float>(), y.data<bf16>(), c, plane});
        expect_same_bits(y, want, "element");
        using Tile = math::TransposeTile<float, bf16>;
        const Tile f{x.data<float>(), z.data<bf16>(), c, plane};
        bf16 cell[Tile::side][Tile::side + 1];
        for (std::int64_t tile = 0; tile < f.tiles(n); ++tile) {
            for (int t = 0; t < 256; ++t) f.read(tile, t / 32, t % 32, cell);
            for (int t = 0; t < 256; ++t) f.write(tile, t / 32, t % 32, cell);
        }
        expect_same_bits(z, want, "tile");
    }
}

TEST(Index, GatherAndScatterRows) {
    for (const std::int64_t cols : {3, 8}) {
        const Tensor x = draw({5, cols}, DType::f32);
        const Tensor index = Tensor::from<std::int64_t>({2, 0, 2, 4, 2, 0}, {6});
        const std::int64_t* at = index.data<std::int64_t>();
        const Tensor y = unwritten({6, cols}, DType::f32), want = like(y);
        bf::cpu_table().gather_rows(cpu, x, index, want);
        if (cols % 4 == 0) {
            const math::GatherRows<float, 4> f{x.data<float>(), at, y.data<float>(), cols};
            for_each(f.groups(6), f);
        } else {
            const math::GatherRows<float, 1> f{x.data<float>(), at, y.data<float>(), cols};
            for_each(f.groups(6), f);
        }
        expect_same_bits(y, want, "gather");

        const Tensor row = draw({cols}, DType::f32, 6), copies = unwritten({6, cols}, DType::f32),
                     want_copies = like(copies);
        const math::GatherRows<float, 1> broadcast{row.data<float>(), nullptr, copies.data<float>(), cols};
        for_each(broadcast.groups(6), broadcast);
        bf::cpu_table().broadcast_rows(cpu, row, want_copies);
        expect_same_bits(copies, want_copies, "broadcast");

        const Tensor dy = draw({6, cols}, DType::f32, 4), dx = draw({5, cols}, DType::f32, 5), want_dx = dx.clone();
        bf::cpu_table().scatter_add_rows(cpu, dy, index, want_dx);
        std::vector<std::int64_t> next(6), first(6);
        for_each(6, math::LinkRows{at, next.data(), first.data(), 6});
        for_each(6 * cols,
                 math::ScatterAddRows<float>{dy.data<float>(), at, next.data(), first.data(), dx.data<float>(), cols});
        expect_same_bits(dx, want_dx, "scatter");
    }
}

template <class R, class T>
void expect_reductions(bf::Reduce op, double tolerance) {
    const DType dtype = bf::dtype_of<T>;
    for (const std::int64_t n : {std::int64_t{1}, std::int64_t{5003}, std::int64_t{70001}}) {
        const Tensor x = draw({n}, dtype), y = unwritten({}, dtype), want = like(y);
        const std::int64_t blocks = math::FoldAll<R, T>::blocks_for(n);
        std::vector<double> partial(static_cast<std::size_t>(blocks));
        fold(blocks, math::FoldAll<R, T>{x.data<T>(), partial.data(), n, blocks, true});
        fold(1, math::FoldPartials<R, T>{partial.data(), blocks, n, y.data<T>()});
        bf::cpu_table().reduce(cpu, op, 1, n, 1, x, want);
        expect_close(y, want, tolerance, "all");
    }
    for (const auto& [outer, n, inner] :
         {std::array<std::int64_t, 3>{7, 5, 1}, {3, 2000, 1}, {3, 5, 7}, {2, 130, 70}, {1, 9, 3}}) {
        const Tensor x = draw({outer, n, inner}, dtype), y = unwritten({outer, inner}, dtype), want = like(y);
        if (inner == 1) {
            const int columns = math::fold_columns_for_rows(n);
            fold(math::ceil_div(outer, columns), math::FoldRows<R, T>{columns, x.data<T>(), y.data<T>(), outer, n});
        } else {
            const math::FoldColumns<R, T> f{math::power_of_two(inner, 32), x.data<T>(), y.data<T>(), n, inner};
            fold(f.blocks(outer), f);
        }
        bf::cpu_table().reduce(cpu, op, outer, n, inner, x, want);
        expect_close(y, want, tolerance, "axis");
        const Tensor dy = draw({outer, inner}, dtype, 7), dx = like(x), want_dx = like(x);
        for_each(x.numel(),
                 math::ReduceGradient<R, T>{n, inner, x.data<T>(), want.data<T>(), dy.data<T>(), dx.data<T>()});
        bf::cpu_table().reduce_dx(cpu, op, outer, n, inner, x, want, dy, want_dx);
        expect_same_bits(dx, want_dx, "reduce_dx");
    }
}

TEST(Fold, EveryReduction) {
#define BF_ROW(name, Functor)                                        \
    expect_reductions<math::Functor, float>(bf::Reduce::name, 1e-4); \
    expect_reductions<math::Functor, double>(bf::Reduce::name, 1e-12);
    BF_REDUCE_OPS(BF_ROW)
#undef BF_ROW
}

TEST(Fold, UnitRowsAndSoftmax) {
    for (const std::int64_t cols : {1, 7, 512, 1500}) {
        const std::int64_t rows = 9;
        const int columns = math::fold_columns_for_rows(cols);
        const std::int64_t blocks = math::ceil_div(rows, columns);
        const Tensor x = draw({rows, cols}, DType::f64), dy = draw({rows, cols}, DType::f64, 1);
        const Tensor y = like(x), norm = unwritten({rows}, DType::f64), dx = like(x);
        const Tensor want_y = like(x), want_norm = like(norm), want_dx = like(x);
        bf::cpu_table().normalize_rows(cpu, x, want_y, want_norm);
        bf::cpu_table().normalize_rows_dx(cpu, want_y, want_norm, dy, want_dx);
        fold(blocks,
             math::NormalizeRows<double>{columns, x.data<double>(), y.data<double>(), norm.data<double>(), rows, cols});
        fold(blocks, math::NormalizeRowsGradient<double>{columns, y.data<double>(), norm.data<double>(),
                                                         dy.data<double>(), dx.data<double>(), rows, cols});
        expect_close(y, want_y, 1e-13, "unit rows");
        expect_close(norm, want_norm, 1e-13, "norms");
        expect_close(dx, want_dx, 1e-12, "dx");

        Tensor logits = draw({rows, cols}, DType::f64, 2), labels = Tensor::zeros({rows}, {.dtype = DType::i64});
        for (double& z : logits.span<double>()) z = 300 * z - 900;  // far from what exp can hold
        for (std::int64_t r = 0; r < rows; ++r) labels.data<std::int64_t>()[r] = r * 31 % cols;
        const Tensor loss = like(norm), lse = like(norm), dlogits = like(x);
        const Tensor want_loss = like(norm), want_lse = like(norm), want_dlogits = like(x),
                     seed = draw({rows}, DType::f64);
        bf::cpu_table().softmax_cross_entropy(cpu, logits, labels, want_loss, want_lse);
        bf::cpu_table().softmax_cross_entropy_dx(cpu, logits, labels, want_lse, seed, want_dlogits);
        fold(blocks, math::SoftmaxCrossEntropy<double>{columns, logits.data<double>(), labels.data<std::int64_t>(),
                                                       loss.data<double>(), lse.data<double>(), rows, cols});
        for_each(logits.numel(), math::SoftmaxCrossEntropyGradient<double>{
                                     logits.data<double>(), labels.data<std::int64_t>(), lse.data<double>(),
                                     seed.data<double>(), dlogits.data<double>(), cols});
        expect_close(loss, want_loss, 1e-13, "loss");
        expect_close(lse, want_lse, 1e-13, "log-sum-exp");
        expect_close(dlogits, want_dlogits, 1e-11, "dlogits");
    }
}

template <class S, class Op>
using Inputs = std::array<const S*, static_cast<std::size_t>(Op::inputs)>;

/// The two launches of the sums of an op.
template <class S, int V, class Op, class Join>
void channel_sums(std::int64_t rows, std::int64_t channels, const Op& op, const Inputs<S, Op>& in, S* out,
                  Join&& join) {
    const auto g = math::ChannelChunks::of(rows, channels, V);
    std::vector<double> partial(static_cast<std::size_t>(g.chunks * Op::sums * channels));
    math::ChannelSums<Op, S, V> f{op, g, g.columns, {}, out, partial.data()};
    for (std::size_t j = 0; j < in.size(); ++j) f.in[j] = in[j];
    fold(g.blocks(), f);
    const auto second = join(g, partial.data());
    fold(second.blocks(), second);
}
template <class S, int V, class Op>
void channel_map(std::int64_t rows, std::int64_t channels, const Op& op, const Tensor& out, const Inputs<S, Op>& in) {
    // few workers, so that one has several rows and an odd one at the end
    const std::int64_t workers = math::smaller(37, math::channel_workers(rows, channels / V));
    math::ChannelMap<Op, S, V> f{op, {}, out.data<S>(), rows, channels, workers};
    for (std::size_t j = 0; j < in.size(); ++j) f.in[j] = in[j];
    for_each(f.indices(), f);
}

/// What norm.cu launches for the rows x with given statistics, against the CPU table: forward with the tail, and for
/// the tails that have gradients of their own (the sum with a residual has none) both backward passes.
template <class S, int V, math::NormTail tail>
void expect_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv) {
    using T = math::Compute<S>;
    constexpr bool prelu = tail == math::NormTail::prelu, add = tail == math::NormTail::add;
    SCOPED_TRACE(prelu ? "prelu" : add ? "add" : "plain");
    const std::int64_t rows = x.dim(0), channels = x.dim(1);
    const Tensor dy = draw({rows, channels}, x.dtype(), 2), r = draw({rows, channels}, x.dtype(), 8);
    const Tensor slope = prelu ? draw({channels}, gamma.dtype(), 5) : Tensor();
    const Tensor cx = computed<S>(x), cdy = computed<S>(dy), cr = add ? computed<S>(r) : Tensor(), cy = like(cx),
                 cdx = like(cx), y = like(x), dx = like(x);
    const double tight = sizeof(T) == 8 ? 1e-12 : 2e-5, loose = std::max(rounding<S>, sizeof(T) == 8 ? 1e-11 : 5e-5);
    const math::NormParameters<T> p{gamma.data<T>(), beta.data<T>(), mean.data<T>(), inv.data<T>(),
                                    prelu ? slope.data<T>() : nullptr};

    bf::cpu_table().batch_norm_eval(cpu, cx, gamma, beta, mean, inv, slope, cr, cy);
    const math::BatchNormApply<T, tail> apply{p};
    if constexpr (add)
        channel_map<S, V>(rows, channels, apply, y, {x.data<S>(), r.data<S>()});
    else
        channel_map<S, V>(rows, channels, apply, y, {x.data<S>()});
    expect_close(y, cy, loose, "y");
    if constexpr (add) return;

    for (const bool train : {true, false}) {
        const Tensor dgamma = like(gamma), dbeta = like(gamma), dslope = like(gamma), cdgamma = like(gamma),
                     cdbeta = like(gamma), cdslope = like(gamma);
        (train ? bf::cpu_table().batch_norm_train_dx : bf::cpu_table().batch_norm_eval_dx)(
            cpu, cx, cdy, gamma, beta, mean, inv, slope, cdx, cdgamma, cdbeta, cdslope);
        using Sums = math::BatchNormSums<T, prelu>;
        channel_sums<S, V>(rows, channels, Sums{p}, {dy.data<S>(), x.data<S>()}, nullptr,
                           [&](const math::ChannelChunks& chunks, const double* partial) {
                               math::JoinSums<T, Sums::sums> join{
                                   chunks, partial, {dbeta.data<T>(), dgamma.data<T>()}, {nullptr, p.inverse_std}};
                               if constexpr (prelu) join.out[2] = dslope.data<T>();
                               return join;
                           });
        expect_close(dbeta, cdbeta, tight, "dbeta");
        expect_close(dgamma, cdgamma, tight, "dgamma");
        if (prelu) expect_close(dslope, cdslope, tight, "dslope");
        bf::cpu_table().fill(cpu, dx, std::nan(""));
        math::visit_norm_gradient(train, [&]<bool batch>() {
            const math::BatchNormGradient<T, prelu, batch> op{p, dgamma.data<T>(), dbeta.data<T>(), rows};
            if constexpr (op.inputs == 2)
                channel_map<S, V>(rows, channels, op, dx, {dy.data<S>(), x.data<S>()});
            else
                channel_map<S, V>(rows, channels, op, dx, {dy.data<S>()});
        });
        expect_close(dx, cdx, loose, train ? "train dx" : "eval dx");
    }
}

template <class S, int V>
void expect_channels(std::int64_t rows, std::int64_t channels) {
    SCOPED_TRACE(bf::concat(rows, " x ", channels, " by ", V, " ", name_of(bf::dtype_of<S>)));
    using T = math::Compute<S>;
    const DType stored = bf::dtype_of<S>, dtype = bf::dtype_of<T>;
    Tensor x = draw({rows, channels}, stored, 1), dy = draw({rows, channels}, stored, 2);
    // a mean far from 0 next to a small deviation is what a sum of raw squares does not survive
    for (std::int64_t i = 0; i < x.numel(); ++i)
        if (i % channels == 0) x.data<S>()[i] = S(static_cast<float>(x.data<S>()[i]) * 0.25f + 100.0f);
    const Tensor gamma = draw({channels}, dtype, 3), beta = draw({channels}, dtype, 4),
                 slope = draw({channels}, dtype, 5);
    const Tensor y = like(x), dx = like(x), mean = like(gamma), inv = like(gamma);
    const Tensor running_mean = draw({channels}, dtype, 6), running_var = draw({channels}, dtype, 7);
    const Tensor want_rm = running_mean.clone(), want_rv = running_var.clone();
    const Tensor cx = computed<S>(x), cdy = computed<S>(dy), cy = like(cx), cdx = like(cx), cmean = like(mean),
                 cinv = like(inv);
    bf::cpu_table().batch_norm_train(cpu, cx, gamma, beta, 1e-5, {}, {}, cy, cmean, cinv, 0.1, want_rm, want_rv);

    channel_sums<S, V>(
        rows, channels, math::BatchStatistics<S>{x.data<S>(), channels}, {x.data<S>()}, nullptr,
        [&](const math::ChannelChunks& g, const double* partial) {
            return math::JoinStatistics<T>{
                g, partial, mean.data<T>(), inv.data<T>(), running_mean.data<T>(), running_var.data<T>(), 1e-5, 0.1};
        });
    const double tight = sizeof(T) == 8 ? 1e-12 : 2e-5;
    expect_close(mean, cmean, tight, "mean");
    expect_close(inv, cinv, tight, "inverse deviation");
    expect_close(running_mean, want_rm, tight, "running mean");
    expect_close(running_var, want_rv, tight, "running variance");
    const Tensor again = like(inv);
    bf::cpu_table().inverse_std(cpu, want_rv, 10, cinv);
    for_each(channels, math::InverseStd<T>{want_rv.data<T>(), again.data<T>(), 10});
    expect_same_bits(again, cinv, "inverse_std");

    // the rest from equal statistics
    expect_norm<S, V, math::NormTail::none>(x, gamma, beta, mean, inv);
    expect_norm<S, V, math::NormTail::prelu>(x, gamma, beta, mean, inv);
    expect_norm<S, V, math::NormTail::add>(x, gamma, beta, mean, inv);

    const double loose = std::max(rounding<S>, sizeof(T) == 8 ? 1e-11 : 5e-5);
    const Tensor dslope = like(slope), cdslope = like(slope);
    bf::cpu_table().prelu(cpu, cx, slope, cy);
    channel_map<S, V>(rows, channels, math::PRelu<T>{slope.data<T>()}, y, {x.data<S>()});
    expect_close(y, cy, loose, "prelu");
    bf::cpu_table().prelu_dx(cpu, cx, slope, cdy, cdx, cdslope);
    channel_sums<S, V>(rows, channels, math::PReluSums<T>{slope.data<T>()}, {dy.data<S>(), x.data<S>()}, dx.data<S>(),
                       [&](const math::ChannelChunks& chunks, const double* partial) {
                           return math::JoinSums<T, 1>{chunks, partial, {dslope.data<T>()}, {nullptr}};
                       });
    expect_close(dx, cdx, loose, "prelu dx");
    expect_close(dslope, cdslope, tight, "dslope");
}

TEST(Channels, BatchNormAndPRelu) {
    every_storage([]<class S>(DType) {
        expect_channels<S, 1>(2, 1);
        expect_channels<S, 1>(301, 5);
        expect_channels<S, 1>(40, 70);
        expect_channels<S, math::pack_size<S>>(2000, 8);
        expect_channels<S, math::pack_size<S>>(600, 24);
        expect_channels<S, math::pack_size<S>>(130, 512);
    });
}

template <class S, int V>
void expect_pools(const bf::PoolGeometry& g) {
    SCOPED_TRACE(bf::concat(g.h, " x ", g.w, " kernel ", g.kernel_h, " stride ", g.stride, " pad ", g.pad, " by ", V));
    const math::PoolWindow window{g.n, g.c, g.h, g.w, g.kernel_h, g.kernel_w, g.stride, g.pad, g.h_out(), g.w_out()};
    const DType stored = bf::dtype_of<S>;
    const Tensor x = draw({g.n, g.c, g.h, g.w}, stored, 1, Format::nhwc);
    const Tensor dy = draw({g.n, g.c, g.h_out(), g.w_out()}, stored, 2, Format::nhwc);
    const Tensor y = like(dy), dx = like(x), index = unwritten(dy.shape(), DType::i64, Format::nhwc);
    const Tensor cx = computed<S>(x), cdy = computed<S>(dy), cy = like(cdy), cdx = like(cx), cindex = like(index);

    bf::cpu_table().max_pool(cpu, g, cx, cy, cindex);
    const math::MaxPool<S, V> max_pool{window, x.data<S>(), y.data<S>(), index.data<std::int64_t>()};
    for_each(max_pool.indices(), max_pool);
    expect_close(y, cy, 0, "max");
    expect_same_bits(index, cindex, "index");
    bf::cpu_table().max_pool_dx(cpu, g, cdy, cindex, cdx);
    const math::MaxPoolGradient<S, V> max_dx{window, dy.data<S>(), index.data<std::int64_t>(), dx.data<S>()};
    for_each(max_dx.indices(), max_dx);
    expect_close(dx, cdx, rounding<S>, "max dx");

    bf::cpu_table().avg_pool(cpu, g, cx, cy);
    const math::AveragePool<S, V> average{window, x.data<S>(), y.data<S>()};
    for_each(average.indices(), average);
    expect_close(y, cy, rounding<S>, "average");
    bf::cpu_table().avg_pool_dx(cpu, g, cdy, cdx);
    bf::cpu_table().fill(cpu, dx, std::nan(""));
    const math::AveragePoolGradient<S, V> average_dx{window, dy.data<S>(), dx.data<S>()};
    for_each(average_dx.indices(), average_dx);
    expect_close(dx, cdx, rounding<S>, "average dx");
}

TEST(Pool, ForwardAndBackward) {
    every_storage([]<class S>(DType) {
        for (const bf::PoolGeometry& g : {bf::PoolGeometry{2, 8, 7, 6, 3, 3, 2, 1},
                                          {1, 8, 4, 4, 2, 2, 2, 0},
                                          {2, 8, 7, 5, 7, 5, 1, 0},
                                          {1, 8, 9, 8, 2, 2, 3, 0},
                                          {1, 8, 5, 5, 4, 4, 1, 2},
                                          {1, 8, 1, 1, 1, 1, 1, 0}}) {
            expect_pools<S, 1>(g);
            expect_pools<S, math::pack_size<S>>(g);
        }
    });
}

/// Parameters of odd sizes, one of several chunks, two groups; tensors of T.
template <class T>
struct Parameters {
    std::vector<bf::UpdateItem> items;
    std::vector<math::ListItem<T>> list;
    std::vector<math::ListChunk> chunks;

    explicit Parameters(bool two_moments) {
        const std::int64_t sizes[] = {1, 40000, 0, 77, 16384, 4096};
        for (std::uint64_t i = 0; i < std::size(sizes); ++i) {
            const std::int64_t n = sizes[i];
            const DType dtype = bf::dtype_of<T>;
            bf::UpdateItem item{draw({n}, dtype, 4 * i),          draw({n}, dtype, 4 * i + 1),
                                draw({n}, dtype, 4 * i + 2),      Tensor(),
                                1 + 0.5 * static_cast<double>(i), 0.01 * static_cast<double>(i % 2),
                                static_cast<int>(i % 2)};
            if (two_moments) {
                item.second = draw({n}, dtype, 4 * i + 3);
                for (T& v : item.second.template span<T>()) v = v * v;
            }
            list.push_back({item.g.template data<T>(), item.w.template data<T>(), item.first.template data<T>(),
                            two_moments ? item.second.template data<T>() : nullptr, n, item.lr_scale, item.weight_decay,
                            item.group, i != 3});
            math::cut_chunks(static_cast<std::int64_t>(i), n, [&](const math::ListChunk& c) { chunks.push_back(c); });
            items.push_back(item);
        }
    }
    std::int64_t threads() const { return static_cast<std::int64_t>(chunks.size()) * math::fold_threads; }
};

template <class T, class Rule, class CpuUpdate>
void expect_update(const Rule& rule, bool two_moments, double skipped, CpuUpdate&& cpu_update) {
    const Parameters<T> mine(two_moments), theirs(two_moments);
    const Tensor factors = Tensor::from<double>({0.7, skipped}, {2});
    cpu_update(theirs.items, factors);
    for_each(mine.threads(),
             math::UpdateChunks<Rule, T>{rule, mine.list.data(), mine.chunks.data(), factors.data<double>()});
    for (std::size_t i = 0; i < mine.items.size(); ++i) {
        if (mine.items[i].w.numel() == 0) continue;
        expect_close(mine.items[i].w, theirs.items[i].w, sizeof(T) == 8 ? 1e-14 : 1e-6, "w");
        expect_close(mine.items[i].first, theirs.items[i].first, sizeof(T) == 8 ? 1e-14 : 1e-6, "first");
        if (two_moments)
            expect_close(mine.items[i].second, theirs.items[i].second, sizeof(T) == 8 ? 1e-14 : 1e-6, "second");
    }
}

TEST(MultiTensor, Updates) {
    const bf::math::SgdUpdate sgd{0.1, 0.9, true};
    const bf::math::AdamWUpdate adamw{1e-2, 0.9, 0.999, 1e-8, 0.3, 0.01};
    for (const double factor : {1.3, std::nan("")}) {
        const auto cpu_sgd = [&](const auto& items, const Tensor& f) { bf::cpu_table().sgd(cpu, sgd, items, f); };
        const auto cpu_adamw = [&](const auto& items, const Tensor& f) { bf::cpu_table().adamw(cpu, adamw, items, f); };
        expect_update<float>(sgd, false, factor, cpu_sgd);
        expect_update<double>(sgd, false, factor, cpu_sgd);
        expect_update<float>(adamw, true, factor, cpu_adamw);
        expect_update<double>(adamw, true, factor, cpu_adamw);
    }
}

TEST(MultiTensor, ChunksCoverEveryElementOnce) {
    const Parameters<float> p(false);
    std::vector<std::vector<int>> seen;
    for (const auto& item : p.list) seen.emplace_back(static_cast<std::size_t>(item.n));
    for (const math::ListChunk& c : p.chunks) {
        std::vector<int>& s = seen[static_cast<std::size_t>(c.item)];
        const auto n = static_cast<std::int64_t>(s.size());
        EXPECT_LT(c.begin, n);
        for (std::int64_t i = c.begin; i < math::smaller(n, c.begin + math::chunk_elements); ++i)
            ++s[static_cast<std::size_t>(i)];
    }
    for (const auto& s : seen)
        for (const int count : s) ASSERT_EQ(count, 1);
}

TEST(MultiTensor, NormsAndClipFactors) {
    const Parameters<float> p(false);
    std::vector<Tensor> g;
    for (const bf::UpdateItem& item : p.items) g.push_back(item.g);
    const Tensor got = unwritten({}, DType::f64), want = like(got);
    std::vector<double> partial(p.chunks.size());
    const auto count = static_cast<std::int64_t>(partial.size());
    fold(count, math::SquareChunks<float>{p.list.data(), p.chunks.data(), partial.data()});
    fold(1, math::FoldPartials<math::Sum, double>{partial.data(), count, 0, got.data<double>()});
    bf::cpu_table().sum_squares(cpu, g, want);
    expect_close(got, want, 1e-6, "sum of squares");
    // no tensor at all: the sum is written as 0
    fold(1, math::FoldPartials<math::Sum, double>{partial.data(), 0, 0, got.data<double>()});
    EXPECT_EQ(got.item(), 0);

    for (const std::int64_t groups : {1, 3, 70}) {
        for (const double bad : {0.0, std::numeric_limits<double>::infinity()}) {
            const Tensor squares = unwritten({groups}, DType::f64);
            bf::ClipLimits limits{2.5, {}};
            for (std::int64_t i = 0; i < groups; ++i) {
                squares.data<double>()[i] = 0.3 * static_cast<double>(i + 1);
                limits.group.push_back(i % 2 ? 0.4 : 0);
            }
            squares.data<double>()[groups - 1] += bad;
            const Tensor factors = like(squares), norm = like(got), want_factors = like(squares), want_norm = like(got);
            bf::cpu_table().clip_factors(cpu, limits, squares, want_factors, want_norm);
            math::ClipFactors f{
                squares.data<double>(), factors.data<double>(), norm.data<double>(), groups, 0, 0, limits.global, {}};
            for (f.begin = 0; f.begin < groups; f.begin += f.most) {
                f.count = math::smaller(f.most, groups - f.begin);
                for (std::int64_t i = 0; i < f.count; ++i)
                    f.group_limit[i] = limits.group[static_cast<std::size_t>(f.begin + i)];
                for_each(f.count, f);
            }
            expect_same_bits(norm, want_norm, "norm");
            for (std::int64_t i = 0; i < groups; ++i) {
                const double a = factors.data<double>()[i], b = want_factors.data<double>()[i];
                EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << a << " " << b;
            }
        }
    }
}

Tensor numbers(std::vector<std::int64_t> values) {
    return Tensor::from<std::int64_t>(values, {static_cast<std::int64_t>(values.size())});
}

TEST(Memory, ContrastiveRows) {
    for (const DType dtype : {DType::f32, DType::f64})
        for (const std::int64_t cols : {1, 6, 33, 1500})
            for (const std::int64_t self : {math::no_self, std::int64_t{-2}, std::int64_t{0}, cols - 1}) {
                const std::int64_t rows = 5;
                Tensor labels = Tensor::empty({rows}, {.dtype = DType::i64}),
                       past = Tensor::empty({cols}, labels.options());
                for (std::int64_t i = 0; i < rows; ++i) labels.data<std::int64_t>()[i] = i % 3;
                for (std::int64_t i = 0; i < cols; ++i) past.data<std::int64_t>()[i] = i % 4;
                const Tensor cosines = draw({rows, cols}, dtype), want = cosines.clone(), loss = draw({rows}, dtype, 1),
                             want_loss = loss.clone();
                bf::cpu_table().contrastive_rows(cpu, 0.3, self, labels, past, want, want_loss);
                const auto run = [&]<class T>() {
                    const int columns = math::fold_columns_for_rows(cols);
                    fold(math::ceil_div(rows, columns),
                         math::ContrastiveRows<T>{columns, static_cast<T>(0.3), self, labels.data<std::int64_t>(),
                                                  past.data<std::int64_t>(), cosines.data<T>(), loss.data<T>(), rows,
                                                  cols});
                };
                dtype == DType::f32 ? run.operator()<float>() : run.operator()<double>();
                expect_same_bits(cosines, want, "slopes");
                expect_close(loss, want_loss, dtype == DType::f32 ? 2e-6 : 1e-13, "losses");
            }
}

TEST(Memory, NewestRows) {
    const Tensor labels = numbers({2, 0, 2, 3, 0, 2}), got = numbers({7, 7, 7, 7, 7}), want = got.clone();
    for_each(6, math::NewestRows{labels.data<std::int64_t>(), 100, got.data<std::int64_t>(), 6});
    bf::cpu_table().newest_rows(cpu, labels, 100, want);
    expect_same_bits(got, want, "newest");
    expect_same_bits(got, numbers({104, 7, 105, 103, 7}), "newest");
}

TEST(Memory, MixedPrototypesAndTheirGradientInPlace) {
    for (const DType dtype : {DType::f32, DType::f64})
        for (const std::int64_t cols : {1, 7, 130, 1500}) {
            const Tensor w = draw({5, cols}, dtype), e = draw({3, cols}, dtype, 1), dy = draw({5, cols}, dtype, 2),
                         newest = numbers({11, -1, 9, 8, 10}), y = like(w), want = like(w), dw = dy.clone(),
                         want_dw = like(w);
            const math::PrototypeMix rule{0.15, 9};
            bf::cpu_table().mix_prototypes(cpu, rule, w, e, newest, want);
            bf::cpu_table().mix_prototypes_dw(cpu, rule, w, newest, dy, want_dw);
            const auto run = [&]<class T>() {
                const int columns = math::fold_columns_for_rows(cols);
                fold(math::ceil_div(5, columns),
                     math::MixPrototypes<T>{columns, rule, w.data<T>(), e.data<T>(), newest.data<std::int64_t>(),
                                            y.data<T>(), 5, cols, 3});
                fold(math::ceil_div(5, columns),
                     math::MixPrototypesGradient<T>{columns, rule, w.data<T>(), newest.data<std::int64_t>(),
                                                    dw.data<T>(), dw.data<T>(), 5, cols});
            };
            dtype == DType::f32 ? run.operator()<float>() : run.operator()<double>();
            const double tolerance = dtype == DType::f32 ? 2e-6 : 1e-13;
            expect_close(y, want, tolerance, "prototypes");
            expect_close(dw, want_dw, tolerance, "gradient");
            for (const std::int64_t old : {1, 3}) {
                expect_same_bits(y.rows(old, old + 1).clone(), w.rows(old, old + 1).clone(), "a class without a row");
                expect_same_bits(dw.rows(old, old + 1).clone(), dy.rows(old, old + 1).clone(), "its gradient");
            }
        }
}

}  // namespace
