#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <set>
#include <unordered_map>

#include "bf/io/onnx_model.hpp"
#include "bf/nn/onnx_export.hpp"

namespace bf {

/// What a file's graph makes of its input before the network: x * scale + shift, channel by channel.
struct OnnxNormalisation {
    std::array<double, 3> scale{1, 1, 1}, shift{0, 0, 0};
};

/// A network's parameters and buffers as they were found in an ONNX model of another program.
struct OnnxMatch {
    StateDict state;                  ///< all names of the network; for Module::load_state()
    bool by_names = false;            ///< the file has the network's own names; else they were found by structure
    std::vector<std::string> folded;  ///< batch norms that the file has folded into the layer before: they become x + b
    std::vector<std::string> unused;  ///< tensors of the file that the network has no place for
    std::optional<OnnxNormalisation> normalisation;  ///< the file's own, where its graph begins with one
    std::vector<std::string> notes;                  ///< what else is good to know
};

namespace detail {

/// Walks the graphs of a network and of a file side by side, from their outputs to their inputs.
class OnnxMatcher {
  public:
    OnnxMatcher(const OnnxModel& file, Module& net, const Shape& sample, const std::string& name)
        : name_(name), file_(file), own_(export_onnx(net, {.sample = sample})), state_(net.state()) {
        for (const OnnxNode& n : file_.nodes)
            for (const std::string& out : n.outputs) theirs_.emplace(out, &n);
        for (const OnnxNode& n : own_.nodes) ours_.emplace(n.outputs[0], &n);
        for (const auto& [key, t] : file_.initialisers) tensors_.emplace(key, t);
        for (const auto& [key, t] : own_.initialisers) own_tensors_.emplace(key, t);
    }

    OnnxMatch run() {
        match_names();
        if (!match_.by_names) match_structure();
        normalisation();
        for (const auto& [key, t] : file_.initialisers)
            if (!used_.count(key)) match_.unused.push_back(key);
        return std::move(match_);
    }

  private:
    using Pair = std::pair<std::string, std::string>;  ///< a value of the network, one of the file
    static constexpr int most_steps = 8;               ///< of a normalisation

    void match_names() {
        for (const auto& [key, t] : state_) {
            const auto it = tensors_.find(key);
            if (it == tensors_.end()) return;
            const bool slope = t.rank() == 1 && it->second.numel() == t.numel();
            if (it->second.shape() != t.shape() && !slope) return;
        }
        match_.by_names = true;
        for (const auto& [key, t] : state_) assign(key, key);
    }
    void match_structure() {
        BF_CHECK_DATA(!file_.outputs.empty(), name_, "the model has no output");
        std::vector<Pair> todo{{own_.outputs[0].name, file_.outputs[0].name}};
        std::map<std::string, std::string> seen;
        while (!todo.empty()) {
            const Pair p{todo.back().first, resolve(todo.back().second)};
            todo.pop_back();
            const auto [it, is_new] = seen.insert(p);
            BF_CHECK_DATA(is_new || it->second == p.second, name_, "is not this network: what is one value, ", p.first,
                          ", is two in the file, ", it->second, " and ", p.second);
            if (is_new) step(p, todo);
        }
        for (const auto& [key, t] : state_)
            BF_CHECK_DATA(match_.state.count(key), name_, "nothing was found for ", key, " ", t.shape());
    }

    /// A value of the file without the nodes that change nothing.
    std::string resolve(std::string value) const {
        for (std::size_t i = 0; i <= file_.nodes.size(); ++i) {  // a file may have a cycle
            const OnnxNode* n = find(theirs_, value);
            if (!n || n->inputs.empty() || (n->op != "Identity" && n->op != "Dropout" && n->op != "Cast")) return value;
            value = n->inputs[0];
        }
        fail(ErrorCode::data, name_, "the graph runs in a circle at ", value);
    }
    static const OnnxNode* find(const std::unordered_map<std::string, const OnnxNode*>& nodes,
                                const std::string& value) {
        const auto it = nodes.find(value);
        return it == nodes.end() ? nullptr : it->second;
    }
    const OnnxNode* their_node(const std::string& value) const { return find(theirs_, resolve(value)); }
    /// An input that is a tensor of the file, else nullptr.
    const Tensor* tensor(const OnnxNode& n, std::size_t input) const {
        if (input >= n.inputs.size()) return nullptr;
        const auto it = tensors_.find(resolve(n.inputs[input]));
        return it == tensors_.end() ? nullptr : &it->second;
    }
    const Shape& own_shape(const std::string& key) const { return own_tensors_.at(key).shape(); }

    void assign(const std::string& key, Tensor t, const std::string& from = "") {
        const auto it = state_.find(key);
        BF_CHECK(it != state_.end(), "match_onnx", "the network uses ", key, " in two shapes");
        const Shape& want = it->second.shape();
        BF_CHECK_DATA(t.numel() == want.numel(), name_, "tensor \"", from, "\" for ", key, "; got ", t.str(), ", want ",
                      want);
        match_.state[key] = t.reshape(want);
    }
    void assign(const std::string& key, const std::string& from) {
        const std::string source = resolve(from);
        used_.insert(source);
        assign(key, tensors_.at(source), source);
    }
    void assign(const std::string& key, const OnnxNode& n, std::size_t input) {
        if (!tensor(n, input)) part(key, &n, "its weights are not tensors of the file");
        assign(key, n.inputs[input]);
    }
    [[noreturn]] void part(const std::string& ours, const OnnxNode* theirs, const std::string& why) const {
        fail(ErrorCode::data, name_, "is not this network: at ", ours, " the file has ",
             theirs ? "node \"" + theirs->name + "\" (" + theirs->op + ")" : std::string("an input"), ": ", why,
             "; hint: is it another network, or one that another tool has rewritten?");
    }

    void step(const Pair& p, std::vector<Pair>& todo) {
        const OnnxNode *a = find(ours_, p.first), *b = find(theirs_, p.second);
        if (!a) return input(p.second);
        if (!b || b->inputs.empty()) part(a->name, b, "want " + a->op);
        if (a->op == "BatchNormalization" && b->op != a->op) return fold(*a, p, todo);
        const bool product = a->op == "Gemm" && (b->op == "MatMul" || b->op == "Add");
        const bool rows = a->op == "Flatten" && b->op == "Reshape";
        if (a->op != b->op && !product && !rows) part(a->name, b, "want " + a->op);
        if (a->op == "Conv")
            convolution(*a, *b, p.first);
        else if (a->op == "Gemm")
            return linear(*a, *b, p.first, todo);
        else if (a->op == "BatchNormalization")
            batch_norm(*a, *b);
        else if (a->op == "PRelu")
            assign(a->inputs[1], *b, 1);
        else if (a->op == "MaxPool" || a->op == "AveragePool")
            same_window(*a, *b);
        else if (a->op == "Add" || a->op == "Mul")
            return two_values(*a, *b, todo);
        else if (a->op != "Flatten" && a->op != "GlobalAveragePool" && a->op != "Relu" && a->op != "Sigmoid" &&
                 a->op != "Tanh")
            part(a->name, b, "this op is not looked for; hint: a file with the network's own names needs no search");
        todo.emplace_back(a->inputs[0], b->inputs[0]);
    }
    /// One step of a normalisation of pixels.
    bool by_constant(const OnnxNode& b) const {
        return b.inputs.size() == 2 && (tensor(b, 0) || tensor(b, 1)) &&
               (b.op == "Sub" || b.op == "Mul" || b.op == "Div" || b.op == "Add");
    }
    /// What is left of the file where the network begins: nothing, or a normalisation by constants.
    void input(std::string value) {
        for (int i = 0; i < most_steps; ++i) {
            const OnnxNode* b = their_node(value);
            if (!b) return;
            if (!by_constant(*b)) part("the input", b, "want the file's input");
            value = b->inputs[tensor(*b, 0) ? 1 : 0];
        }
        fail(ErrorCode::data, name_, "more than ", most_steps, " nodes in front of the network");
    }
    /// Follows the file's input through constants of one value or one a channel, up to the network.
    void normalisation() {
        std::string value;
        for (const OnnxValue& in : file_.inputs)
            if (!tensors_.count(in.name)) value = value.empty() ? in.name : value;
        OnnxNormalisation all;
        std::string steps;
        for (int i = 0; i < most_steps; ++i) {
            const OnnxNode* next = nullptr;
            for (const OnnxNode& n : file_.nodes)
                if (by_constant(n) && resolve(n.inputs[tensor(n, 0) ? 1 : 0]) == value) next = &n;
            if (!next) break;
            const std::size_t at = tensor(*next, 0) ? 0 : 1;
            const std::string what = next->op + " \"" + next->name + "\"";
            if (!take(all, *next, *tensor(*next, at), at == 0)) {
                match_.notes.push_back("the file changes its input itself, in a way that no input format has: " + what);
                return;
            }
            used_.insert(resolve(next->inputs[at]));
            steps += (steps.empty() ? "" : ", ") + what;
            value = next->outputs[0];
        }
        if (steps.empty()) return;
        const bool ends = std::any_of(file_.nodes.begin(), file_.nodes.end(), [&](const OnnxNode& n) {
            return n.op == "Conv" && !n.inputs.empty() && resolve(n.inputs[0]) == value;
        });
        if (!ends) {
            match_.notes.push_back("the file changes its input itself, in a way that no input format has: " + steps +
                                   " and more");
            return;
        }
        match_.normalisation = all;
        match_.notes.push_back("the file normalises its input itself: " + steps);
    }
    /// Takes one step into x * scale + shift; false where it is of another kind.
    static bool take(OnnxNormalisation& all, const OnnxNode& n, const Tensor& constant, bool constant_first) {
        const std::int64_t count = constant.numel(), rank = constant.rank();
        const bool by_channel = count == 3 && rank >= 3 && constant.dim(rank - 3) == 3;
        if ((count != 1 && !by_channel) || constant.dtype() != DType::f32 || (n.op == "Div" && constant_first))
            return false;
        for (std::size_t c = 0; c < 3; ++c) {
            const double k = constant.data<float>()[count == 1 ? 0 : c];
            double &scale = all.scale[c], &shift = all.shift[c];
            if (n.op == "Mul" || n.op == "Div") {
                scale = n.op == "Mul" ? scale * k : scale / k;
                shift = n.op == "Mul" ? shift * k : shift / k;
            } else if (n.op == "Add") {
                shift += k;
            } else {
                scale = constant_first ? -scale : scale;
                shift = constant_first ? k - shift : shift - k;
            }
            if (!std::isfinite(scale) || !std::isfinite(shift)) return false;
        }
        return true;
    }
    void batch_norm(const OnnxNode& a, const OnnxNode& b) {
        for (std::size_t i = 1; i <= 4; ++i) assign(a.inputs[i], b, i);
        const auto epsilon = [](const OnnxNode& n) {
            const OnnxAttribute* e = n.find("epsilon");
            return e ? e->real : 1e-5f;
        };
        const float more = epsilon(b) - epsilon(a);
        if (more == 0) return;
        Tensor variance = match_.state.at(a.inputs[4]).clone();
        BF_CHECK_DATA(variance.dtype() == DType::f32, name_, "running variance; got ", variance.str(), ", want f32");
        for (float& v : variance.span<float>()) v += more;
        match_.state[a.inputs[4]] = variance;
    }
    /// The file has no such batch norm: it becomes x + b, where b is the bias of the layer before it in the file.
    void fold(const OnnxNode& a, const Pair& p, std::vector<Pair>& todo) {
        const OnnxNode *before = find(ours_, a.inputs[0]), *b = find(theirs_, p.second);
        if (!before || (before->op != "Conv" && before->op != "Gemm"))
            part(a.name, b, "want " + a.op + ", which cannot have been folded into a layer before it");
        const Shape shape{own_tensors_.at(a.inputs[1]).numel()};
        const float epsilon = a.find("epsilon")->real;
        for (const auto& [input, value] : {std::pair{1, 1.0f}, {2, 0.0f}, {3, 0.0f}, {4, 1 - epsilon}})
            assign(a.inputs[static_cast<std::size_t>(input)], full(shape, static_cast<double>(value)));
        match_.folded.push_back(a.name);
        bias_home_[a.inputs[0]] = a.inputs[2];
        todo.emplace_back(a.inputs[0], p.second);
    }
    void bias(const OnnxNode& a, const std::string& value, const OnnxNode& b, std::size_t input) {
        const auto home = bias_home_.find(value);
        if (a.inputs.size() == 3)
            assign(a.inputs[2], b, input);
        else if (home != bias_home_.end())
            assign(home->second, b, input);
        else
            part(a.name, &b, "it has a bias, the network's has none");
    }
    void convolution(const OnnxNode& a, const OnnxNode& b, const std::string& value) {
        same_window(a, b);
        const Tensor* w = tensor(b, 1);
        if (!w || w->shape() != own_shape(a.inputs[1]))
            part(a.name, &b,
                 "its weight is " + (w ? w->shape().str() : "computed") + ", want " + own_shape(a.inputs[1]).str());
        assign(a.inputs[1], b.inputs[1]);
        if (b.inputs.size() == 3 && !b.inputs[2].empty()) bias(a, value, b, 2);
    }
    void linear(const OnnxNode& a, const OnnxNode& b, const std::string& value, std::vector<Pair>& todo) {
        const OnnxNode* product = &b;
        if (b.op == "Add") {  // MatMul and Add stand for one Gemm
            const std::size_t at = tensor(b, 0) ? 0 : 1;
            if (!tensor(b, at) || b.inputs.size() != 2) part(a.name, &b, "want the bias of a linear layer");
            bias(a, value, b, at);
            product = their_node(b.inputs[1 - at]);
            if (!product || product->op != "MatMul") part(a.name, product, "want MatMul");
        } else if (b.inputs.size() == 3 && !b.inputs[2].empty()) {
            bias(a, value, b, 2);
        } else if (a.inputs.size() == 3) {
            assign(a.inputs[2], full(own_shape(a.inputs[2]), 0));
        }
        const Shape& want = own_shape(a.inputs[1]);
        const bool transposed = product->op == "Gemm" && product->integer_or("transB", 0) != 0;
        for (const char* factor : {"alpha", "beta"})
            if (const OnnxAttribute* f = product->find(factor); f && f->real != 1)
                part(a.name, product, concat("its ", factor, " is ", f->real, ", want 1"));
        const Tensor* w = tensor(*product, 1);
        if (product->integer_or("transA", 0) != 0 || !w || w->rank() != 2 ||
            w->shape() != (transposed ? want : Shape{want[1], want[0]}))
            part(a.name, product,
                 "its weight is " + (w ? w->shape().str() : "computed") + ", want [out, in] " + want.str());
        assign(a.inputs[1], product->inputs[1]);
        if (!transposed) match_.state[a.inputs[1]] = transpose(*w);
        todo.emplace_back(a.inputs[0], product->inputs[0]);
    }
    Tensor transpose(const Tensor& w) const {
        BF_CHECK_DATA(w.dtype() == DType::f32, name_, "weight of a linear layer; got ", w.str(), ", want f32");
        Tensor t = Tensor::empty({w.dim(1), w.dim(0)});
        for (std::int64_t i = 0; i < w.dim(0); ++i)
            for (std::int64_t j = 0; j < w.dim(1); ++j)
                t.data<float>()[j * w.dim(0) + i] = w.data<float>()[i * w.dim(1) + j];
        return t;
    }
    void same_window(const OnnxNode& a, const OnnxNode& b) const {
        const OnnxAttribute* automatic = b.find("auto_pad");
        if (automatic && automatic->text != "NOTSET") part(a.name, &b, "auto_pad " + automatic->text);
        for (const char* key : {"strides", "pads", "dilations"})
            if (window(a, key) != window(b, key)) part(a.name, &b, concat("other ", key));
        if (a.op == "Conv" ? a.integer_or("group", 1) != b.integer_or("group", 1)
                           : a.find("kernel_shape")->integers != window(b, "kernel_shape"))
            part(a.name, &b, a.op == "Conv" ? "another number of groups" : "another window");
    }
    static std::vector<std::int64_t> window(const OnnxNode& n, const std::string& key) {
        if (const OnnxAttribute* a = n.find(key)) return a->integers;
        if (key == "pads") return {0, 0, 0, 0};
        return {1, 1};
    }

    /// The two operands of the file may stand in the other order.
    void two_values(const OnnxNode& a, const OnnxNode& b, std::vector<Pair>& todo) {
        if (b.inputs.size() != 2 || own_tensors_.count(a.inputs[1])) part(a.name, &b, "want two computed values");
        constexpr int far = 5;
        const auto alike = [&](std::size_t first) {
            return similar(a.inputs[0], b.inputs[first], far) && similar(a.inputs[1], b.inputs[1 - first], far);
        };
        const bool swapped = !alike(0) && alike(1);
        todo.emplace_back(a.inputs[0], b.inputs[swapped ? 1 : 0]);
        todo.emplace_back(a.inputs[1], b.inputs[swapped ? 0 : 1]);
    }
    /// True where the next `depth` nodes of two values could be the same; nothing is assigned.
    bool similar(const std::string& ours, const std::string& theirs, int depth) const {
        const OnnxNode *a = find(ours_, ours), *b = their_node(theirs);
        if (depth == 0) return true;
        if (!a || !b) return !a && (!b || by_constant(*b));
        if (a->op == "BatchNormalization" && b->op != a->op) return similar(a->inputs[0], theirs, depth);
        if (a->op != b->op || b->inputs.size() < a->inputs.size()) return false;
        if (a->op == "Add")
            return (similar(a->inputs[0], b->inputs[0], depth - 1) && similar(a->inputs[1], b->inputs[1], depth - 1)) ||
                   (similar(a->inputs[0], b->inputs[1], depth - 1) && similar(a->inputs[1], b->inputs[0], depth - 1));
        const Tensor* w = tensor(*b, 1);
        if (const auto own = a->inputs.size() > 1 ? own_tensors_.find(a->inputs[1]) : own_tensors_.end();
            own != own_tensors_.end() && (!w || w->numel() != own->second.numel()))
            return false;
        return similar(a->inputs[0], b->inputs[0], depth - 1);
    }

    std::string name_;
    const OnnxModel& file_;
    OnnxModel own_;
    StateDict state_;
    std::unordered_map<std::string, const OnnxNode*> theirs_, ours_;
    std::unordered_map<std::string, Tensor> tensors_, own_tensors_;
    std::unordered_map<std::string, std::string> bias_home_;  ///< value of the network: the parameter for its bias
    std::set<std::string> used_;
    OnnxMatch match_;
};

}  // namespace detail

/// Finds a network's parameters in the model of another program, first by their names; where exporters have renamed
/// them or have folded batch norms into convolutions, by walking both graphs side by side. `sample` is the shape of one
/// input. `name` stands for the file in errors: a data Error says at which layer and node the two part.
inline OnnxMatch match_onnx(const OnnxModel& file, Module& net, const Shape& sample, const std::string& name) {
    return detail::OnnxMatcher(file, net, sample, name).run();
}

}  // namespace bf
