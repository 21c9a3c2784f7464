#pragma once
#include <charconv>

#include "bf/base/version.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/onnx_model.hpp"
#include "bf/io/protobuf.hpp"

namespace bf {

namespace detail {

/// What an opset's release of ONNX gives as version of the file format itself (onnx/docs/Versioning.md).
inline std::int64_t onnx_ir_version(std::int64_t opset) {
    BF_CHECK(opset == 11 || opset == 13 || opset == 17, "onnx", "opset; got ", opset, ", want 11, 13 or 17");
    return opset == 11 ? 6 : opset == 13 ? 7 : 8;
}
inline OnnxType onnx_type_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return OnnxType::f32;
        case DType::f64: return OnnxType::f64;
        case DType::bf16: return OnnxType::bf16;
        case DType::i32: return OnnxType::i32;
        case DType::i64: return OnnxType::i64;
        case DType::u8: return OnnxType::u8;
    }
    return OnnxType::f32;
}

inline ProtoWriter onnx_attribute(const OnnxAttribute& a) {
    using Type = OnnxAttribute::Type;
    ProtoWriter out;
    out.bytes(1, a.name);
    switch (a.type) {
        case Type::real: out.fixed32(2, a.real); break;
        case Type::integer: out.integer(3, a.integer); break;
        case Type::text: out.bytes(4, a.text); break;
        case Type::integers:
            for (const std::int64_t v : a.integers) out.integer(8, v);  // a proto2 list: not packed
            break;
        case Type::other: fail(ErrorCode::usage, "onnx", "attribute ", a.name, " has a type that is not written");
    }
    out.varint(20, static_cast<std::uint64_t>(a.type));
    return out;
}
inline ProtoWriter onnx_node(const OnnxNode& n) {
    ProtoWriter out;
    for (const std::string& name : n.inputs) out.bytes(1, name);
    for (const std::string& name : n.outputs) out.bytes(2, name);
    out.bytes(3, n.name);
    out.bytes(4, n.op);
    for (const OnnxAttribute& a : n.attributes) out.message(5, onnx_attribute(a));
    return out;
}
inline ProtoWriter onnx_value(const OnnxValue& v) {
    ProtoWriter shape, tensor, type, out;
    for (const std::string& d : v.shape) {
        ProtoWriter dim;
        std::int64_t size = 0;
        const auto [end, error] = std::from_chars(d.data(), d.data() + d.size(), size);
        if (error == std::errc() && end == d.data() + d.size())
            dim.integer(1, size);
        else
            dim.bytes(2, d);
        shape.message(1, dim);
    }
    tensor.varint(1, static_cast<std::uint64_t>(v.type));
    tensor.message(2, shape);
    type.message(1, tensor);
    out.bytes(1, v.name);
    out.message(2, type);
    return out;
}

}  // namespace detail

/// Writes a model atomically and gives the number of bytes. The tensors (in plain order, of any device) go to the file
/// one by one, so memory for at most one copy of one of them is taken. A usage Error for a file of 2 GiB or more, which
/// protobuf cannot hold.
inline std::uint64_t save_onnx(const std::filesystem::path& path, const OnnxModel& model) {
    constexpr std::uint64_t most = 0x7FFFFFFF;
    ProtoWriter graph;
    for (const OnnxNode& n : model.nodes) graph.message(1, detail::onnx_node(n));
    graph.bytes(2, model.graph);
    for (const OnnxValue& v : model.inputs) graph.message(11, detail::onnx_value(v));
    for (const OnnxValue& v : model.outputs) graph.message(12, detail::onnx_value(v));

    std::vector<std::string> heads;  // what stands in front of the bytes of each tensor
    std::uint64_t graph_size = graph.size();
    for (const auto& [name, t] : model.initialisers) {
        BF_CHECK(t.defined() && t.format() == Format::plain, "save_onnx", "tensor ", name,
                 " must be in plain order; got ", t.str());
        ProtoWriter tensor, head;
        for (const std::int64_t d : t.shape()) tensor.integer(1, d);
        tensor.varint(2, static_cast<std::uint64_t>(detail::onnx_type_of(t.dtype())));
        tensor.bytes(8, name);
        tensor.header(9, t.bytes());
        head.header(5, tensor.size() + t.bytes());
        heads.push_back(head.take() + tensor.take());
        graph_size += heads.back().size() + t.bytes();
        BF_CHECK(graph_size <= most, "save_onnx",
                 "the model is larger than the 2 GiB of an ONNX file without external "
                 "data; got ",
                 graph_size, " bytes up to ", name, "; hint: safetensors has no such limit");
    }
    ProtoWriter front;
    front.integer(1, detail::onnx_ir_version(model.opset));
    front.bytes(2, model.producer);
    front.bytes(3, version);
    ProtoWriter opset;
    opset.bytes(1, "");
    opset.integer(2, model.opset);
    front.message(8, opset);
    for (const auto& [key, value] : model.metadata) {
        ProtoWriter entry;
        entry.bytes(1, key);
        entry.bytes(2, value);
        front.message(14, entry);
    }
    front.header(7, graph_size);
    const std::uint64_t total = front.size() + graph_size;
    BF_CHECK(total <= most, "save_onnx", "the model is larger than the 2 GiB of an ONNX file; got ", total, " bytes");

    AtomicFile file(path);
    file.write(front.text());
    file.write(graph.text());
    for (std::size_t i = 0; i < heads.size(); ++i) {
        file.write(heads[i]);
        const Tensor here = model.initialisers[i].second.to(cpu_device);
        if (here.bytes()) file.write(here.host(), here.bytes());
    }
    file.commit();
    return total;
}

}  // namespace bf
