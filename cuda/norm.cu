#include "bf/math/channels.hpp"
#include "fold.cuh"

// Batch norm and PReLU over rows [M, C]. Sums a channel take two launches: chunks of rows, then a join in f64.

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
    const Rows r(out);
    if (r.rows == 0 || r.channels == 0) return;
    visit_lanes<S>(r.packed<S>(data<S>(out), data<S>(in)...), [&]<int V>() {
        const math::ChannelMap<Op, S, V, static_cast<int>(sizeof...(In))> f{
            op, {data<S>(in)...}, data<S>(out), r.rows, r.channels, math::channel_workers(r.rows, r.channels / V)};
        for_each(context, f.indices(), f);
    });
}

/// Two sums a channel: join(chunks, partials) runs the second launch.
template <class S, class Op, class Join>
void channel_sums(Context& context, const Rows& r, bool packed, const Op& op, Join&& join) {
    if (r.channels == 0) return;
    visit_lanes<S>(packed, [&]<int V>() {
        const auto g = math::ChannelChunks::of(r.rows, r.channels, V);
        const Tensor partial = scratch(context, {g.chunks, 2, r.channels}, DType::f64);
        fold(context, g.blocks(), math::ChannelSums<Op, S, V>{op, g, g.columns, data<double>(partial)});
        const auto second = join(g, data<double>(partial));
        fold(context, second.blocks(), second);
    });
}

/// Gradients of gamma and beta.
template <class S>
void batch_norm_sums(Context& context, const Tensor& x, const Tensor& dy, const Tensor& mean, const Tensor& inverse_std,
                     const Tensor& dgamma, const Tensor& dbeta) {
    using T = math::Compute<S>;
    const Rows r(x);
    const S *in = data<S>(x), *g = data<S>(dy);
    channel_sums<S>(
        context, r, r.packed<S>(in, g), math::BatchNormSums<S>{in, g, data<T>(mean)},
        [&](const math::ChannelChunks& chunks, const double* partial) {
            return math::JoinSums<T>{chunks, partial, data<T>(dbeta), data<T>(dgamma), data<T>(inverse_std)};
        });
}

}  // namespace

void inverse_std(Context& context, const Tensor& variance, double epsilon, const Tensor& y) {
    visit_real(y.dtype(), "batch_norm", [&]<class T>() {
        for_each(context, y.numel(), math::InverseStd<T>{data<T>(variance), data<T>(y), epsilon});
    });
}

void batch_norm_eval(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                     const Tensor& inverse_std, const Tensor& y) {
    visit_storage(x.dtype(), "batch_norm", [&]<class S>() {
        using T = math::Compute<S>;
        channel_map<S>(
            context, math::BatchNormApply<T>{data<T>(gamma), data<T>(beta), data<T>(mean), data<T>(inverse_std)}, y, x);
    });
}

void batch_norm_train(Context& context, const Tensor& x, const Tensor& gamma, const Tensor& beta, double epsilon,
                      const Tensor& y, const Tensor& mean, const Tensor& inverse_std, double momentum,
                      const Tensor& running_mean, const Tensor& running_var) {
    const Rows r(x);
    if (r.rows == 0) return;
    visit_storage(x.dtype(), "batch_norm", [&]<class S>() {
        using T = math::Compute<S>;
        const S* in = data<S>(x);
        channel_sums<S>(context, r, r.packed<S>(in), math::BatchStatistics<S>{in, r.channels},
                        [&](const math::ChannelChunks& chunks, const double* partial) {
                            const bool running = running_mean.defined();
                            return math::JoinStatistics<T>{chunks,
                                                           partial,
                                                           data<T>(mean),
                                                           data<T>(inverse_std),
                                                           running ? data<T>(running_mean) : nullptr,
                                                           running ? data<T>(running_var) : nullptr,
                                                           epsilon,
                                                           momentum};
                        });
    });
    batch_norm_eval(context, x, gamma, beta, mean, inverse_std, y);
}

void batch_norm_train_dx(Context& context, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& mean,
                         const Tensor& inverse_std, const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
    visit_storage(x.dtype(), "batch_norm", [&]<class S>() {
        using T = math::Compute<S>;
        batch_norm_sums<S>(context, x, dy, mean, inverse_std, dgamma, dbeta);
        channel_map<S>(context,
                       math::BatchNormTrainGradient<T>{data<T>(gamma), data<T>(mean), data<T>(inverse_std),
                                                       data<T>(dgamma), data<T>(dbeta), Rows(x).rows},
                       dx, x, dy);
    });
}

void batch_norm_eval_dx(Context& context, const Tensor& x, const Tensor& dy, const Tensor& gamma, const Tensor& mean,
                        const Tensor& inverse_std, const Tensor& dx, const Tensor& dgamma, const Tensor& dbeta) {
    visit_storage(x.dtype(), "batch_norm", [&]<class S>() {
        using T = math::Compute<S>;
        batch_norm_sums<S>(context, x, dy, mean, inverse_std, dgamma, dbeta);
        channel_map<S>(context, math::BatchNormEvalGradient<T>{data<T>(gamma), data<T>(inverse_std)}, dx, dy);
    });
}

void prelu(Context& context, const Tensor& x, const Tensor& slope, const Tensor& y) {
    visit_storage(x.dtype(), "prelu", [&]<class S>() {
        channel_map<S>(context, math::PRelu<math::Compute<S>>{data<math::Compute<S>>(slope)}, y, x);
    });
}

void prelu_dx(Context& context, const Tensor& x, const Tensor& slope, const Tensor& dy, const Tensor& dx,
              const Tensor& dslope) {
    visit_storage(x.dtype(), "prelu", [&]<class S>() {
        using T = math::Compute<S>;
        const Rows r(x);
        const S *in = data<S>(x), *g = data<S>(dy);
        S* d = data<S>(dx);
        channel_sums<S>(context, r, r.packed<S>(in, g, d), math::PReluSums<S>{in, g, data<T>(slope), d},
                        [&](const math::ChannelChunks& chunks, const double* partial) {
                            return math::JoinSums<T>{chunks, partial, data<T>(dslope), nullptr, nullptr};
                        });
    });
}

}  // namespace bf::cuda
