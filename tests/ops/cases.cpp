#include "cases.hpp"

#include <cmath>

#include "bf/ops/conv.hpp"
#include "bf/ops/linalg.hpp"
#include "bf/ops/memory.hpp"
#include "bf/ops/norm.hpp"
#include "bf/ops/pointwise.hpp"
#include "bf/ops/pool.hpp"
#include "bf/ops/reduce.hpp"

// The table of proofs: an op without a row fails the suite (ops_test.cpp holds the list of names).

namespace bf::proof {
namespace {

using In = const std::vector<Var>&;

/// On the device of `like`, as running() below.
Tensor labels(const std::vector<std::int64_t>& values, const Var& like) {
    return Tensor::from<std::int64_t>(values, {static_cast<std::int64_t>(values.size())}).to(like.value().device());
}

/// Statistics beside parameters: of the dtype of gamma.
Tensor running(std::int64_t channels, double value, const Var& gamma) {
    return full({channels}, value, gamma.value().dtype(), gamma.value().device());
}

// No bf16 on a device: its kernels for reductions and for softmax and norms of rows sum in the dtype of the tensor.
Case no_bf16(Case c) {
    c.bf16 = Bf16::none;
    return c;
}
/// Images or rows in bf16, parameters in f32.
Case first_in_bf16(Case c) {
    c.bf16 = Bf16::first;
    return c;
}

/// x scaled down beside 3 or 1 by turns, so that a batch norm with gamma and beta made by near() stays away from 0.
Var parted(const Var& x) {
    Tensor side =
        Tensor::empty(x.shape(), {.dtype = DType::f64});  // [M, C] or N, C, H, W: neighbours in a channel differ
    const std::int64_t inner = x.shape().rank() == 4 ? x.shape()[2] * x.shape()[3] : 1;
    for (std::int64_t i = 0; i < side.numel(); ++i)
        side.data<double>()[i] = (i / inner / x.shape()[1] + i % inner) % 2 ? 1 : 3;
    return add(affine(x, 0.05, 0), Var(converted(side, x.value().dtype(), x.value().format()).to(x.value().device())));
}
Var near(const Var& x, double center) { return affine(x, 0.1, center); }

/// Batch norm and PReLU in one pass. PReLU has a kink where the norm is 0: no element may come near it.
Var norm_prelu(In in, bool train) {
    const Var x = parted(in[0]), gamma = near(in[1], 1), beta = near(in[2], 0);
    const std::int64_t c = x.shape()[1];
    const Tensor mean = running(c, 2.1, gamma), var = running(c, 1.5, gamma);
    const auto norm = [&](const BatchNormFusion& fusion) {
        return train ? batch_norm_train(x, gamma, beta, Tensor(), Tensor(), 0.1, 1e-5, fusion)
                     : batch_norm_eval(x, gamma, beta, mean, var, 1e-5, fusion);
    };
    const Tensor v = converted(norm({}).value().to(cpu_device), DType::f64, Format::plain);
    for (std::int64_t i = 0; i < v.numel(); ++i)
        BF_CHECK(std::abs(v.data<double>()[i]) > 0.01, "row", "too near PReLU's kink; got ", v.data<double>()[i]);
    return norm({.slope = in[3]});
}
Var norm_add(In in, bool train) {
    const std::int64_t c = in[0].shape()[1];
    return train ? batch_norm_train(in[0], in[1], in[2], Tensor(), Tensor(), 0.1, 1e-5, {.residual = in[3]})
                 : batch_norm_eval(in[0], in[1], in[2], running(c, 0.3, in[1]), running(c, 2, in[1]), 1e-5,
                                   {.residual = in[3]});
}

/// A constant [rows, cols] of the same numbers at each call, on the device and in the dtype of `like`.
Tensor past(std::int64_t rows, std::int64_t cols, const Var& like) {
    Tensor t = Tensor::empty({rows, cols}, {.dtype = DType::f64});
    Rng rng(7, Stream::test, 31);
    for (double& v : t.span<double>()) v = static_cast<double>(rng.normal());
    return converted(t, like.value().dtype(), Format::plain).to(like.value().device());
}
std::vector<std::int64_t> counted(std::int64_t n, std::int64_t classes) {
    std::vector<std::int64_t> values;
    for (std::int64_t i = 0; i < n; ++i) values.push_back((3 * i + i / classes) % classes);
    return values;
}
/// Pairs of a batch with a memory of `held` rows, `block` at a time.
Var pairs(In in, std::int64_t held, const ContrastiveOptions& options, std::int64_t self = -1) {
    const std::int64_t classes = 4;
    return contrastive_pairs(in[0], labels(counted(in[0].shape()[0], classes), in[0]),
                             {past(held, in[0].shape()[1], in[0]), labels(counted(held, classes), in[0]), self},
                             options);
}
/// Classes 0 and 3 have new rows in a ring of 5, class 1 an old one, the others none.
Var mixed(In in, double lambda) {
    std::vector<std::int64_t> newest(static_cast<std::size_t>(in[0].shape()[0]), -1);
    newest[0] = 14;
    if (newest.size() > 3) newest[1] = 10, newest[3] = 12;
    return mix_prototypes(in[0], {past(5, in[0].shape()[1], in[0]), labels(newest, in[0]), 11}, lambda);
}

// clang-format off
std::vector<Case> make_cases() {
    const Shape odd{3, 5, 7}, one{1}, empty{0, 4};
    const Format nhwc = Format::nhwc;
    std::vector<Case> rows;
    auto row = [&](Case c) { rows.push_back(std::move(c)); };

    // pointwise: one row an op follows from the list; kinks are stepped around
#define BF_ROW(name, Functor)                                                                           \
    row({#name, "odd", {{odd, Unary::name == Unary::log || Unary::name == Unary::sqrt ? Draw::positive  \
                                                                                      : Draw::away_from_zero}}, \
         [](In x) { return Unary::name == Unary::clamp ? name(x[0], -1.05, 1.05) : name(x[0], 1.5, 0.25); }});
    BF_UNARY_OPS(BF_ROW)
#undef BF_ROW
    row({"relu", "size 1", {{one, Draw::away_from_zero}}, [](In x) { return relu(x[0]); }});
    row({"relu", "empty", {{empty}}, [](In x) { return relu(x[0]); }, 1e-5, 1e-5, false});
#define BF_ROW(name, Functor) \
    row({#name, "odd", {{odd}, {odd, Draw::positive}}, [](In x) { return name(x[0], x[1]); }});
    BF_BINARY_OPS(BF_ROW)
#undef BF_ROW
    row({"add", "one tensor twice", {{odd}}, [](In x) { return add(x[0], x[0]); }});
    row({"add", "nhwc and plain", {{{2, 3, 4, 5}, Draw::normal, nhwc}, {{2, 3, 4, 5}}}, [](In x) { return add(x[0], x[1]); }});
    row({"mul", "one tensor twice", {{odd}}, [](In x) { return mul(x[0], x[0]); }});
    row({"dropout", "odd", {{odd}}, [](In x) { return dropout(x[0], 0.4, 11, 3); }});

    // reductions: one row an op and kind follows from the list
#define BF_ROW(name, Functor)                                                                      \
    row(no_bf16({#name, "all", {{odd, Draw::distinct}}, [](In x) { return name(x[0]); }}));                  \
    row(no_bf16({#name, "first axis", {{odd, Draw::distinct}}, [](In x) { return name(x[0], 0); }}));        \
    row(no_bf16({#name, "middle axis", {{odd, Draw::distinct}}, [](In x) { return name(x[0], 1); }}));       \
    row(no_bf16({#name, "last axis", {{odd, Draw::distinct}}, [](In x) { return name(x[0], -1); }}));        \
    row(no_bf16({#name, "size 1", {{one, Draw::distinct}}, [](In x) { return name(x[0]); }}));
    BF_REDUCE_OPS(BF_ROW)
#undef BF_ROW
    row(no_bf16({"sum", "nhwc axis", {{{2, 3, 4, 5}, Draw::normal, nhwc}}, [](In x) { return sum(x[0], 1); }}));
    row(no_bf16({"sum", "long", {{{200000}, Draw::positive}}, [](In x) { return sum(x[0]); }}));

    // shapes
    row({"reshape", "odd", {{odd}}, [](In x) { return square(reshape(x[0], {7, 15})); }});
    row({"flatten", "nhwc", {{{2, 3, 4, 5}, Draw::normal, nhwc}}, [](In x) { return square(flatten(x[0])); }});
    row({"cast", "to f64 and back", {{odd}}, [](In x) { return cast(square(cast(x[0], DType::f64)), x[0].value().dtype()); }});
    row({"to_format", "to nhwc", {{{2, 3, 4, 5}}}, [](In x) { return square(to_format(x[0], Format::nhwc)); }});
    row({"to_format", "wide", {{{1, 70, 5, 9}}}, [](In x) { return square(to_format(x[0], Format::nhwc)); }});
    row({"gather_rows", "repeated", {{{4, 3}}}, [](In x) { return square(gather_rows(x[0], labels({2, 0, 2, 3, 2}, x[0]))); }});
    row({"gather_rows", "empty index", {{{4, 3}}}, [](In x) { return gather_rows(x[0], labels({}, x[0])); }, 1e-5, 1e-5, false});

    // matrices
    row({"matmul", "odd", {{{5, 7}}, {{7, 3}}}, [](In x) { return matmul(x[0], x[1]); }});
    row({"matmul", "several blocks", {{{70, 9}}, {{9, 130}}}, [](In x) { return matmul(x[0], x[1]); }});
    row({"matmul", "size 1", {{{1, 1}}, {{1, 1}}}, [](In x) { return matmul(x[0], x[1]); }});
    row(no_bf16({"linear", "bias", {{{5, 7}}, {{3, 7}}, {{3}}}, [](In x) { return linear(x[0], x[1], x[2]); }}));
    row({"linear", "no bias", {{{130, 7}}, {{3, 7}}}, [](In x) { return linear(x[0], x[1]); }});
    row(no_bf16({"linear", "no rows", {{{0, 7}}, {{3, 7}}, {{3}}}, [](In x) { return linear(x[0], x[1], x[2]); }, 1e-5, 1e-5, false}));
    row(no_bf16({"normalize_rows", "odd", {{{5, 7}}}, [](In x) { return normalize_rows(x[0]); }}));
    row(no_bf16({"normalize_rows", "size 1", {{{1, 1}, Draw::positive}}, [](In x) { return normalize_rows(x[0]); }}));
    row(no_bf16({"softmax_cross_entropy", "odd", {{{4, 7}}}, [](In x) { return softmax_cross_entropy(x[0], labels({6, 0, 3, 3}, x[0])); }}));
    row(no_bf16({"softmax_cross_entropy", "one class", {{{2, 1}}}, [](In x) { return softmax_cross_entropy(x[0], labels({0, 0}, x[0])); }}));

    // memories
    row(no_bf16({"contrastive_pairs", "odd", {{{5, 3}}}, [](In x) { return pairs(x, 11, {.margin = 0.2, .weight = 0.7}); }}));
    row(no_bf16({"contrastive_pairs", "several blocks", {{{7, 5}}}, [](In x) { return pairs(x, 23, {.batch_total = 10, .block = 4}); }}));
    row(no_bf16({"contrastive_pairs", "rows left out", {{{7, 5}}}, [](In x) { return pairs(x, 13, {.margin = -0.5, .block = 5}, 3); }}));
    row(no_bf16({"contrastive_pairs", "long rows", {{{3, 300}}}, [](In x) { return pairs(x, 700, {.margin = 0.01}); }}));
    row(no_bf16({"contrastive_pairs", "size 1", {{{1, 1}, Draw::positive}}, [](In x) { return pairs(x, 1, {}); }}));
    row(no_bf16({"contrastive_pairs", "no memory", {{{3, 4}}}, [](In x) { return pairs(x, 0, {}); }, 1e-5, 1e-5, false}));
    row(no_bf16({"mix_prototypes", "odd", {{{6, 7}}}, [](In x) { return mixed(x, 0.15); }}));
    row(no_bf16({"mix_prototypes", "long rows", {{{5, 300}}}, [](In x) { return mixed(x, 0.6); }}));
    row(no_bf16({"mix_prototypes", "size 1", {{{1, 1}, Draw::positive}}, [](In x) { return mixed(x, 0.15); }}));

    // images
    auto conv = [&](const std::string& note, Shape x, Shape w, Conv2dOptions o, Format format = Format::nhwc) {
        row(first_in_bf16({"conv2d", note, {{x, Draw::normal, format}, {w}}, [o](In v) { return conv2d(v[0], v[1], o); }, 2e-5, 1e-3}));
    };
    conv("3x3", {2, 3, 7, 6}, {4, 3, 3, 3}, {.pad = 1});
    conv("3x3 plain input", {2, 3, 7, 6}, {4, 3, 3, 3}, {.pad = 1}, Format::plain);
    conv("3x3 stride 2", {2, 5, 7, 8}, {4, 5, 3, 3}, {.stride = 2, .pad = 1});
    conv("3x3 winograd", {2, 16, 9, 10}, {17, 16, 3, 3}, {.pad = 1, .algorithm = ConvAlgorithm::winograd});
    conv("3x3 stride 2 wide", {2, 70, 5, 6}, {5, 70, 3, 3}, {.stride = 2, .pad = 1});
    conv("1x1 stride 2", {2, 5, 7, 8}, {4, 5, 1, 1}, {.stride = 2});
    conv("1x1", {2, 5, 4, 3}, {6, 5, 1, 1}, {});
    conv("7x7 pad 3", {1, 3, 9, 9}, {2, 3, 7, 7}, {.stride = 2, .pad = 3});
    conv("groups", {2, 6, 5, 5}, {4, 3, 3, 3}, {.pad = 1, .groups = 2});
    conv("small groups", {2, 6, 5, 5}, {6, 2, 3, 3}, {.pad = 1, .groups = 3});
    conv("depthwise", {2, 6, 5, 5}, {6, 1, 3, 3}, {.pad = 1, .groups = 6});
    conv("size 1", {1, 1, 1, 1}, {1, 1, 1, 1}, {});
    row(first_in_bf16({"conv2d", "no images", {{{0, 3, 5, 5}, Draw::normal, nhwc}, {{4, 3, 3, 3}}}, [](In v) { return conv2d(v[0], v[1], {.pad = 1}); }, 1e-5, 1e-5, false}));

    row(first_in_bf16({"batch_norm_train", "image", {{{3, 5, 4, 3}, Draw::normal, nhwc}, {{5}}, {{5}}},
         [](In x) { return batch_norm_train(x[0], x[1], x[2], running(5, 0, x[1]), running(5, 1, x[1])); }, 1e-4}));
    row(first_in_bf16({"batch_norm_train", "rows", {{{9, 5}}, {{5}}, {{5}}},
         [](In x) { return batch_norm_train(x[0], x[1], x[2], Tensor(), Tensor()); }, 1e-4}));
    row(first_in_bf16({"batch_norm_train", "several chunks", {{{90, 190}}, {{190}}, {{190}}},
         [](In x) { return batch_norm_train(x[0], x[1], x[2], Tensor(), Tensor()); }, 1e-4}));
    row(first_in_bf16({"batch_norm_eval", "image", {{{3, 5, 4, 3}, Draw::normal, nhwc}, {{5}}, {{5}}},
         [](In x) { return batch_norm_eval(x[0], x[1], x[2], running(5, 0.3, x[1]), running(5, 2, x[1])); }, 1e-4}));
    row(first_in_bf16({"batch_norm_eval", "one row", {{{1, 5}}, {{5}}, {{5}}},
         [](In x) { return batch_norm_eval(x[0], x[1], x[2], running(5, 0.3, x[1]), running(5, 2, x[1])); }, 1e-4}));
    const auto fused = [&](const std::string& note, Shape x, Format format, Format other, double step = 1e-5, bool gradient = true) {
        const Shape c{x[1]};
        for (const bool train : {true, false}) {
            if (train && x.numel() / std::max<std::int64_t>(1, x[1]) < 2) continue;  // training wants two values a channel
            const std::string op = train ? "batch_norm_train" : "batch_norm_eval";
            Case kinked = first_in_bf16({op, "prelu, " + note, {{x, Draw::normal, format}, {c}, {c}, {c}},
                 [=](In v) { return norm_prelu(v, train); }, 1e-4, step, gradient});
            kinked.bf16_tolerance = 4e-2;  // parted() rounds once more: a fifth of the spread that the norm scales up
            row(kinked);
            Case sum{op, "add, " + note, {{x, Draw::normal, format}, {c}, {c}, {x, Draw::normal, other}},
                 [=](In v) { return norm_add(v, train); }, 1e-4, step, gradient};
            sum.bf16 = Bf16::like_first;
            row(sum);
        }
    };
    fused("image", {3, 5, 4, 3}, nhwc, nhwc);
    fused("plain image, residual nhwc", {3, 5, 4, 3}, Format::plain, nhwc);
    fused("nhwc image, plain residual", {2, 7, 3, 5}, nhwc, Format::plain);
    fused("rows", {9, 5}, Format::plain, Format::plain);
    fused("several chunks", {90, 190}, Format::plain, Format::plain, 1e-4);
    fused("whole packs", {4, 16, 3, 2}, nhwc, nhwc);  // 16 bytes of channels a thread, in each dtype
    fused("whole packs, several strips and chunks", {40, 264}, Format::plain, Format::plain, 1e-4);
    fused("one channel", {2, 1}, Format::plain, Format::plain);
    fused("size 1", {1, 1}, Format::plain, Format::plain);
    fused("empty", {0, 5, 4, 3}, nhwc, nhwc, 1e-5, false);
    row(first_in_bf16({"batch_norm_train", "add, x itself", {{{3, 5, 4, 3}, Draw::normal, nhwc}, {{5}}, {{5}}},
         [](In v) { return norm_add({v[0], v[1], v[2], v[0]}, true); }, 1e-4}));
    row(first_in_bf16({"batch_norm_eval", "empty", {{{0, 5, 4, 3}, Draw::normal, nhwc}, {{5}}, {{5}}},
         [](In v) { return batch_norm_eval(v[0], v[1], v[2], running(5, 0.3, v[1]), running(5, 2, v[1])); }, 1e-4, 1e-5, false}));
    row(first_in_bf16({"prelu", "image", {{{3, 5, 4, 3}, Draw::away_from_zero, nhwc}, {{5}}}, [](In x) { return prelu(x[0], x[1]); }}));
    row(first_in_bf16({"prelu", "rows", {{{4000, 9}, Draw::away_from_zero}, {{9}}}, [](In x) { return prelu(x[0], x[1]); }}));

    row({"max_pool2d", "3 by 2, pad 1", {{{2, 3, 7, 6}, Draw::distinct, nhwc}},
         [](In x) { return max_pool2d(x[0], {.kernel = 3, .stride = 2, .pad = 1}); }});
    row(first_in_bf16({"prelu", "whole packs", {{{70, 16}, Draw::away_from_zero}, {{16}}}, [](In x) { return prelu(x[0], x[1]); }}));
    row({"max_pool2d", "whole packs", {{{2, 16, 5, 4}, Draw::distinct, nhwc}},
         [](In x) { return max_pool2d(x[0], {.kernel = 3, .stride = 2, .pad = 1}); }});
    row({"avg_pool2d", "whole packs", {{{2, 16, 5, 4}, Draw::normal, nhwc}},
         [](In x) { return avg_pool2d(x[0], {.kernel = 3, .stride = 2, .pad = 1}); }});
    row({"max_pool2d", "plain input", {{{2, 3, 4, 4}, Draw::distinct}}, [](In x) { return max_pool2d(x[0]); }});
    row({"avg_pool2d", "3 by 2, pad 1", {{{2, 3, 7, 6}, Draw::normal, nhwc}},
         [](In x) { return avg_pool2d(x[0], {.kernel = 3, .stride = 2, .pad = 1}); }});
    row({"global_avg_pool", "odd", {{{2, 3, 7, 5}, Draw::normal, nhwc}}, [](In x) { return global_avg_pool(x[0]); }});
    return rows;
}
// clang-format on

}  // namespace

const std::vector<Case>& cases() {
    static const std::vector<Case> all = make_cases();
    return all;
}

}  // namespace bf::proof
