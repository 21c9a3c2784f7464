#pragma once
#include <map>
#include <string>
#include <vector>

#include "bf/core/tensor.hpp"

// What bf writes (onnx_writer.hpp) and reads (onnx.hpp) of the ONNX format. Source: onnx.proto and Operators.md of
// github.com/onnx/onnx.

namespace bf {

/// Number of an element type (TensorProto.DataType).
enum class OnnxType : std::uint8_t { f32 = 1, u8 = 2, i32 = 6, i64 = 7, boolean = 9, f16 = 10, f64 = 11, bf16 = 16 };

/// What decides a node's result beside its inputs. `type` says which member holds it.
struct OnnxAttribute {
    enum class Type : std::uint8_t { real = 1, integer = 2, text = 3, integers = 7, other = 255 };
    std::string name;
    Type type = Type::other;  ///< other: a tensor, a graph or a list of something else, which is not kept
    float real = 0;
    std::int64_t integer = 0;
    std::string text{};
    std::vector<std::int64_t> integers{};
};

/// A node of a graph; an empty input is one that was left out.
struct OnnxNode {
    std::string op, name;
    std::vector<std::string> inputs, outputs;
    std::vector<OnnxAttribute> attributes{};

    /// nullptr: there is none of that name
    const OnnxAttribute* find(const std::string& key) const {
        for (const OnnxAttribute& a : attributes)
            if (a.name == key) return &a;
        return nullptr;
    }
    std::int64_t integer_or(const std::string& key, std::int64_t otherwise) const {
        const OnnxAttribute* a = find(key);
        return a ? a->integer : otherwise;
    }
};

/// An input or output of a graph.
struct OnnxValue {
    std::string name;
    OnnxType type = OnnxType::f32;
    std::vector<std::string> shape{};  ///< a number, or a name for what may be of any size: {"batch", "3", ...}
};

/// A model: nodes in an order in which they can run, and the tensors that they name.
struct OnnxModel {
    std::int64_t opset = 17;
    std::string graph = "bf", producer = "bf";
    std::vector<OnnxNode> nodes{};
    std::vector<std::pair<std::string, Tensor>> initialisers{};
    std::vector<OnnxValue> inputs{}, outputs{};
    std::map<std::string, std::string> metadata{};
};

}  // namespace bf
