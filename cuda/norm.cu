#include <tuple>

#include "bf/math/channels.hpp"
#include "bf/math/norm.hpp"
#include "fold.cuh"

// Batch norm and PReLU over rows [M, C]: the ops of math/norm.hpp. Sums a channel take two launches: chunks of rows,
// then a join in f64.

namespace bf::cuda {
namespace {

/// The tensor as rows [M, C].
struct Rows {
    std::int64_t rows, channels;
    explicit Rows(const Tensor& x) : rows(x.channel_rows().dim(0)), channels(x.channel_rows().dim(1)) {}

    template <class S, class... P>
    bool packed(const P*... p) const {
        return channels % math::pack_size<S> == 0 && aligned(p...);
    }
};

/// out = op(values of the channel, inputs...).
template <class S, class Op, class... In>
void channel_map(Context& context, const Op& op, const Tensor& out, const In&... in) {
    static_assert(sizeof...(In) == Op::inputs);
    const Rows r(out);
    if (r.rows == 0 || r.channels == 0) return;
    visit_lanes<S>(r.packed<S>(data<S>(out), data<S>(in)...), [&]<int V>() {
        const math::ChannelMap<Op, S, V> f{op,     {data<S>(in)...}, data<S>(out),
                                           r.rows, r.channels,       math::channel_workers(r.rows, r.channels / V)};
        for_each(context, f.indices(), f);
    });
}

/// The sums of an op a channel: join(chunks, partials) gives the second launch. `out` of an op that writes.
template <class S, class Op, class Join, class... In>
void channel_sums(Context& context, const Op& op, Join&& join, S* out, const In&... in) {
    static_assert(sizeof...(In) == Op::inputs);
    const Rows r(std::get<0>(std::tie(in...)));
    if (r.channels == 0) return;
    visit_lanes<S>(r.packed<S>(out, data<S>(in)...), [&]<int V>() {
        const auto g = math::ChannelChunks::of(r.rows, r.channels, V);
        const Tensor partial = scratch(context, {g.chunks, Op::sums, r.channels}, DType::f64);
        const math::ChannelSums<Op, S, V> f{op, g, g.columns, {data<S>(in)...}, out, data<double>(partial)};
        fold(context, g.blocks(), f);
        const auto second = join(g, data<double>(partial));
        fold(context, second.blocks(), second);
    });
}

/// Elements of a tensor that may be left out.
template <class T>
T* data_or_null(const Tensor& t) {
    return t.defined() ? data<T>(t) : nullptr;
}
template <class T>
math::NormParameters<T> norm_parameters(const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                                        const Tensor& inverse_std, const Tensor& slope) {
    return {data<T>(gamma), data<T>(beta), data<T>(mean), data<T>(inverse_std), data_or_null<T>(slope)};
}

/// Both gradients: first the sums, then dx.
template <bool train>
void batch_norm_dx(Context& context, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& beta,
                   const Tensor& mean, const Tensor& inverse_std, const Tensor& slope, const Tensor& dx,
                   const Tensor& dgamma, const Tensor& dbeta, const Tensor& dslope) {
    visit_storage(x.dtype(), "batch_norm", [&]<class S>() {
        math::visit_norm_gradient(slope.defined(), [&]<bool prelu>() {
            using T = math::Compute<S>;
            const auto p = norm_parameters<T>(gamma, beta, mean, inverse_std, slope);
            T *dg = data<T>(dgamma), *db = data<T>(dbeta), *ds = data_or_null<T>(dslope);
            const auto join = [&](const math::ChannelChunks& chunks, const double* partial) {
                if constexpr (prelu)
                    return math::JoinSums<T, 3>{chunks, partial, {db, dg, ds}, {nullptr, p.inverse_std, nullptr}};
                else
                    return math::JoinSums<T, 2>{chunks, partial, {db, dg}, {nullptr, p.inverse_std}};
            };
            channel_sums<S>(context, math::BatchNormSums<T, prelu>{p}, join, static_cast<S*>(nullptr), dy, x);
            const math::BatchNormGradient<T, prelu, train> op{p, dg, db, Rows(x).rows};
            if constexpr (op.inputs == 2)
                channel_map<S>(context, op, dx, dy, x);
            else
                channel_map<S>(context, op, dx, dy);
        });
    });
}

}  // namespace

void inverse_std(Context& context, const Tensor& variance, double epsilon, const Tensor& y) {
    visit_real(y.dtype(), "batch_norm", [&]<class T>() {
        for_each(context, y.numel(), math::InverseStd<T>{data<T>(variance), data<T>(y), epsilon});
    });
}

void batch_norm_eval(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                     const Tensor& inverse_std, const Tensor& slope, const Tensor& residual, const Tensor& y) {
    visit_storage(x.dtype(), "batch_norm", [&]<class S>() {
        math::visit_norm_tail(slope.defined(), residual.defined(), [&]<math::NormTail tail>() {
            using T = math::Compute<S>;
            const math::BatchNormApply<T, tail> op{norm_parameters<T>(gamma, beta, mean, inverse_std, slope)};
            if constexpr (op.inputs == 2)
                channel_map<S>(context, op, y, x, residual);
            else
                channel_map<S>(context, op, y, x);
        });
    });
}

void batch_norm_train(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon,
                      const Tensor& slope, const Tensor& residual, const Tensor& y, const Tensor& mean,
                      const Tensor& inverse_std, double momentum, const Tensor& running_mean,
                      const Tensor& running_var) {
    const Rows r(x);
    if (r.rows == 0) return;
    visit_storage(x.dtype(), "batch_norm", [&]<class S>() {
        using T = math::Compute<S>;
        const auto join = [&](const math::ChannelChunks& chunks, const double* partial) {
            return math::JoinStatistics<T>{chunks,
                                           partial,
                                           data<T>(mean),
                                           data<T>(inverse_std),
                                           data_or_null<T>(running_mean),
                                           data_or_null<T>(running_var),
                                           epsilon,
                                           momentum};
        };
        channel_sums<S>(context, math::BatchStatistics<S>{data<S>(x), r.channels}, join, static_cast<S*>(nullptr), x);
    });
    batch_norm_eval(context, x, gamma, beta, mean, inverse_std, slope, residual, y);
}

void batch_norm_train_dx(Context& context, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& beta,
                         const Tensor& mean, const Tensor& inverse_std, const Tensor& slope, const Tensor& dx,
                         const Tensor& dgamma, const Tensor& dbeta, const Tensor& dslope) {
    batch_norm_dx<true>(context, x, dy, gamma, beta, mean, inverse_std, slope, dx, dgamma, dbeta, dslope);
}

void batch_norm_eval_dx(Context& context, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& beta,
                        const Tensor& mean, const Tensor& inverse_std, const Tensor& slope, const Tensor& dx,
                        const Tensor& dgamma, const Tensor& dbeta, const Tensor& dslope) {
    batch_norm_dx<false>(context, x, dy, gamma, beta, mean, inverse_std, slope, dx, dgamma, dbeta, dslope);
}

void prelu(Context& context, const Tensor& x, const Tensor& slope, const Tensor& y) {
    visit_storage(x.dtype(), "prelu", [&]<class S>() {
        using T = math::Compute<S>;
        channel_map<S>(context, math::PRelu<T>{data<T>(slope)}, y, x);
    });
}

void prelu_dx(Context& context, const Tensor& x, const Tensor& slope, const Tensor& dy, const Tensor& dx,
              const Tensor& dslope) {
    visit_storage(x.dtype(), "prelu", [&]<class S>() {
        using T = math::Compute<S>;
        const auto join = [&](const math::ChannelChunks& chunks, const double* partial) {
            return math::JoinSums<T, 1>{chunks, partial, {data<T>(dslope)}, {nullptr}};
        };
        channel_sums<S>(context, math::PReluSums<T>{data<T>(slope)}, join, data<S>(dx), dy, x);
    });
}

}  // namespace bf::cuda
