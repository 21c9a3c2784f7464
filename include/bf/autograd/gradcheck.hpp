#pragma once
#include <cmath>
#include <string>

#include "bf/autograd/var.hpp"
#include "bf/base/random.hpp"

namespace bf {

/// How a gradient check runs.
struct GradcheckOptions {
    double step = 1e-5;       ///< of the central difference
    double tolerance = 1e-7;  ///< relative to the derivative along the direction, or absolute where that is below 1
    int directions = 3;       ///< random directions an input
    std::uint64_t seed = 7;
};

/// Outcome of a gradient check; `message` names the first input that failed.
struct GradcheckResult {
    bool ok = true;
    double worst = 0;  ///< largest relative error seen
    std::string message;
};

namespace detail {
inline Tensor random_like(const Tensor& x, Rng& rng) {
    Tensor t = Tensor::empty(x.shape(), x.options());
    for (double& v : t.span<double>()) v = static_cast<double>(rng.normal());
    return t;
}
inline double dot(const Tensor& a, const Tensor& b) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.numel(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
    return sum;
}
}  // namespace detail

/// Compares the backward pass of `f` with central differences in f64, by random projection: for random r and
/// directions v, d/dt (r . f(x + t v)) against (J^T r) . v. Inputs are f64 host tensors; f takes a vector of Var and
/// returns one Var (any shape). f must be smooth at the inputs: keep them away from kinks by more than the step.
template <class F>
GradcheckResult gradcheck(F&& f, const std::vector<Tensor>& inputs, const GradcheckOptions& options = {}) {
    Rng rng(options.seed, Stream::test);
    std::vector<Var> leaves;
    for (const Tensor& x : inputs) leaves.push_back(Var::leaf(x.clone()));
    const Var y = f(leaves);
    const Tensor r = detail::random_like(y.value(), rng);
    backward(y, r);

    GradcheckResult result;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
        for (int d = 0; d < options.directions && inputs[k].numel(); ++d) {
            const Tensor v = detail::random_like(inputs[k], rng);
            const double length = std::sqrt(detail::dot(v, v));
            auto shifted = [&](double t) {
                std::vector<Var> moved;
                for (std::size_t i = 0; i < inputs.size(); ++i) moved.emplace_back(inputs[i].clone());
                for (std::int64_t i = 0; i < v.numel(); ++i)
                    moved[k].value().data<double>()[i] += t / length * v.data<double>()[i];
                const NoGrad no_grad;
                return detail::dot(f(moved).value(), r);
            };
            const double numeric = (shifted(options.step) - shifted(-options.step)) / (2 * options.step);
            const double analytic = leaves[k].grad().defined() ? detail::dot(leaves[k].grad(), v) / length : 0;
            const double error = std::abs(numeric - analytic) / std::max({1.0, std::abs(numeric), std::abs(analytic)});
            result.worst = std::max(result.worst, error);
            if (!(error <= options.tolerance) && result.ok) {
                result.ok = false;
                result.message = concat("input ", k, " ", inputs[k].str(), ": directional derivative; got ", analytic,
                                        ", want ", numeric, " (relative error ", error, ")");
            }
        }
    }
    return result;
}

}  // namespace bf
