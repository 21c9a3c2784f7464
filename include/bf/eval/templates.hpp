#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "bf/core/parallel.hpp"
#include "bf/core/tensor.hpp"

namespace bf {

/// How image vectors become the vector of a template. The default is what InsightFace reports (its N1D1F1).
struct TemplateOptions {
    bool detector_weights = true;   ///< multiply each image vector by the detector's score (D1)
    bool normalise_images = false;  ///< scale image vectors to length 1 first, so that their norms do not weigh
};

/// Templates in the order of their ids, each with a vector of length 1.
struct Templates {
    std::vector<std::uint32_t> id;  ///< ascending
    Tensor features;                ///< [T, D] f64; a template without an image is all zeros and scores 0
    std::vector<char> empty;        ///< of each: no image of it was there

    /// Row of a template, or -1.
    std::int64_t row(std::uint32_t template_id) const {
        const auto at = std::lower_bound(id.begin(), id.end(), template_id);
        return at == id.end() || *at != template_id ? -1 : at - id.begin();
    }
};

/// Image vectors [n, D] f32 -> media: the mean over images of one medium in a template, a single image as it is ->
/// template: the sum over its media, scaled to length 1 (IJB's rule as InsightFace states it; sums here are f64 in the
/// order of media ids and images, there f32). `score`: detector scores, read with detector_weights alone. `present`:
/// images whose flag is 0 are left out of their medium; empty: all are there. A vector that is not finite is an Error.
inline Templates make_templates(const Tensor& images, std::span<const std::uint32_t> template_id,
                                std::span<const std::uint32_t> media_id, std::span<const float> score,
                                std::span<const char> present = {}, const TemplateOptions& options = {}) {
    const std::size_t n = template_id.size();
    BF_CHECK(images.rank() == 2 && images.dtype() == DType::f32 && images.dim(0) == static_cast<std::int64_t>(n) &&
                 media_id.size() == n && (present.empty() || present.size() == n) &&
                 (!options.detector_weights || score.size() == n),
             "make_templates", "counts differ; got image vectors ", images.str(), ", ", n, " template ids, ",
             media_id.size(), " media ids, ", score.size(), " scores, ", present.size(), " flags");
    const std::int64_t dim = images.dim(1);
    std::vector<std::uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
        return template_id[a] != template_id[b] ? template_id[a] < template_id[b]
               : media_id[a] != media_id[b]     ? media_id[a] < media_id[b]
                                                : a < b;
    });
    Templates out;
    std::vector<std::size_t> begin;
    for (std::size_t i = 0; i < n; ++i)
        if (i == 0 || template_id[order[i]] != out.id.back()) {
            out.id.push_back(template_id[order[i]]);
            begin.push_back(i);
        }
    begin.push_back(n);
    const auto count = static_cast<std::int64_t>(out.id.size());
    out.features = Tensor::zeros({count, dim}, {.dtype = DType::f64});
    out.empty.assign(out.id.size(), 1);
    const float* from = images.data<float>();
    double* to = out.features.data<double>();
    parallel_for(count, 16, [&](std::int64_t first, std::int64_t last) {
        std::vector<double> medium(static_cast<std::size_t>(dim));
        for (std::int64_t t = first; t < last; ++t) {
            double* sum = to + t * dim;
            const auto at = static_cast<std::size_t>(t);
            for (std::size_t i = begin[at]; i < begin[at + 1];) {
                std::fill(medium.begin(), medium.end(), 0.0);
                std::int64_t together = 0;
                const std::uint32_t id = media_id[order[i]];
                for (; i < begin[at + 1] && media_id[order[i]] == id; ++i) {
                    const std::uint32_t image = order[i];
                    if (!present.empty() && !present[image]) continue;
                    const float* v = from + static_cast<std::int64_t>(image) * dim;
                    double squares = 0;
                    for (std::int64_t d = 0; d < dim; ++d)
                        squares += static_cast<double>(v[d]) * static_cast<double>(v[d]);
                    if (!std::isfinite(squares))
                        fail(ErrorCode::data, "make_templates", "image vector ", image,
                             " is not finite; hint: did the network diverge?");
                    double weight = options.detector_weights ? static_cast<double>(score[image]) : 1;
                    if (options.normalise_images && squares > 0) weight /= std::sqrt(squares);
                    for (std::int64_t d = 0; d < dim; ++d)
                        medium[static_cast<std::size_t>(d)] += weight * static_cast<double>(v[d]);
                    ++together;
                }
                if (together == 0) continue;
                out.empty[at] = 0;
                for (std::int64_t d = 0; d < dim; ++d)
                    sum[d] += medium[static_cast<std::size_t>(d)] / static_cast<double>(together);
            }
            double squares = 0;
            for (std::int64_t d = 0; d < dim; ++d) squares += sum[d] * sum[d];
            if (squares > 0)
                for (std::int64_t d = 0; d < dim; ++d) sum[d] /= std::sqrt(squares);
        }
    });
    return out;
}

}  // namespace bf
