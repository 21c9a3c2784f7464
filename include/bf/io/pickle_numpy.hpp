#pragma once
#include <array>
#include <optional>

#include "bf/io/pickle.hpp"
#include "bf/io/printable.hpp"

// NumPy's arrays and scalars inside pickles: numpy 1 and 2, protocols 0 to 5.

namespace bf {

/// What a pickle with NumPy arrays of plain numbers names, beside Python's own.
inline constexpr std::array<std::string_view, 11> numpy_globals{"numpy ndarray",
                                                                "numpy dtype",
                                                                "numpy.core.multiarray _reconstruct",
                                                                "numpy._core.multiarray _reconstruct",
                                                                "numpy.core.multiarray scalar",
                                                                "numpy._core.multiarray scalar",
                                                                "numpy.core.numeric _frombuffer",
                                                                "numpy._core.numeric _frombuffer",
                                                                "_codecs encode",
                                                                "collections OrderedDict",
                                                                "numpy bool_"};

/// A NumPy array of bytes (u1) or booleans (b1).
struct PickledArray {
    std::string dtype;  ///< "u1" or "b1"
    std::uint64_t count = 0;
    int rank = 0;
    PickleValue data;  ///< a string of `count` bytes, elements in order
};

/// The name of a numpy dtype value, such as "u1"; empty if it is none.
inline std::string pickled_dtype(const PickleValue& v) {
    if (!v.is(PickleKind::call) || !v.names("numpy dtype") || v.item(1).size() < 1 || !v.item(1).item(0).is_string())
        return "";
    return v.item(1).item(0).text(64);
}

/// The array that `v` describes, or nothing if it is none; a data Error named `name` where its parts do not fit.
inline std::optional<PickledArray> pickled_array(const PickleValue& v, const std::string& name) {
    if (!v.is(PickleKind::call)) return {};
    const bool rebuilt =
        v.names("numpy.core.multiarray _reconstruct") || v.names("numpy._core.multiarray _reconstruct");
    const bool buffer = v.names("numpy.core.numeric _frombuffer") || v.names("numpy._core.numeric _frombuffer");
    if (!rebuilt && !buffer) return {};
    // _reconstruct(...) with the state (version, shape, dtype, fortran, data); _frombuffer(data, dtype, shape, order)
    const PickleValue parts = v.item(rebuilt ? 2 : 1);
    BF_CHECK_DATA(parts.is(PickleKind::tuple) && parts.size() == (rebuilt ? 5u : 4u), name, "damaged numpy array");
    const PickleValue shape = parts.item(rebuilt ? 1 : 2), data = parts.item(rebuilt ? 4 : 0);
    PickledArray a{pickled_dtype(parts.item(rebuilt ? 2 : 1)), 1, static_cast<int>(shape.size()), data};
    BF_CHECK_DATA(a.dtype == "u1" || a.dtype == "b1", name, "numpy array of dtype ", printable(a.dtype),
                  "; want uint8 or bool; hint: in Python, x.astype(numpy.uint8)");
    BF_CHECK_DATA(shape.is(PickleKind::tuple) && shape.size() <= 4 && data.is(PickleKind::bytes), name,
                  "damaged numpy array");
    for (std::size_t i = 0; i < shape.size(); ++i) {
        const std::int64_t dim = shape.item(i).integer();
        BF_CHECK_DATA(
            dim >= 0 && dim <= 0xFFFFFFFF && (dim == 0 || a.count <= 0xFFFFFFFFu / static_cast<std::uint64_t>(dim)),
            name, "damaged shape of a numpy array");
        a.count *= static_cast<std::uint64_t>(dim);
    }
    BF_CHECK_DATA(a.count <= data.size(), name, "numpy array of ", a.count, " bytes; got ", data.size());
    return a;
}

/// The bytes of an array, checked against its shape.
inline std::vector<std::byte> bytes_of(const PickledArray& a, const std::string& name) {
    std::vector<std::byte> bytes = a.data.content();
    BF_CHECK_DATA(bytes.size() == a.count, name, "numpy array of ", a.count, " bytes; got ", bytes.size());
    return bytes;
}

/// A boolean: Python's, an integer, or a numpy scalar of dtype b1; nothing if it is none of them.
inline std::optional<bool> pickled_bool(const PickleValue& v) {
    if (v.is(PickleKind::boolean) || v.is(PickleKind::integer)) return v.integer() != 0;
    if (v.is(PickleKind::call) &&
        (v.names("numpy.core.multiarray scalar") || v.names("numpy._core.multiarray scalar")) &&
        v.item(1).size() == 2 && pickled_dtype(v.item(1).item(0)) == "b1" && v.item(1).item(1).is(PickleKind::bytes)) {
        const auto bytes = v.item(1).item(1).size() <= 8 ? v.item(1).item(1).content() : std::vector<std::byte>{};
        if (bytes.size() == 1) return bytes[0] != std::byte{0};
    }
    return {};
}

}  // namespace bf
