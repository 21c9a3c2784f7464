#pragma once
#include <cstring>
#include <unordered_set>

#include "bf/io/elements.hpp"
#include "bf/io/onnx_model.hpp"
#include "bf/io/protobuf.hpp"
#include "bf/io/safetensors.hpp"

namespace bf {

namespace detail {

/// Reads one file. Every count has a cap, so that memory stays within a few times the file: the smallest field of a
/// message takes two bytes, what becomes of it some hundred.
class OnnxReader {
  public:
    explicit OnnxReader(const Source& source) : source_(source) {}

    OnnxModel read() {
        std::optional<ProtoField> graph;
        ProtoReader r(source_);
        while (const auto f = r.next()) {
            if (f->number == 2) model_.producer = r.text(*f, most_text);
            if (f->number == 7) graph = f;
            if (f->number == 8) read_opset(r.message(*f));
            if (f->number == 14) read_metadata(r.message(*f));
        }
        BF_CHECK_DATA(graph, source_.name(), "holds no graph; hint: is it an ONNX model?");
        read_graph(r.message(*graph));
        std::erase_if(model_.inputs, [&](const OnnxValue& v) { return initialised_.count(v.name) != 0; });
        return std::move(model_);
    }

  private:
    static constexpr std::size_t most_text = 4096, most_nodes = 20'000, most_tensors = 20'000, most_names = 100'000,
                                 most_attributes = 40'000, most_metadata = 4096, most_varints = 500'000;

    void read_opset(ProtoReader r) {
        std::string domain;
        std::int64_t number = 0;
        while (const auto f = r.next()) {
            if (f->number == 1) domain = r.text(*f, most_text);
            if (f->number == 2) number = r.integer(*f);
        }
        if (domain.empty() || domain == "ai.onnx") model_.opset = number;
    }
    void read_metadata(ProtoReader r) {
        std::string key, value;
        while (const auto f = r.next()) {
            if (f->number == 1) key = r.text(*f, most_text);
            if (f->number == 2) value = r.text(*f, 1 << 20);
        }
        cap(model_.metadata.size(), most_metadata, "metadata entries");
        model_.metadata[key] = std::move(value);
    }
    void read_graph(ProtoReader r) {
        while (const auto f = r.next()) switch (f->number) {
                case 1: read_node(r.message(*f)); break;
                case 2: model_.graph = r.text(*f, most_text); break;
                case 5: {
                    auto [name, tensor] = read_tensor(r.message(*f), f->offset);
                    add(std::move(name), std::move(tensor), f->offset);
                    break;
                }
                case 11: model_.inputs.push_back(read_value(r.message(*f))); break;
                case 12: model_.outputs.push_back(read_value(r.message(*f))); break;
                case 15:
                    fail(ErrorCode::data, source_.name(), "a sparse tensor at byte ", f->offset,
                         "; want dense ones; hint: export the model without pruning");
                default: break;
            }
    }
    void add(std::string name, Tensor tensor, std::uint64_t at) {
        cap(model_.initialisers.size(), most_tensors, "tensors");
        BF_CHECK_DATA(initialised_.insert(name).second, source_.name(), "two tensors are named \"", name,
                      "\", the second at byte ", at);
        model_.initialisers.emplace_back(std::move(name), std::move(tensor));
    }

    void read_node(ProtoReader r) {
        cap(model_.nodes.size(), most_nodes, "nodes");
        OnnxNode n;
        std::string domain;
        std::optional<ProtoField> constant;
        while (const auto f = r.next()) switch (f->number) {
                case 1: n.inputs.push_back(name(r, *f)); break;
                case 2: n.outputs.push_back(name(r, *f)); break;
                case 3: n.name = r.text(*f, most_text); break;
                case 4: n.op = r.text(*f, most_text); break;
                case 5: n.attributes.push_back(read_attribute(r.message(*f), constant)); break;
                case 7: domain = r.text(*f, most_text); break;
                default: break;
            }
        if (!domain.empty() && domain != "ai.onnx") n.op += " of " + domain;
        if (n.op == "Constant" && constant && n.outputs.size() == 1)
            add(n.outputs[0], read_tensor(r.message(*constant), constant->offset).second, constant->offset);
        else
            model_.nodes.push_back(std::move(n));
    }
    /// `tensor` becomes the field of an attribute's tensor.
    OnnxAttribute read_attribute(ProtoReader r, std::optional<ProtoField>& tensor) {
        cap(attributes_++, most_attributes, "attributes");
        using Type = OnnxAttribute::Type;
        OnnxAttribute a;
        while (const auto f = r.next()) switch (f->number) {
                case 1: a.name = r.text(*f, most_text); break;
                case 2: a.real = r.f32(*f), a.type = Type::real; break;
                case 3: a.integer = r.integer(*f), a.type = Type::integer; break;
                case 4: a.text = r.text(*f, most_text), a.type = Type::text; break;
                case 5: tensor = f; break;
                case 8: {
                    const std::size_t before = a.integers.size();
                    r.append(*f, a.integers, before + (most_varints - varints_));
                    varints_ += a.integers.size() - before;
                    a.type = Type::integers;
                    break;
                }
                default: break;
            }
        return a;
    }
    OnnxValue read_value(ProtoReader r) {
        OnnxValue v;
        while (const auto f = r.next()) {
            if (f->number == 1) v.name = name(r, *f);
            if (f->number != 2) continue;
            ProtoReader type = r.message(*f);
            while (const auto t = type.next()) {
                if (t->number != 1) continue;  // want a tensor
                ProtoReader tensor = type.message(*t);
                while (const auto e = tensor.next()) {
                    if (e->number == 1) v.type = static_cast<OnnxType>(tensor.integer(*e));
                    if (e->number == 2) read_shape(tensor.message(*e), v.shape);
                }
            }
        }
        cap(model_.inputs.size() + model_.outputs.size(), most_tensors, "inputs and outputs");
        return v;
    }
    void read_shape(ProtoReader r, std::vector<std::string>& shape) {
        while (const auto f = r.next()) {
            if (f->number != 1) continue;
            cap(names_++, most_names, "names");
            ProtoReader dim = r.message(*f);
            std::string size = "?";
            while (const auto d = dim.next()) {
                if (d->number == 1) size = std::to_string(dim.integer(*d));
                if (d->number == 2) size = dim.text(*d, most_text);
            }
            shape.push_back(std::move(size));
        }
    }

    /// The values stand as raw bytes or in a list for their type (float_data, ...).
    std::pair<std::string, Tensor> read_tensor(const ProtoReader& r, std::uint64_t at) {
        std::string tensor_name;
        std::vector<std::int64_t> dims;
        std::int64_t type = 0;
        bool external = false, raw = false;
        for (ProtoReader pass = r; const auto f = pass.next();) {
            if (f->number == 1) pass.append(*f, dims, Shape::max_rank);
            if (f->number == 2) type = pass.integer(*f);
            if (f->number == 8) tensor_name = pass.text(*f, most_text);
            if (f->number == 9) raw = true;
            if (f->number == 13) external = true;
            if (f->number == 14) external = external || pass.integer(*f) == 1;
        }
        const std::string what = "tensor \"" + tensor_name + "\" at byte " + std::to_string(at);
        BF_CHECK_DATA(!external, source_.name(), what,
                      " keeps its values in another file; hint: onnx.save_model(onnx.load(path), path, "
                      "save_as_external_data=False) puts all into one");
        const auto kind = static_cast<OnnxType>(type);
        DType dtype = DType::f32;
        std::uint64_t each = 4;  // bytes of a raw value
        std::uint32_t list = 4;  // field of the list
        if (type > 0 && type < 256) switch (kind) {
                case OnnxType::f32: break;
                case OnnxType::f64: dtype = DType::f64, each = 8, list = 10; break;
                case OnnxType::i64: dtype = DType::i64, each = 8, list = 7; break;
                case OnnxType::i32: dtype = DType::i32, list = 5; break;
                case OnnxType::u8:
                case OnnxType::boolean: dtype = DType::u8, each = 1, list = 5; break;
                case OnnxType::f16: each = 2, list = 5; break;
                case OnnxType::bf16: dtype = DType::bf16, each = 2, list = 5; break;
                default: type = -1;
            }
        BF_CHECK_DATA(type > 0 && type < 256, source_.name(), what,
                      " has an element type that is not read; want f32, "
                      "f64, f16, bf16, i32, i64, u8 or bool; hint: is the model quantised? want one in f32");
        // the size is settled with what is there before memory is taken
        std::uint64_t there = 0;
        for (ProtoReader pass = r; const auto f = pass.next();)
            if (f->number == (raw ? 9 : list)) {
                BF_CHECK_DATA(!raw || (f->wire == ProtoWire::bytes && there == 0), source_.name(), what,
                              ": want one field of raw bytes");
                BF_CHECK_DATA(list == 5 || list == 7 || f->wire != ProtoWire::varint, source_.name(), what,
                              ": floats are kept as whole numbers");
                there += f->size;
            }
        Shape shape;
        std::uint64_t count = 1;
        for (const std::int64_t d : dims) {
            BF_CHECK_DATA(d >= 0 && (d == 0 || count <= there / static_cast<std::uint64_t>(d)), source_.name(), what,
                          ": its shape is larger than its ", there, " bytes of values; got dimension ", d);
            count *= static_cast<std::uint64_t>(d);
            shape.push_back(d);
        }
        const bool varints = !raw && (list == 5 || list == 7);
        BF_CHECK_DATA(varints || count * each == there, source_.name(), what, ": got ", there,
                      " bytes of values, want ", count * each, " for ", shape);
        if (varints) varints_ += static_cast<std::size_t>(count);
        cap(varints_, most_varints, "whole numbers");
        Tensor t = Tensor::empty(shape, {.dtype = dtype});
        if (varints)
            fill_from_varints(r, list, kind, t, what);
        else
            fill(r, raw ? 9 : list, kind, t);
        return {std::move(tensor_name), std::move(t)};
    }
    /// From raw bytes, or from the bytes of one or more lists of floats.
    void fill(ProtoReader r, std::uint32_t field, OnnxType kind, const Tensor& t) {
        if (t.numel() == 0) return;
        auto* out = static_cast<std::byte*>(t.host());
        // halves are read into the upper half of their place and spread from its start on
        std::size_t done = kind == OnnxType::f16 ? t.bytes() / 2 : 0;
        while (const auto f = r.next())
            if (f->number == field) {
                source_.read(f->offset, std::span(out + done, static_cast<std::size_t>(f->size)));
                done += static_cast<std::size_t>(f->size);
            }
        if (kind != OnnxType::f16) return;
        const auto n = static_cast<std::size_t>(t.numel());
        for (std::size_t i = 0; i < n; ++i) {
            std::uint16_t half;
            std::memcpy(&half, out + 2 * (n + i), 2);
            const float value = half_to_float(half);
            std::memcpy(out + 4 * i, &value, 4);
        }
    }
    void fill_from_varints(ProtoReader r, std::uint32_t field, OnnxType kind, const Tensor& t,
                           const std::string& what) {
        std::vector<std::int64_t> values;
        const auto n = static_cast<std::size_t>(t.numel());
        while (const auto f = r.next())
            if (f->number == field) r.append(*f, values, n);
        BF_CHECK_DATA(values.size() == n, source_.name(), what, ": got ", values.size(), " values, want ", n, " for ",
                      t.shape());
        for (std::size_t i = 0; i < n; ++i) {
            const std::int64_t v = values[i];
            if (kind == OnnxType::i64)
                t.data<std::int64_t>()[i] = v;
            else if (kind == OnnxType::i32)
                t.data<std::int32_t>()[i] = static_cast<std::int32_t>(v);
            else if (kind == OnnxType::f16)
                t.data<float>()[i] = half_to_float(static_cast<std::uint16_t>(v));
            else if (kind == OnnxType::bf16)
                t.data<bf16>()[i].bits = static_cast<std::uint16_t>(v);
            else
                t.data<std::uint8_t>()[i] = static_cast<std::uint8_t>(v);
        }
    }

    std::string name(const ProtoReader& r, const ProtoField& f) {
        cap(names_++, most_names, "names");
        return r.text(f, most_text);
    }
    void cap(std::size_t count, std::size_t most, const char* what) const {
        BF_CHECK_DATA(count <= most, source_.name(), "more than ", most, " ", what,
                      "; hint: that is no face network's file");
    }

    const Source& source_;
    OnnxModel model_;
    std::unordered_set<std::string> initialised_;
    std::size_t names_ = 0, attributes_ = 0, varints_ = 0;
};

}  // namespace detail

/// Reads a model: its nodes, and its tensors (initialisers and Constant nodes; f16 becomes f32, bool u8). A graph
/// inside an attribute (If, Loop) is not read. A data Error names file and byte: it is cut, keeps tensors in other
/// files, has sparse or quantised ones, or more of something than any network.
inline OnnxModel read_onnx(const Source& source) { return detail::OnnxReader(source).read(); }
inline OnnxModel read_onnx(const std::filesystem::path& path) { return read_onnx(FileSource(path)); }

/// The tensors of a model by the names of the file, and its metadata. Exporters often rename and fold them: then
/// match_onnx() (nn/onnx_match.hpp) finds out what is what.
inline SafeTensors load_onnx(const Source& source) {
    OnnxModel model = read_onnx(source);
    SafeTensors out{{}, std::move(model.metadata)};
    for (auto& [name, tensor] : model.initialisers) out.tensors[name] = std::move(tensor);
    return out;
}
inline SafeTensors load_onnx(const std::filesystem::path& path) { return load_onnx(FileSource(path)); }

}  // namespace bf
