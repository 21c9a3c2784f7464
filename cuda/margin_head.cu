#include "bf/kernels/visit.hpp"
#include "bf/math/margin_head.hpp"
#include "elements.cuh"
#include "kernels.hpp"

// Heads that set a margin for each row: the rules of bf/math/margin_head.hpp, O(rows) work in one block, so that sums
// have a fixed order and the state of a head moves on the device.

namespace bf::cuda {

namespace {

constexpr int head_threads = 1024, lanes_of_warp = 32;

/// The sum over the block, given to all of its threads; `shared`: one value a warp.
__device__ double block_sum(double value, double* shared) {
    for (int step = lanes_of_warp / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    __syncthreads();  // of a sum before this one
    if (threadIdx.x % lanes_of_warp == 0) shared[threadIdx.x / lanes_of_warp] = value;
    __syncthreads();
    double all = 0;
    for (int i = 0; i < head_threads / lanes_of_warp; ++i) all += shared[i];
    return all;
}

template <class T>
__global__ void __launch_bounds__(head_threads)
    head_margins_kernel(HeadRule rule, Margin margin, bool batch, std::int64_t rows, const T* inverse_norm, T* m2,
                        T* m3, double* norms, std::int64_t* calls) {
    __shared__ double sums[head_threads / lanes_of_warp];
    math::NormStatistics s{norms[0], norms[1]};
    const std::int64_t call = *calls + (batch ? 1 : 0);
    if (batch && rule.kind == HeadKind::adaface) {
        double mean = 0, squares = 0;
        for (std::int64_t r = threadIdx.x; r < rows; r += head_threads)
            mean += math::safe_norm(1 / static_cast<double>(inverse_norm[r]));
        mean = block_sum(mean, sums) / static_cast<double>(rows);
        for (std::int64_t r = threadIdx.x; r < rows; r += head_threads) {
            const double off = math::safe_norm(1 / static_cast<double>(inverse_norm[r])) - mean;
            squares += off * off;
        }
        s = math::moved(rule, s, mean, block_sum(squares, sums), rows);
    }
    __syncthreads();  // all have read the state
    if (batch && threadIdx.x == 0) {
        norms[0] = s.mean;
        norms[1] = s.deviation;
        *calls = call;
    }
    for (std::int64_t r = threadIdx.x; r < rows; r += head_threads) {
        const auto draw = static_cast<std::uint64_t>(r) + (batch ? 0 : math::memory_draws);
        const math::RowMargins own = math::row_margins(rule, margin, 1 / static_cast<double>(inverse_norm[r]), s,
                                                       static_cast<std::uint64_t>(call), draw);
        m2[r] = static_cast<T>(own.m2);
        m3[r] = static_cast<T>(own.m3);
    }
}

template <class T>
__global__ void __launch_bounds__(head_threads)
    head_radial_kernel(HeadRule rule, Margin margin, double scale, std::int64_t rows, const T* inverse_norm,
                       const T* m2, const T* m3, const T* cosine, const T* target_logit, const T* log_sum_exp,
                       T* radial, T* penalty) {
    __shared__ double sums[head_threads / lanes_of_warp];
    double total = 0;
    for (std::int64_t r = threadIdx.x; r < rows; r += head_threads) {
        const Margin own = margin.with(static_cast<double>(m2[r]), static_cast<double>(m3[r]));
        const math::RadialRow row =
            math::radial_row(rule, own, scale, 1 / static_cast<double>(inverse_norm[r]), static_cast<double>(cosine[r]),
                             static_cast<double>(std::exp(target_logit[r] - log_sum_exp[r])));
        radial[r] = static_cast<T>(row.slope);
        total += row.penalty;
    }
    total = block_sum(total, sums);
    if (threadIdx.x == 0) *penalty = static_cast<T>(total);
}

/// AddRadial, whose weight the seed multiplies on the device.
template <class T>
struct AddSeededRadial {
    math::AddRadial<T> add;
    const T* seed;
    BF_HD void operator()(std::int64_t i) const {
        math::AddRadial<T> weighted = add;
        weighted.weight *= *seed;
        weighted(i);
    }
};

}  // namespace

void head_margins(Context& context, const HeadRule& rule, const Margin& margin, bool batch, const ClassifierRows& rows,
                  const Tensor& norms, const Tensor& calls) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        launch_kernel(context, head_margins_kernel<T>, 1, head_threads, rule, margin, batch, rows.count(),
                      data<T>(rows.inverse_norm), data<T>(rows.m2), data<T>(rows.m3), data<double>(norms),
                      indices(calls));
        BF_CUDA(cudaGetLastError(), "rows ", rows.count());
    });
}

void head_radial(Context& context, const HeadRule& rule, const Margin& margin, double scale, const ClassifierRows& rows,
                 const Tensor& cosine, const Tensor& penalty) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        launch_kernel(context, head_radial_kernel<T>, 1, head_threads, rule, margin, scale, rows.count(),
                      data<T>(rows.inverse_norm), data<T>(rows.m2), data<T>(rows.m3), data<T>(cosine),
                      data<T>(rows.target_logit), data<T>(rows.log_sum_exp), data<T>(rows.radial), data<T>(penalty));
        BF_CUDA(cudaGetLastError(), "rows ", rows.count());
    });
}

void add_radial(Context& context, const ClassifierRows& rows, double row_weight, const Tensor& seed, const Tensor& dx) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        for_each(context, dx.numel(),
                 AddSeededRadial<T>{{rows.x.dim(1), data<T>(rows.x), data<T>(rows.inverse_norm), data<T>(rows.radial),
                                     static_cast<T>(row_weight), data<T>(dx)},
                                    data<T>(seed)});
    });
}

}  // namespace bf::cuda
