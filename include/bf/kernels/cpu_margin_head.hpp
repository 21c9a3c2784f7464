#pragma once
#include "bf/core/parallel.hpp"
#include "bf/kernels/classifier.hpp"
#include "bf/kernels/context.hpp"
#include "bf/kernels/visit.hpp"

// CPU: heads that set a margin for each row; the rules are math/margin_head.hpp's. Sums run in the order of the rows.

namespace bf::cpu {

/// |x| of a row from its inverse.
template <class T>
double norm_of(T inverse_norm) {
    return 1 / static_cast<double>(inverse_norm);
}

inline void head_margins(Context&, const HeadRule& rule, const Margin& margin, bool batch, const ClassifierRows& rows,
                         const Tensor& norms, const Tensor& calls) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        const std::int64_t count = rows.count();
        const T* inverse = rows.inverse_norm.data<T>();
        T *m2 = rows.m2.data<T>(), *m3 = rows.m3.data<T>();
        math::NormStatistics s{norms.data<double>()[0], norms.data<double>()[1]};
        if (batch) {
            ++*calls.data<std::int64_t>();
            if (rule.kind == HeadKind::adaface) {
                double mean = 0, squares = 0;
                for (std::int64_t r = 0; r < count; ++r) mean += math::safe_norm(norm_of(inverse[r]));
                mean /= static_cast<double>(count);
                for (std::int64_t r = 0; r < count; ++r) {
                    const double off = math::safe_norm(norm_of(inverse[r])) - mean;
                    squares += off * off;
                }
                s = math::moved(rule, s, mean, squares, count);
                norms.data<double>()[0] = s.mean;
                norms.data<double>()[1] = s.deviation;
            }
        }
        const auto call = static_cast<std::uint64_t>(*calls.data<std::int64_t>());
        parallel_for(count, 1024, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
                const std::uint64_t draw = static_cast<std::uint64_t>(r) + (batch ? 0 : math::memory_draws);
                const math::RowMargins own = math::row_margins(rule, margin, norm_of(inverse[r]), s, call, draw);
                m2[r] = static_cast<T>(own.m2);
                m3[r] = static_cast<T>(own.m3);
            }
        });
    });
}

inline void head_radial(Context&, const HeadRule& rule, const Margin& margin, double scale, const ClassifierRows& rows,
                        const Tensor& cosine, const Tensor& penalty) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        double total = 0;
        for (std::int64_t r = 0; r < rows.count(); ++r) {
            const double probability =
                static_cast<double>(std::exp(rows.target_logit.data<T>()[r] - rows.log_sum_exp.data<T>()[r]));
            const math::RadialRow row =
                math::radial_row(rule, own_margin<T>(margin, rows, r), scale, norm_of(rows.inverse_norm.data<T>()[r]),
                                 static_cast<double>(cosine.data<T>()[r]), probability);
            rows.radial.data<T>()[r] = static_cast<T>(row.slope);
            total += row.penalty;
        }
        *penalty.data<T>() = static_cast<T>(total);
    });
}

/// dx += row_weight seed radial x / |x|, row by row.
inline void add_radial(Context&, const ClassifierRows& rows, double row_weight, const Tensor& seed, const Tensor& dx) {
    visit_real(rows.x.dtype(), "margin_softmax", [&]<class T>() {
        const math::AddRadial<T> add{rows.x.dim(1),
                                     rows.x.data<T>(),
                                     rows.inverse_norm.data<T>(),
                                     rows.radial.data<T>(),
                                     static_cast<T>(row_weight * seed.item()),
                                     dx.data<T>()};
        parallel_for(dx.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) add(i);
        });
    });
}

}  // namespace bf::cpu
