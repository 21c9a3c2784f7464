// Convolutions by oneDNN on nhwc images. oneDNN gets no threads of its own: each task of cpu_pool() runs a primitive on
// its part of the images (docs/decisions/014-onednn.md).
#include "onednn_conv.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bf/core/parallel.hpp"

// libgomp's, on which oneDNN runs; the numbers are those of the calling thread
extern "C" {
int omp_get_max_threads();
void omp_set_num_threads(int);
}

namespace bf::onednn {
namespace {

using dnnl::memory;
using Desc = memory::desc;

const dnnl::engine& engine() {
    static const dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
    return cpu;
}

/// While it lives, what the calling thread makes and runs has one thread.
class OneThread {
  public:
    OneThread() { omp_set_num_threads(1); }
    ~OneThread() { omp_set_num_threads(before_); }
    OneThread(const OneThread&) = delete;
    OneThread& operator=(const OneThread&) = delete;

  private:
    int before_ = omp_get_max_threads();
};

[[noreturn]] void report(const dnnl::error& e) {
    fail(ErrorCode::runtime, "conv2d", "oneDNN ", version(), ": ", e.what(), " (status ", static_cast<int>(e.status),
         "); hint: BF_CPU_CONV=own does without it");
}

enum class Pass { forward, dx, dw };

/// One pass over images, or over bands of their rows: these have g.h rows and paddings of their own above and below.
struct Problem {
    Pass pass;
    DType dtype;
    ConvGeometry g;
    std::int64_t above, below;

    using Key = std::array<std::int64_t, 14>;
    Key key() const {
        return {static_cast<std::int64_t>(pass),
                static_cast<std::int64_t>(dtype),
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
                above,
                below};
    }
};

/// A primitive for a Problem, and how its weights (or their gradient) become those of a tensor [O, C / groups, kh, kw]
/// in f32, some output channels at a time. Any number of threads may run it at once.
struct Plan {
    dnnl::primitive primitive;
    Desc x, weights, y, scratch;
    int x_role, weights_role, y_role;

    dnnl::reorder arrange;
    Desc plain_slice, arranged_slice;
    std::int64_t slices = 1;
    std::size_t plain_step = 0, arranged_step = 0;  ///< bytes from slice to slice
};

/// How many output channels a slice has, of weights and of their gradient; a multiple of what oneDNN takes together.
constexpr std::int64_t slice_channels = 64;
bool has_slices(const ConvGeometry& g) {
    return g.groups == 1 && g.c_out > slice_channels && g.c_out % slice_channels == 0;
}

void plan_arrangement(Plan& plan, const Problem& p, const Desc& plain) {
    plan.plain_slice = plain;
    plan.arranged_slice = plan.weights;
    if (has_slices(p.g)) {
        const memory::dims dims{slice_channels, p.g.c_in, p.g.kernel_h, p.g.kernel_w};
        const auto step = [&](const Desc& d) {
            return static_cast<std::size_t>(d.submemory_desc(dims, {slice_channels, 0, 0, 0}).data.offset0) *
                   memory::data_type_size(d.data_type());
        };
        plan.slices = p.g.c_out / slice_channels;
        plan.plain_step = step(plain);
        plan.arranged_step = step(plan.weights);
        plan.plain_slice = plain.submemory_desc(dims, {0, 0, 0, 0});
        plan.arranged_slice = plan.weights.submemory_desc(dims, {0, 0, 0, 0});
    }
    const bool back = p.pass == Pass::dw;
    plan.arrange = dnnl::reorder({engine(), back ? plan.arranged_slice : plan.plain_slice, engine(),
                                  back ? plan.plain_slice : plan.arranged_slice});
}

/// Null where oneDNN has nothing for the problem but its slow reference.
std::shared_ptr<const Plan> make_plan(const Problem& p) {
    using Tag = memory::format_tag;
    const ConvGeometry& g = p.g;
    const OneThread alone;
    const auto f32 = memory::data_type::f32, type = p.dtype == DType::bf16 ? memory::data_type::bf16 : f32;
    const std::int64_t h_out = (g.h + p.above + p.below - g.kernel_h) / g.stride + 1;
    const Desc x({g.n, g.c_in, g.h, g.w}, type, Tag::nhwc), y({g.n, g.c_out, h_out, g.w_out()}, type, Tag::nhwc);
    const memory::dims kernel =
        g.groups == 1 ? memory::dims{g.c_out, g.c_in, g.kernel_h, g.kernel_w}
                      : memory::dims{g.groups, g.c_out / g.groups, g.c_in / g.groups, g.kernel_h, g.kernel_w};
    const Desc plain(kernel, f32, g.groups == 1 ? Tag::oihw : Tag::goihw), weights(kernel, type, Tag::any);
    const memory::dims stride{g.stride, g.stride}, before{p.above, g.pad}, after{p.below, g.pad};
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // so that threads can share the primitive
    constexpr auto direct = dnnl::algorithm::convolution_direct;
    try {
        Plan plan;
        const auto take = [&](const auto& made, const auto& primitive, const Desc& arranged) {
            plan.primitive = primitive;
            plan.x = x;
            plan.y = y;
            plan.weights = arranged;
            plan.scratch = made.scratchpad_desc();
            return std::strncmp(made.impl_info_str(), "ref", 3) != 0;
        };
        bool fast = false;
        const dnnl::convolution_forward::primitive_desc forward(
            {p.pass == Pass::forward ? dnnl::prop_kind::forward_inference : dnnl::prop_kind::forward_training, direct,
             x, weights, y, stride, before, after},
            attributes, engine());
        if (p.pass == Pass::forward) {
            fast = take(forward, dnnl::convolution_forward(forward), forward.weights_desc());
            plan.x_role = DNNL_ARG_SRC, plan.weights_role = DNNL_ARG_WEIGHTS, plan.y_role = DNNL_ARG_DST;
        } else if (p.pass == Pass::dx) {
            const dnnl::convolution_backward_data::primitive_desc made({direct, x, weights, y, stride, before, after},
                                                                       attributes, engine(), forward);
            fast = take(made, dnnl::convolution_backward_data(made), made.weights_desc());
            plan.x_role = DNNL_ARG_DIFF_SRC, plan.weights_role = DNNL_ARG_WEIGHTS, plan.y_role = DNNL_ARG_DIFF_DST;
        } else {
            const dnnl::convolution_backward_weights::primitive_desc made(
                {direct, x, Desc(kernel, f32, Tag::any), y, stride, before, after}, attributes, engine(), forward);
            fast = take(made, dnnl::convolution_backward_weights(made), made.diff_weights_desc());
            plan.x_role = DNNL_ARG_SRC, plan.weights_role = DNNL_ARG_DIFF_WEIGHTS, plan.y_role = DNNL_ARG_DIFF_DST;
        }
        if (!fast) return nullptr;
        plan_arrangement(plan, p, plain);
        return std::make_shared<const Plan>(plan);
    } catch (const dnnl::error& e) {
        if (e.status == dnnl_unimplemented || e.status == dnnl_invalid_arguments) return nullptr;
        report(e);
    }
}

/// make_plan(), once for each problem of the last some hundred.
std::shared_ptr<const Plan> plan_for(const Problem& p) {
    constexpr std::size_t most = 512;
    static std::mutex mutex;
    static std::map<Problem::Key, std::shared_ptr<const Plan>> plans;
    const std::lock_guard lock(mutex);
    if (const auto found = plans.find(p.key()); found != plans.end()) return found->second;
    if (plans.size() >= most) plans.clear();
    return plans[p.key()] = make_plan(p);
}

Tensor of_bytes(std::size_t bytes) { return Tensor::empty({static_cast<std::int64_t>(bytes)}, {.dtype = DType::u8}); }
memory over(const Desc& d, const void* data) { return memory(d, engine(), const_cast<void*>(data)); }

template <class Primitive, class Arguments>
void run(const Primitive& primitive, const Arguments& arguments) {
    const OneThread alone;
    try {
        dnnl::stream stream(engine());
        primitive.execute(stream, arguments);
        stream.wait();
    } catch (const dnnl::error& e) {
        report(e);
    }
}
/// Of x, weights and y the pass writes one.
void run(const Plan& plan, const void* x, const void* weights, const void* y) {
    const Tensor scratch = of_bytes(plan.scratch.get_size());
    run(plan.primitive, std::unordered_map<int, memory>{{plan.x_role, over(plan.x, x)},
                                                        {plan.weights_role, over(plan.weights, weights)},
                                                        {plan.y_role, over(plan.y, y)},
                                                        {DNNL_ARG_SCRATCHPAD, over(plan.scratch, scratch.raw())}});
}
/// Slice by slice from one of the two to the other, as the plan's pass wants it.
void arrange(const Plan& plan, bool back, void* plain, void* arranged) {
    parallel_for(plan.slices, 1, [&](std::int64_t i, std::int64_t) {
        const auto slice = static_cast<std::size_t>(i);
        const memory p = over(plan.plain_slice, static_cast<char*>(plain) + slice * plan.plain_step),
                     a = over(plan.arranged_slice, static_cast<char*>(arranged) + slice * plan.arranged_step);
        run(plan.arrange, std::unordered_map<int, memory>{{DNNL_ARG_FROM, back ? a : p}, {DNNL_ARG_TO, back ? p : a}});
    });
}

std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// How the images of a forward pass or of dx are cut into tasks: some images each, or bands of the rows of one.
struct Cut {
    std::int64_t images, rows;
};
Cut cut_images(const ConvGeometry& g, bool bands) {
    // tasks that keep many threads busy, each with enough pixels that reading the weights does not weigh
    constexpr std::int64_t tasks = 16, pixels = 392, band_pixels = 96;
    const std::int64_t ho = g.h_out(), image = ho * g.w_out();
    const std::int64_t images = std::min(ceil_div(g.n, tasks), ceil_div(pixels, image));
    if (!bands || g.n >= tasks / 2 || g.pad >= g.kernel_h) return {images, ho};
    return {1, ceil_div(ho, std::clamp<std::int64_t>(image / band_pixels, 1, ceil_div(tasks, g.n)))};
}

/// The forward pass, or dx: x and y are the images before and behind the convolution, whichever is written.
bool over_images(Pass pass, const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& y) {
    struct Task {
        std::shared_ptr<const Plan> plan;
        Tensor weights;
        std::size_t x_offset, y_offset;
    };
    std::vector<Task> tasks;
    const Cut cut = cut_images(g, pass == Pass::forward);
    const std::int64_t ho = g.h_out();
    const std::size_t x_row = size_of(x.dtype()) * static_cast<std::size_t>(g.w * g.c_in),
                      y_row = size_of(y.dtype()) * static_cast<std::size_t>(g.w_out() * g.c_out);
    for (std::int64_t n = 0; n < g.n; n += cut.images)
        for (std::int64_t row = 0; row < ho; row += cut.rows) {
            Problem p{pass, x.dtype(), g, g.pad, g.pad};
            p.g.n = std::min(cut.images, g.n - n);
            std::int64_t first = 0;
            if (cut.rows < ho) {
                const std::int64_t begin = row * g.stride - g.pad,
                                   end = (std::min(row + cut.rows, ho) - 1) * g.stride - g.pad + g.kernel_h;
                first = std::max<std::int64_t>(0, begin);
                p.above = first - begin;
                p.below = std::max<std::int64_t>(0, end - g.h);
                p.g.h = std::min(end, g.h) - first;
            }
            Task t{plan_for(p),
                   {},
                   x_row * static_cast<std::size_t>(n * g.h + first),
                   y_row * static_cast<std::size_t>(n * ho + row)};
            if (!t.plan) return false;
            const auto same = std::find_if(tasks.begin(), tasks.end(),
                                           [&](const Task& other) { return other.plan->weights == t.plan->weights; });
            if (same == tasks.end()) {
                t.weights = of_bytes(t.plan->weights.get_size());
                arrange(*t.plan, false, w.raw(), t.weights.raw());
            } else {
                t.weights = same->weights;
            }
            tasks.push_back(std::move(t));
        }
    parallel_for(static_cast<std::int64_t>(tasks.size()), 1, [&](std::int64_t i, std::int64_t) {
        const Task& t = tasks[static_cast<std::size_t>(i)];
        run(*t.plan, static_cast<char*>(x.raw()) + t.x_offset, t.weights.raw(),
            static_cast<char*>(y.raw()) + t.y_offset);
    });
    return true;
}

}  // namespace

std::string version() {
    const dnnl_version_t& v = *dnnl_version();
    return concat(v.major, ".", v.minor, ".", v.patch);
}
bool has_amx() {
    static const bool has = dnnl::get_effective_cpu_isa() == dnnl::cpu_isa::avx512_core_amx;
    return has;
}

bool conv2d(const ConvGeometry& g, const Tensor& x, const Tensor& w, const Tensor& y) {
    return y.numel() > 0 && over_images(Pass::forward, g, x, w, y);
}
bool conv2d_dx(const ConvGeometry& g, const Tensor& dy, const Tensor& w, const Tensor& dx) {
    return dx.numel() > 0 && dy.numel() > 0 && over_images(Pass::dx, g, dx, w, dy);
}

/// Parts of the images, whose sums are added in order; where the weights are large beside the images, so that many sums
/// would be costly, slices of the output channels too.
bool conv2d_dw(const ConvGeometry& g, const Tensor& x, const Tensor& dy, const Tensor& dw) {
    if (x.numel() == 0 || dy.numel() == 0) return false;
    constexpr std::int64_t tasks = 8;
    const auto images_in_weights = static_cast<std::int64_t>((x.bytes() + dy.bytes()) / dw.bytes());
    std::int64_t parts = std::clamp<std::int64_t>(images_in_weights / 4, 1, 2 * tasks);
    const std::int64_t slices = parts < tasks && has_slices(g) ? g.c_out / slice_channels : 1, out = g.c_out / slices;
    parts = std::min(g.n, std::max(parts, ceil_div(tasks, slices)));

    std::vector<std::shared_ptr<const Plan>> plans;
    for (std::int64_t part = 0; part < parts; ++part) {
        Problem p{Pass::dw, x.dtype(), g, g.pad, g.pad};
        p.g.n = g.n * (part + 1) / parts - g.n * part / parts;
        p.g.c_out = out;
        plans.push_back(plan_for(p));
        if (!plans.back() || plans.back()->weights != plans.front()->weights) return false;
    }
    const std::size_t size = plans.front()->weights.get_size(), element = size_of(x.dtype()),
                      row = element * static_cast<std::size_t>(out);
    const std::int64_t pixels = g.h_out() * g.w_out();
    const Tensor partial = of_bytes(size * static_cast<std::size_t>(slices * parts));
    const auto sum_of = [&](std::int64_t slice, std::int64_t part) {
        return static_cast<char*>(partial.raw()) + size * static_cast<std::size_t>(slice * parts + part);
    };
    parallel_for(slices * parts, 1, [&](std::int64_t task, std::int64_t) {
        const std::int64_t slice = task / parts, part = task % parts, first = g.n * part / parts,
                           rows = (g.n * (part + 1) / parts - first) * pixels;
        const char* gradients =
            static_cast<char*>(dy.raw()) + element * static_cast<std::size_t>(first * pixels * g.c_out + slice * out);
        Tensor own;
        if (slices > 1) {
            own = of_bytes(row * static_cast<std::size_t>(rows));
            for (std::int64_t r = 0; r < rows; ++r)
                std::memcpy(static_cast<char*>(own.raw()) + row * static_cast<std::size_t>(r),
                            gradients + element * static_cast<std::size_t>(r * g.c_out), row);
        }
        run(*plans[static_cast<std::size_t>(part)],
            static_cast<char*>(x.raw()) + element * static_cast<std::size_t>(first * g.h * g.w * g.c_in),
            sum_of(slice, part), slices > 1 ? own.raw() : gradients);
    });
    const auto values = static_cast<std::int64_t>(size / sizeof(float));
    for (std::int64_t slice = 0; parts > 1 && slice < slices; ++slice)
        parallel_for(values, 1 << 14, [&](std::int64_t begin, std::int64_t end) {
            auto* total = reinterpret_cast<float*>(sum_of(slice, 0));
            for (std::int64_t part = 1; part < parts; ++part) {
                const auto* more = reinterpret_cast<const float*>(sum_of(slice, part));
                for (std::int64_t i = begin; i < end; ++i) total[i] += more[i];
            }
        });
    parallel_for(slices, 1, [&](std::int64_t slice, std::int64_t) {
        arrange(*plans.front(), true, dw.data<float>() + dw.numel() / slices * slice, sum_of(slice, 0));
    });
    return true;
}

}  // namespace bf::onednn
