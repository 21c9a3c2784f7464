#pragma once
#include <map>
#include <optional>
#include <set>

#include "bf/data/input_format.hpp"
#include "bf/io/onnx_model.hpp"
#include "bf/nn/module.hpp"

namespace bf {

/// How a network becomes an ONNX model.
struct OnnxExportOptions {
    std::int64_t opset = 17;    ///< 11, 13 or 17
    Shape sample{3, 112, 112};  ///< of one input, without the batch dimension
    std::string input = "input", output = "embedding";
    /// Normalisation as nodes of the graph: it then takes RGB pixels 0..255 in N, C, H, W order.
    std::optional<InputFormat> pixels = {};
    bool bytes = false;  ///< with `pixels`: they are u8 instead of f32
    std::map<std::string, std::string> metadata = {};
};

namespace detail {

/// Makes ONNX nodes of traced ops. Values go by their memory, parameters and buffers by their dotted names.
class OnnxExporter {
  public:
    OnnxExporter(const Module& net, const OnnxExportOptions& options) : options_(options) {
        BF_CHECK(options.pixels || !options.bytes, "onnx", "bytes want pixels; hint: .pixels = InputFormat{}");
        model_.opset = options.opset;
        model_.metadata = options.metadata;
        for (const Parameter& p : net.parameters()) parameters_.emplace(key(p.var.value()), p.name);
        for (const auto& [name, tensor] : net.buffers()) parameters_.emplace(key(tensor), name);
    }

    OnnxModel run(const Trace& trace, const Tensor& input, const Tensor& output) {
        batch_ = input.dim(0);
        std::string start = options_.input;
        if (options_.pixels) start = normalise(*options_.pixels, start, input.rank());
        names_[key(input)] = start;
        for (const TracedOp& op : trace.ops()) add(op);
        const std::string last = value(output, "the network's output");
        for (const std::string& name : {options_.input, options_.output})
            BF_CHECK(!shown_.count(name) && options_.input != options_.output, "onnx", "the name \"", name,
                     "\" is taken by another value of the graph");
        OnnxNode* maker = nullptr;
        for (OnnxNode& n : model_.nodes)
            if (n.outputs[0] == last) maker = &n;
        BF_CHECK(maker, "onnx", "the network gives back what it was given");
        for (OnnxNode& n : model_.nodes)
            for (std::string& name : n.inputs)
                if (name == last) name = options_.output;
        maker->outputs[0] = options_.output;
        model_.inputs.push_back({options_.input, options_.bytes ? OnnxType::u8 : OnnxType::f32, dims(input)});
        model_.outputs.push_back({options_.output, OnnxType::f32, dims(output)});
        return std::move(model_);
    }

  private:
    using Key = std::tuple<const void*, std::string, Format, DType>;
    using Attributes = std::vector<OnnxAttribute>;
    static Key key(const Tensor& t) { return {t.raw(), t.shape().str(), t.format(), t.dtype()}; }

    static OnnxAttribute integer(const char* name, double v) {
        return {.name = name, .type = OnnxAttribute::Type::integer, .integer = static_cast<std::int64_t>(v)};
    }
    static OnnxAttribute real(const char* name, double v) {
        return {.name = name, .type = OnnxAttribute::Type::real, .real = static_cast<float>(v)};
    }
    static OnnxAttribute integers(const char* name, std::vector<std::int64_t> v) {
        return {.name = name, .type = OnnxAttribute::Type::integers, .integers = std::move(v)};
    }
    static OnnxAttribute square(const char* name, double v, std::size_t times = 2) {
        return integers(name, std::vector<std::int64_t>(times, static_cast<std::int64_t>(v)));
    }
    std::vector<std::string> dims(const Tensor& t) const {
        std::vector<std::string> out{"batch"};
        for (int i = 1; i < t.rank(); ++i) out.push_back(std::to_string(t.dim(i)));
        return out;
    }

    /// A new node; it goes by the layer whose parameters it uses, or by its op and place. The name of its output.
    std::string node(const std::string& op, std::vector<std::string> inputs, Attributes attributes = {},
                     std::string name = "") {
        if (name.empty() && inputs.size() > 1)
            if (const std::size_t dot = inputs[1].rfind('.'); dot != std::string::npos && shown_.count(inputs[1]))
                name = inputs[1].substr(0, dot);
        if (name.empty() || !node_names_.insert(name).second) {
            for (char c : op) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
            name += "_" + std::to_string(model_.nodes.size());
            node_names_.insert(name);
        }
        std::string out = name + ".out";
        model_.nodes.push_back({op, std::move(name), std::move(inputs), {out}, std::move(attributes)});
        return out;
    }
    /// A tensor of the model under its own name; `shape` is what the op at hand wants of it.
    std::string constant(const Tensor& t, const std::string& name, const Shape& shape) {
        const Tensor as = t.reshape(shape);
        std::string full = name;
        if (const auto it = shown_.find(full); it != shown_.end()) {
            if (it->second == shape) return full;
            full += shape.str();  // a slope of images and of rows at once
            if (shown_.count(full)) return full;
        }
        shown_.emplace(full, shape);
        model_.initialisers.emplace_back(full, as);
        return full;
    }
    std::string scalar(double v) {
        return constant(full({}, v), "scalar_" + std::to_string(model_.initialisers.size()), {});
    }
    std::string parameter(const Tensor& t, const TracedOp& op, const char* what, const Shape& shape) {
        BF_CHECK(t.dtype() == DType::f32, "onnx", op.name, ": ", what, " is not f32; got ", t.str());
        const auto it = parameters_.find(key(t));
        if (it != parameters_.end()) return constant(t, it->second, shape);
        fail(ErrorCode::usage, "onnx", op.name, ": its ", what, " ", t.str(),
             " is no parameter or buffer of the network; hint: add_parameter() or add_buffer() gives it a name");
    }
    std::string parameter(const Tensor& t, const TracedOp& op, const char* what) {
        return parameter(t, op, what, t.shape());
    }
    /// The name of a value that the graph has computed, or of a parameter used as one.
    std::string value(const Tensor& t, const std::string& where) {
        if (const auto it = names_.find(key(t)); it != names_.end()) return it->second;
        if (const auto it = parameters_.find(key(t)); it != parameters_.end())
            return constant(t, it->second, t.shape());
        fail(ErrorCode::usage, "onnx", where, " is a value that no op made; got ", t.str(),
             "; hint: compute with the ops of bf/ops alone, and name constants with add_buffer()");
    }

    /// The network's input made of pixels. Nodes called Sub.. and Mul.. at the start of a graph tell InsightFace's
    /// tools (model_zoo/arcface_onnx.py) that it takes pixels as they are.
    std::string normalise(const InputFormat& f, std::string x, int rank) {
        BF_CHECK(rank == 4 && options_.sample[0] == 3, "onnx", "pixels want images of 3 channels; got ",
                 options_.sample);
        if (options_.bytes) x = node("Cast", {x}, {integer("to", static_cast<double>(OnnxType::f32))}, "cast_pixels");
        if (f.bgr) {
            const Tensor order = Tensor::from(std::vector<std::int64_t>{2, 1, 0}, {3});
            x = node("Gather", {x, constant(order, "pixels.order", {3})}, {integer("axis", 1)}, "bgr_of_rgb");
        }
        Tensor mean = Tensor::empty({3}), scale = Tensor::empty({3});
        for (std::size_t c = 0; c < 3; ++c) {
            mean.data<float>()[c] = -f.shift[c] / f.scale[c];
            scale.data<float>()[c] = f.scale[c];
        }
        x = node("Sub", {x, constant(mean, "pixels.mean", {3, 1, 1})}, {}, "Sub_mean");
        return node("Mul", {x, constant(scale, "pixels.scale", {3, 1, 1})}, {}, "Mul_scale");
    }
    std::string batch_norm(const TracedOp& op, const std::string& x) {
        std::string y =
            node("BatchNormalization",
                 {x, parameter(op.inputs[1], op, "weight"), parameter(op.inputs[2], op, "bias"),
                  parameter(op.inputs[3], op, "running mean"), parameter(op.inputs[4], op, "running variance")},
                 {real("epsilon", op.attribute("epsilon"))});
        if (op.inputs[5].defined()) y = prelu(op, y, op.inputs[5]);
        if (op.inputs[6].defined()) y = node("Add", {y, value(op.inputs[6], op.name)});
        return y;
    }
    std::string prelu(const TracedOp& op, const std::string& x, const Tensor& slope) {
        if (!parameters_.count(key(slope)) && all_zero(slope)) return node("Relu", {x});
        const std::int64_t c = slope.numel();
        return node("PRelu", {x, parameter(slope, op, "slope", op.inputs[0].rank() == 4 ? Shape{c, 1, 1} : Shape{c})});
    }
    /// A slope of zeros that is no parameter stands for relu (a batch norm does both in one pass).
    static bool all_zero(const Tensor& t) {
        const Tensor here = t.to(cpu_device);
        bool all = t.dtype() == DType::f32;
        if (all)
            for (const float v : here.span<float>()) all = all && v == 0;
        return all;
    }
    std::string reshape(const TracedOp& op, const std::string& x) {
        const Tensor &in = op.inputs[0], &out = op.output;
        const bool rows = in.rank() >= 1 && out.rank() >= 1 && in.dim(0) == out.dim(0);
        if (rows && out.rank() == 2) return node("Flatten", {x}, {integer("axis", 1)});
        BF_CHECK(out.rank() >= 1 && out.dim(0) % batch_ == 0, "onnx", "reshape of ", in.shape(), " to ", out.shape(),
                 " does not keep the batch in front");
        std::vector<std::int64_t> to(out.shape().begin(), out.shape().end());
        to[0] = -1;
        const auto n = static_cast<std::int64_t>(to.size());
        return node("Reshape",
                    {x, constant(Tensor::from(to, {n}), "shape_" + std::to_string(model_.nodes.size()), {n})});
    }
    std::string pool(const TracedOp& op, const std::string& x) {
        const double kh = op.attribute("kernel_h"), kw = op.attribute("kernel_w"), pad = op.attribute("pad");
        const bool mean = op.name == "avg_pool2d";
        if (mean && op.output.dim(2) == 1 && op.output.dim(3) == 1 && pad == 0 &&
            kh == static_cast<double>(op.inputs[0].dim(2)) && kw == static_cast<double>(op.inputs[0].dim(3)))
            return node("GlobalAveragePool", {x});
        Attributes a{integers("kernel_shape", {static_cast<std::int64_t>(kh), static_cast<std::int64_t>(kw)}),
                     square("strides", op.attribute("stride")), square("pads", pad, 4)};
        if (mean) a.push_back(integer("count_include_pad", 1));
        return node(mean ? "AveragePool" : "MaxPool", {x}, a);
    }
    std::string convolution(const TracedOp& op, const std::string& x) {
        const Shape& w = op.inputs[1].shape();
        return node(
            "Conv", {x, parameter(op.inputs[1], op, "weight")},
            {integers("kernel_shape", {w[2], w[3]}), square("strides", op.attribute("stride")),
             square("pads", op.attribute("pad"), 4), square("dilations", 1), integer("group", op.attribute("groups"))});
    }

    void add(const TracedOp& op) {
        BF_CHECK(!op.name.empty(), "onnx", "an op that makes ", op.output.str(),
                 " has no name; hint: an op of your own tells Trace::current() what it did (autograd/trace.hpp)");
        const std::string& n = op.name;
        BF_CHECK(n != "batch_norm_train" && n != "dropout", "onnx", n, " is an op of training; hint: net.eval() first");
        if (names_.count(key(op.output))) return;  // a reshape to the same shape
        const std::string x = value(op.inputs[0], n);
        std::string& out = names_[key(op.output)];
        static const std::map<std::string, const char*> same{
            {"relu", "Relu"}, {"sigmoid", "Sigmoid"}, {"tanh", "Tanh"}, {"exp", "Exp"},
            {"log", "Log"},   {"sqrt", "Sqrt"},       {"abs", "Abs"},   {"add", "Add"},
            {"sub", "Sub"},   {"mul", "Mul"},         {"div", "Div"},   {"matmul", "MatMul"}};
        if (n == "to_format")
            out = x;  // an order in memory, which ONNX does not have
        else if (n == "cast")
            out = cast(op, x);
        else if (n == "conv2d")
            out = convolution(op, x);
        else if (n == "batch_norm_eval")
            out = batch_norm(op, x);
        else if (n == "prelu")
            out = prelu(op, x, op.inputs[1]);
        else if (n == "linear")
            out = linear(op, x);
        else if (n == "reshape")
            out = reshape(op, x);
        else if (n == "max_pool2d" || n == "avg_pool2d")
            out = pool(op, x);
        else if (n == "affine")
            out = node("Add", {node("Mul", {x, scalar(op.attribute("a"))}), scalar(op.attribute("b"))});
        else if (n == "clamp")
            out = node("Clip", {x, scalar(op.attribute("a")), scalar(op.attribute("b"))});
        else if (n == "square")
            out = node("Mul", {x, x});
        else if (n == "normalize_rows")
            out = node("Div", {x, node("Clip", {node("ReduceL2", {x}, {integers("axes", {1})}), scalar(1e-12)})});
        else if (const auto it = same.find(n); it != same.end()) {
            // two operands have one shape, so that a parameter is as long as this batch
            BF_CHECK(op.inputs.size() == 1 || n == "matmul" ||
                         (names_.count(key(op.inputs[0])) && names_.count(key(op.inputs[1]))),
                     "onnx", n, " with a parameter or buffer of the shape of a batch, ", op.output.shape(),
                     "; want computed values");
            out = op.inputs.size() == 1 ? node(it->second, {x}) : node(it->second, {x, value(op.inputs[1], n)});
        } else
            fail(ErrorCode::usage, "onnx", "the op ", n, " is not exported; got ", op.output.str(),
                 "; hint: nn/onnx_export.hpp lists what is");
    }
    static std::string cast(const TracedOp& op, const std::string& x) {
        const auto short_float = [](DType d) { return d == DType::f32 || d == DType::bf16; };
        BF_CHECK(short_float(op.inputs[0].dtype()) && short_float(op.output.dtype()), "onnx", "a cast of ",
                 op.inputs[0].str(), " to ", name_of(op.output.dtype()), "; want f32 or bf16");
        return x;  // what runs in bf16 is exported in f32
    }
    std::string linear(const TracedOp& op, const std::string& x) {
        std::vector<std::string> inputs{x, parameter(op.inputs[1], op, "weight")};
        if (op.inputs[2].defined()) inputs.push_back(parameter(op.inputs[2], op, "bias"));
        return node("Gemm", std::move(inputs), {integer("transB", 1)});
    }

    const OnnxExportOptions& options_;
    OnnxModel model_;
    std::map<Key, std::string> parameters_, names_;
    std::map<std::string, Shape> shown_;  ///< tensors of the model
    std::set<std::string> node_names_;
    std::int64_t batch_ = 1;
};

}  // namespace detail

/// The graph of a network in evaluation mode, known from a forward pass over two zero samples; the network returns to
/// the modes that it was in. Batches may be of any size. Tensors share the network's memory and have its names, a
/// PReLU's slope as [C, 1, 1]. A usage Error names the op, parameter or value that cannot be exported. Exported are
/// conv2d, batch norm (also fused), prelu, linear, matmul, pooling, reshape, flatten, add, sub, mul, div, relu,
/// sigmoid, tanh, exp, log, sqrt, square, abs, affine, clamp, normalize_rows; casts between f32 and bf16 fall away.
inline OnnxModel export_onnx(Module& net, const OnnxExportOptions& options = {}) {
    const NoGrad no_grad;
    const KeepModes keep(net);
    net.eval();
    Shape shape{2};
    for (const std::int64_t d : options.sample) shape.push_back(d);
    const Tensor input = Tensor::zeros(shape, {.device = net.device()});
    const Trace trace;
    const Tensor output = net(Var(input)).value();
    return detail::OnnxExporter(net, options).run(trace, input, output);
}

}  // namespace bf
