#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>

#include "bf/core/dtype.hpp"
#include "bf/kernels/conv.hpp"

// What decides how a convolution runs on a GPU: plain structs and functions that know nothing of the library, so that
// the tests run them on machines with no GPU.

namespace bf::cuda {

/// One of the three passes of a convolution: y from x and w, dx from dy and w, dw from x and dy.
enum class ConvPass : std::uint8_t { forward, dx, dw };

/// What an engine says about its arithmetic; the values are those of cudnnBackendNumericalNote_t.
enum class EngineNote : std::uint8_t {
    tensor_core = 0,
    down_convert = 1,       ///< inputs are rounded to a smaller type
    reduced_reduction = 2,  ///< sums are kept in a smaller type than asked for
    fft = 3,
    nondeterministic = 4,
    winograd = 5,
    winograd_4x4 = 6,
    winograd_6x6 = 7,
    winograd_13x13 = 8,
    strict_nan = 9,
};

/// A set of notes, bit n for note n.
using EngineNotes = std::uint32_t;
constexpr EngineNotes bit(EngineNote note) {
    return EngineNotes{1} << (static_cast<unsigned>(note) & 31u);  // a newer library may know more notes
}
constexpr EngineNotes notes(std::initializer_list<EngineNote> list) {
    EngineNotes set = 0;
    for (const EngineNote note : list) set |= bit(note);
    return set;
}

/// The settings of a backend that bear on plans.
struct ConvSettings {
    bool tf32, deterministic, autotune;
    std::size_t workspace_limit;
};

/// Which engines a convolution may use.
struct EngineRules {
    bool tensor_cores = true;      ///< false: f32 products in full f32
    bool transforms = true;        ///< Winograd and FFT
    bool nondeterministic = true;  ///< engines that add in an order of their own each time
};

/// f32 without TF32 leaves the tensor cores; transforms are for f32 only, where a digit less still is six digits.
constexpr EngineRules engine_rules(DType dtype, ConvAlgorithm algorithm, const ConvSettings& settings) {
    return {.tensor_cores = dtype != DType::f32 || settings.tf32,
            .transforms = dtype == DType::f32 && algorithm != ConvAlgorithm::direct,
            .nondeterministic = !settings.deterministic};
}

/// Engines that round inputs or sums below what the caller asked for are never taken, nor is the largest Winograd
/// tile, which loses too many digits.
constexpr EngineNotes forbidden_notes(const EngineRules& rules) {
    using enum EngineNote;
    EngineNotes set = notes({down_convert, reduced_reduction, winograd_13x13});
    if (!rules.tensor_cores) set |= bit(tensor_core);
    if (!rules.transforms) set |= notes({fft, winograd, winograd_4x4, winograd_6x6});
    if (!rules.nondeterministic) set |= bit(nondeterministic);
    return set;
}
constexpr bool allowed(EngineNotes engine, const EngineRules& rules) { return (engine & forbidden_notes(rules)) == 0; }

/// Whether an engine comes before those that the heuristics put first without it: for a dense convolution it is one on
/// tensor cores. cuDNN 9.19 proposes for the forward pass of 1x1 kernels with stride 2 in bf16 one that leaves them and
/// copies the images into another layout. With groups, engines made for groups are better off them.
constexpr bool preferred(EngineNotes engine, const EngineRules& rules, std::int64_t groups) {
    return groups == 1 && rules.tensor_cores && (engine & bit(EngineNote::tensor_core)) != 0;
}

/// "tensor_core+winograd", for messages and profiles.
inline std::string str(EngineNotes engine) {
    constexpr std::array<const char*, 10> names = {
        "tensor_core",  "down_convert", "reduced_reduction", "fft",       "nondeterministic", "winograd",
        "winograd_4x4", "winograd_6x6", "winograd_13x13",    "strict_nan"};
    std::string s;
    for (std::size_t i = 0; i < names.size(); ++i)
        if (engine >> i & 1) s += (s.empty() ? "" : "+") + std::string(names[i]);
    return s.empty() ? "plain" : s;
}

/// Tensor cores read channels in groups of 16 bytes: 8 in bf16, 4 in TF32. For a number that is no multiple of that, as
/// the 3 of a first layer, older engines leave the tensor cores and newer ones pad in a workspace of their own, and the
/// heuristics then often put slow engines first. 1: nothing is gained by padding.
constexpr std::int64_t channel_multiple(DType dtype, bool tf32) {
    return dtype == DType::bf16 ? 8 : dtype == DType::f32 && tf32 ? 4 : 1;
}

/// The same convolution with zero channels added so that tensor cores take it. Grouped ones stay as they are: zeros
/// would have to stand inside each group.
constexpr ConvGeometry padded(ConvGeometry g, DType dtype, bool tf32) {
    if (g.groups != 1) return g;
    const std::int64_t m = channel_multiple(dtype, tf32);
    g.c_in = (g.c_in + m - 1) / m * m;
    g.c_out = (g.c_out + m - 1) / m * m;
    return g;
}

/// What plans expect of addresses. An engine that reads less at a time is many times slower, so that a copy of an image
/// that lies otherwise (rows of a batch with an odd number of values) costs less.
constexpr std::int64_t plan_alignment = 16;
inline bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % plan_alignment == 0; }

/// All that a plan depends on besides the GPU: two calls with equal keys run the same plan.
struct PlanKey {
    ConvPass pass;
    ConvGeometry g;
    DType dtype;
    EngineRules rules;
    bool autotune;
    std::size_t workspace_limit;

    using Words = std::array<std::int64_t, 17>;
    /// The key as numbers, for comparisons.
    Words words() const {
        return {static_cast<std::int64_t>(pass),
                g.n,
                g.c_in,
                g.h,
                g.w,
                g.c_out,
                g.kernel_h,
                g.kernel_w,
                g.stride,
                g.pad,
                g.groups,
                static_cast<std::int64_t>(dtype),
                rules.tensor_cores,
                rules.transforms,
                rules.nondeterministic,
                autotune,
                static_cast<std::int64_t>(workspace_limit)};
    }
    friend bool operator<(const PlanKey& a, const PlanKey& b) { return a.words() < b.words(); }
    friend bool operator==(const PlanKey& a, const PlanKey& b) { return a.words() == b.words(); }
};

/// Autotuning goes by the clock, so that two runs may choose two engines: the deterministic mode does without.
inline PlanKey plan_key(ConvPass pass, const ConvGeometry& g, DType dtype, ConvAlgorithm algorithm,
                        const ConvSettings& settings) {
    return {.pass = pass,
            .g = g,
            .dtype = dtype,
            .rules = engine_rules(dtype, algorithm, settings),
            .autotune = settings.autotune && !settings.deterministic,
            .workspace_limit = settings.workspace_limit};
}

/// "dx of x [64, 3, 112, 112], w [64, 3, 3, 3], stride 1, pad 1, groups 1, bf16".
inline std::string str(ConvPass pass, const ConvGeometry& g, DType dtype) {
    constexpr std::array<const char*, 3> names = {"y", "dx", "dw"};
    return concat(names[static_cast<std::size_t>(pass)], " of x [", g.n, ", ", g.c_in, ", ", g.h, ", ", g.w, "], w [",
                  g.c_out, ", ", g.c_in / g.groups, ", ", g.kernel_h, ", ", g.kernel_w, "], stride ", g.stride,
                  ", pad ", g.pad, ", groups ", g.groups, ", ", name_of(dtype));
}

/// What is known of a plan.
struct PlanFacts {
    std::int64_t engine = -1;
    EngineNotes notes = 0;
    std::size_t workspace = 0;
    float milliseconds = 0;  ///< 0 when it was not timed
};

/// What came of a search for plans: how many engines were proposed, and why they were not taken.
struct PlanSearch {
    int proposed = 0, dropped = 0, too_large = 0, refused = 0;
    std::string refusal;  ///< what the library said last
};

/// What the user can do when no engine is left.
inline std::string plan_hint(const PlanKey& key, const PlanSearch& search) {
    if (search.too_large > 0) return "raise the workspace limit, or use a smaller batch";
    if (search.dropped > 0 && !key.rules.nondeterministic) return "deterministic mode leaves no engine: switch it off";
    if (search.dropped > 0 && !key.rules.tensor_cores) return "no engine computes this in full f32: allow TF32";
    if (key.g.groups > 1) return "cuDNN has no engine for these groups: use groups = 1, or device = \"cpu\"";
    return "is this GPU older than the installed cuDNN supports? bf doctor shows both";
}

/// Whether one more plan of this engine shall be timed: the heuristics list variants of their favourite first, and the
/// others shall have their turn.
inline bool has_place(std::span<const std::int64_t> taken, std::int64_t engine) {
    return std::count(taken.begin(), taken.end(), engine) < 5;
}

/// The middle of the times of one plan, the smaller of two middles; 0 for none.
inline float median(std::span<float> times) {
    if (times.empty()) return 0;
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>((times.size() - 1) / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
}

}  // namespace bf::cuda
