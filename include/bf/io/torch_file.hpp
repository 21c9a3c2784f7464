#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "bf/io/elements.hpp"
#include "bf/io/pickle_numpy.hpp"
#include "bf/io/safetensors.hpp"
#include "bf/io/zip.hpp"

// PyTorch's .pth and .pt: a zip archive NAME/data.pkl (a pickle that describes tensors), NAME/data/KEY (the elements of
// a storage, stored), NAME/byteorder. Nothing in it is executed.

namespace bf {

namespace detail {

inline constexpr std::pair<std::string_view, ElementType> torch_storages[] = {
    {"torch FloatStorage", ElementType::f32}, {"torch DoubleStorage", ElementType::f64},
    {"torch HalfStorage", ElementType::f16},  {"torch BFloat16Storage", ElementType::bf16},
    {"torch LongStorage", ElementType::i64},  {"torch IntStorage", ElementType::i32},
    {"torch ByteStorage", ElementType::u8},   {"torch BoolStorage", ElementType::boolean},
    {"torch ShortStorage", ElementType::i16}, {"torch CharStorage", ElementType::i8}};

/// What a file of weights may name. Beside tensors these are plain values that training loops keep next to them.
inline constexpr auto torch_globals = [] {
    constexpr std::array<std::string_view, 4> own{"torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter",
                                                  "torch Size", "torch device"};
    std::array<std::string_view, own.size() + std::size(torch_storages) + numpy_globals.size()> all{};
    std::size_t n = 0;
    for (const auto name : own) all[n++] = name;
    for (const auto& [name, type] : torch_storages) all[n++] = name;
    for (const auto name : numpy_globals) all[n++] = name;
    return all;
}();

inline constexpr std::string_view torch_remedy =
    "in Python, load the file where it comes from and save its weights alone: torch.save(model.state_dict(), "
    "\"w.pth\")";

/// A reader of one archive.
class TorchFile {
  public:
    explicit TorchFile(const Source& source)
        : name_(source.name()), zip_(source), most_(3 * source.size() + (std::uint64_t{8} << 20)) {
        const ZipEntry* description = nullptr;
        for (const ZipEntry& e : zip_.entries())
            if (e.name.ends_with("/data.pkl") && e.name.find('/') == e.name.size() - 9) {
                BF_CHECK_DATA(!description, name_, "holds two descriptions: ", printable(description->name), " and ",
                              printable(e.name));
                description = &e;
            }
        BF_CHECK_DATA(description, name_, "is a zip archive, but no PyTorch file: no NAME/data.pkl in it");
        folder_ = description->name.substr(0, description->name.size() - 8);
        BF_CHECK_DATA(!zip_.find(folder_ + "constants.pkl"), name_, "is a TorchScript program; hint: ", torch_remedy);
        if (const ZipEntry* order = zip_.find(folder_ + "byteorder")) {
            const auto bytes = zip_.bytes(*order);
            BF_CHECK_DATA(bytes.size() == 6 && std::memcmp(bytes.data(), "little", 6) == 0, name_,
                          "byteorder; want little; hint: ", torch_remedy);
        }
        text_ = zip_.bytes(*description);
        memory_ = std::make_unique<MemorySource>(text_, concat(name_, ": ", printable(description->name)));
        pickle_.emplace(*memory_, PickleOptions{.globals = torch_globals, .persistent = true, .remedy = torch_remedy});
    }

    std::map<std::string, Tensor> tensors() {
        PickleValue dict = pickle_->root();
        static constexpr std::string_view usual[] = {
            "state_dict", "state_dict_backbone", "model_state_dict", "model",  "net", "network",
            "backbone",   "params_ema",          "params",           "weights"};
        for (int level = 0; level < 3 && !holds_tensors(dict); ++level) {
            bool deeper = false;
            for (const std::string_view key : usual)
                if (const auto [found, value] = dict.find(key); found && value.is(PickleKind::dict)) {
                    dict = value;
                    deeper = true;
                    break;
                }
            if (!deeper) break;
        }
        BF_CHECK_DATA(holds_tensors(dict), name_,
                      "holds no tensors by name, neither at the top nor under state_dict, "
                      "model_state_dict, model, net, network, backbone, params or weights; hint: ",
                      torch_remedy);
        std::map<std::string, Tensor> all;
        for (std::size_t i = 0; i + 1 < dict.size(); i += 2) {
            const auto parts = tensor_parts(dict.item(i + 1));
            if (!parts) continue;  // a step count or the like beside the tensors
            const std::string key = dict.item(i).text(1024);
            BF_CHECK_DATA(printable(key, 1024) == key, name_, "a name with control characters: ", printable(key));
            BF_CHECK_DATA(!all.count(key), name_, key, ": is there twice");
            all[key] = read(key, *parts);
        }
        return all;
    }

  private:
    struct Storage {
        ElementType type;
        SliceSource bytes;
    };
    /// (storage, offset, size, stride, ...) of a tensor or parameter; nothing for other values.
    static std::optional<PickleValue> tensor_parts(PickleValue v) {
        if (v.is(PickleKind::call) && v.names("torch._utils _rebuild_parameter") && v.item(1).size() >= 1)
            v = v.item(1).item(0);
        if (!v.is(PickleKind::call) || !v.names("torch._utils _rebuild_tensor_v2")) return {};
        return v.item(1);
    }
    static bool holds_tensors(const PickleValue& dict) {
        if (!dict.is(PickleKind::dict)) return false;
        for (std::size_t i = 0; i + 1 < dict.size(); i += 2)
            if (dict.item(i).is_string() && tensor_parts(dict.item(i + 1))) return true;
        return false;
    }
    /// ("storage", type, key, location, number of elements)
    const Storage& storage(const std::string& tensor, const PickleValue& reference) {
        const bool good = reference.is(PickleKind::persistent) && reference.item(0).is(PickleKind::tuple) &&
                          reference.item(0).size() == 5 && reference.item(0).item(0).is_string() &&
                          reference.item(0).item(0).text(16) == "storage" &&
                          reference.item(0).item(1).is(PickleKind::global) && reference.item(0).item(2).is_string();
        BF_CHECK_DATA(good, name_, tensor, ": damaged reference to a storage");
        const PickleValue id = reference.item(0);
        const auto* known = std::find_if(std::begin(torch_storages), std::end(torch_storages),
                                         [&id](const auto& s) { return s.first == id.item(1).global(); });
        BF_CHECK_DATA(known != std::end(torch_storages), name_, tensor, ": ", id.item(1).global(), " is no storage");
        const std::string key = id.item(2).text(64);
        const std::uint64_t bytes = size_of(known->second);
        auto found = storages_.find(key);
        if (found == storages_.end()) {
            const ZipEntry* e = zip_.find(folder_ + "data/" + key);
            BF_CHECK_DATA(e, name_, tensor, ": the archive has no ", printable(folder_ + "data/" + key));
            found = storages_.emplace(key, Storage{known->second, zip_.stored(*e)}).first;
        }
        const std::int64_t elements = id.item(4).integer();
        BF_CHECK_DATA(found->second.type == known->second && elements >= 0 &&
                          static_cast<std::uint64_t>(elements) <= found->second.bytes.size() / bytes,
                      name_, tensor, ": storage ", printable(key), "; got ", elements, " elements of ",
                      id.item(1).global(), ", want at most the ", found->second.bytes.size(), " bytes of its entry");
        return found->second;
    }
    Tensor read(const std::string& tensor, const PickleValue& parts);

    std::string name_;
    ZipArchive zip_;
    std::uint64_t most_, held_ = 0;  ///< bytes of all tensors together
    std::string folder_;
    std::vector<std::byte> text_;
    std::unique_ptr<MemorySource> memory_;
    std::optional<Pickle> pickle_;
    std::map<std::string, Storage> storages_;
};

inline Tensor TorchFile::read(const std::string& tensor, const PickleValue& parts) {
    BF_CHECK_DATA(parts.size() >= 4 && parts.item(2).is(PickleKind::tuple) && parts.item(3).is(PickleKind::tuple) &&
                      parts.item(2).size() == parts.item(3).size(),
                  name_, tensor, ": damaged description of a tensor");
    const Storage& from = storage(tensor, parts.item(0));
    const PickleValue sizes = parts.item(2), strides = parts.item(3);
    BF_CHECK_DATA(sizes.size() <= static_cast<std::size_t>(Shape::max_rank), name_, tensor, ": got ", sizes.size(),
                  " dimensions, want at most ", Shape::max_rank);
    const std::uint64_t element = size_of(from.type), elements = from.bytes.size() / element,
                        made = size_of(dtype_for(from.type)), room = (most_ - held_) / made;
    const std::int64_t offset = parts.item(1).integer();
    BF_CHECK_DATA(offset >= 0, name_, tensor, ": storage offset; got ", offset);
    Shape shape;
    std::array<std::uint64_t, Shape::max_rank> stride{};
    std::uint64_t count = 1;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        const std::int64_t dim = sizes.item(i).integer(), step = strides.item(i).integer();
        BF_CHECK_DATA(dim >= 0 && step >= 0, name_, tensor, ": dimension ", i, "; got size ", dim, " and stride ", step,
                      ", want none below 0");
        shape.push_back(dim);
        stride[i] = static_cast<std::uint64_t>(step);
        BF_CHECK_DATA(dim == 0 || count <= room / static_cast<std::uint64_t>(dim), name_, tensor,
                      ": tensors unfold to more than ", most_, " bytes (three times the file + 8 MiB)");
        count *= static_cast<std::uint64_t>(dim);
    }
    held_ += count * made;
    Tensor t = Tensor::empty(shape, {.dtype = dtype_for(from.type)});
    if (count == 0) return t;
    // the last element that is looked at, and whether they lie one after the other
    std::uint64_t last = static_cast<std::uint64_t>(offset), dense = 1;
    bool contiguous = true;
    for (int i = shape.rank() - 1; i >= 0; --i) {
        const auto at = static_cast<std::size_t>(i);
        const auto steps = static_cast<std::uint64_t>(shape[i] - 1);
        BF_CHECK_DATA(last < elements && (steps == 0 || stride[at] <= (elements - 1 - last) / steps), name_, tensor,
                      ": ", shape.str(), " with these strides from element ", offset, " on leaves its storage of ",
                      elements, " elements");
        last += steps * stride[at];
        contiguous = contiguous && (steps == 0 || stride[at] == dense);
        dense *= static_cast<std::uint64_t>(shape[i]);
    }
    BF_CHECK_DATA(last < elements, name_, tensor, ": element ", last, " of a storage of ", elements);
    auto* out = static_cast<std::byte*>(t.host());
    const std::uint64_t begin = static_cast<std::uint64_t>(offset) * element;
    if (contiguous) {
        std::vector<std::byte> in(static_cast<std::size_t>(std::min<std::uint64_t>(count * element, 1 << 18)));
        for (std::uint64_t done = 0; done < count;) {
            const std::uint64_t n = std::min<std::uint64_t>(in.size() / element, count - done);
            from.bytes.read(begin + done * element, std::span(in).first(static_cast<std::size_t>(n * element)));
            convert_elements(from.type, in.data(), static_cast<std::size_t>(n), out + done * made);
            done += n;
        }
        return t;
    }
    // the stretch of the storage is read at once, unless it is much longer than what is wanted of it
    const std::uint64_t stretch = last + 1 - static_cast<std::uint64_t>(offset);
    const bool sparse = stretch / 16 > count;
    std::vector<std::byte> in = from.bytes.bytes(begin, sparse ? element : stretch * element);
    std::array<std::int64_t, Shape::max_rank> place{};
    std::uint64_t at = 0;
    for (std::uint64_t k = 0; k < count; ++k) {
        if (sparse) from.bytes.read(begin + at * element, in);
        convert_elements(from.type, in.data() + (sparse ? 0 : at * element), 1, out + k * made);
        for (int i = shape.rank() - 1; i >= 0; --i) {
            const auto d = static_cast<std::size_t>(i);
            at += stride[d];
            if (++place[d] < shape[i]) break;
            at -= stride[d] * static_cast<std::uint64_t>(shape[i]);
            place[d] = 0;
        }
    }
    return t;
}

}  // namespace detail

/// Reads the tensors of a .pth or .pt by name: a state dict at the top, or under one of the usual keys (state_dict,
/// model, ...; up to three deep). Dense copies whatever their strides; dtypes as dtype_for(): f16 becomes f32, bf16 and
/// i64 stay. A data Error names what is refused: any other global, a TorchScript program, the format before
/// PyTorch 1.6. All tensors together take at most three times the file + 8 MiB. Link bf::images.
inline SafeTensors load_torch_file(const Source& source) {
    if (source.size() >= 2 && source.number<std::uint8_t>(0) == 0x80 && source.number<std::uint8_t>(1) <= 5)
        fail(ErrorCode::data, source.name(),
             "is a bare pickle: PyTorch's format before version 1.6, or no weights; hint: in Python, "
             "torch.save(torch.load(\"old.pth\", map_location=\"cpu\", weights_only=True), \"new.pth\")");
    BF_CHECK_DATA(ZipArchive::is_zip(source), source.name(), "is no PyTorch file; want a zip archive");
    SafeTensors out;
    out.tensors = detail::TorchFile(source).tensors();
    return out;
}
inline SafeTensors load_torch_file(const std::filesystem::path& path) { return load_torch_file(FileSource(path)); }

}  // namespace bf
