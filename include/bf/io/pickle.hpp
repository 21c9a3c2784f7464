#pragma once
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bf/io/source.hpp"

// Python's pickles as plain data (protocols 0 to 5). A pickle is a program; here it can make values and name
// whitelisted globals, and a call of one stays a description. Everything else is refused by name. Strings stay in the
// source.

namespace bf {

enum class PickleKind : std::uint8_t {
    none,
    boolean,
    integer,
    real,
    bytes,
    text,
    list,
    tuple,
    dict,
    global,      ///< a whitelisted name
    call,        ///< a whitelisted name applied to a tuple, perhaps with a state; nothing is run
    persistent,  ///< what the pickler left to its user (BINPERSID): item 0
};

struct PickleOptions {
    std::span<const std::string_view> globals{};  ///< "module name", with one blank; must outlive the Pickle
    bool persistent = false;                      ///< BINPERSID is allowed
    std::string_view remedy{};                    ///< ends the message when a global is refused
};

/// Bounds of any pickle.
struct PickleLimits {
    static constexpr std::uint64_t opcodes = 4'000'000;
    static constexpr std::uint64_t memory = std::uint64_t{4} << 20;  ///< bytes of values, and the source's size more
    static constexpr std::uint64_t unfolded = 16'000'000;            ///< values, each as often as it is referred to
    static constexpr std::size_t depth = 64, marks = 256, line = 256;
};

class PickleValue;

/// The values of one pickle. Source and PickleOptions::globals must outlive it.
class Pickle {
  public:
    /// Reads the pickle that `source` is, to its last byte; a data Error names source, byte and opcode.
    explicit Pickle(const Source& source, const PickleOptions& options = {});
    PickleValue root() const;

  private:
    friend class PickleValue;
    friend class PickleMachine;
    enum class Coding : std::uint8_t { plain, quoted, escaped, latin1, latin1_escaped };
    /// 16 bytes. a: the number's bits; the offset of a string; the place of a container's items; the name's place in
    /// PickleOptions::globals. count: of bytes or items.
    struct Node {
        PickleKind kind = PickleKind::none;
        Coding coding = Coding::plain;
        std::uint32_t count = 0;
        std::uint64_t a = 0;
    };
    std::span<const std::uint32_t> items(std::uint32_t node) const {
        const Node& n = nodes_[node];
        switch (n.kind) {
            case PickleKind::list:
            case PickleKind::dict: return lists_[n.a];
            case PickleKind::tuple:
            case PickleKind::call:
            case PickleKind::persistent: return std::span(refs_).subspan(n.a, n.count);
            default: return {};
        }
    }
    [[noreturn]] void bad(const std::string& what) const { fail(ErrorCode::data, source_->name(), what); }

    const Source* source_;
    std::span<const std::string_view> globals_;
    std::vector<Node> nodes_;
    std::vector<std::uint32_t> refs_;                ///< items of what does not grow
    std::vector<std::vector<std::uint32_t>> lists_;  ///< items of lists; keys and values of dicts in turn
    std::uint32_t root_ = 0;
};

/// One value of a Pickle, which must outlive it.
class PickleValue {
  public:
    PickleValue(const Pickle& pickle, std::uint32_t node) : pickle_(&pickle), node_(node) {}
    PickleKind kind() const { return node().kind; }
    bool is(PickleKind k) const { return kind() == k; }
    /// A boolean or integer.
    std::int64_t integer() const {
        if (!is(PickleKind::integer) && !is(PickleKind::boolean)) pickle_->bad("pickle: want an integer");
        return static_cast<std::int64_t>(node().a);
    }
    /// Number of items: of a tuple or list; keys and values of a dict; stored bytes of a string.
    std::uint64_t size() const { return is_string() ? node().count : pickle_->items(node_).size(); }
    /// Item i of a tuple or list; of a dict key, value, key, ...; of a call its global, arguments and state (or none).
    PickleValue item(std::size_t i) const {
        const auto all = pickle_->items(node_);
        if (i >= all.size()) pickle_->bad(concat("pickle: want at least ", i + 1, " items; got ", all.size()));
        return {*pickle_, all[i]};
    }
    /// True for a call, or a global itself, of that "module name".
    bool names(std::string_view name) const {
        if (is(PickleKind::call)) return item(0).names(name);
        return is(PickleKind::global) && pickle_->globals_[node().a] == name;
    }
    /// "module name" of a global.
    std::string_view global() const {
        if (!is(PickleKind::global)) pickle_->bad("pickle: want a global");
        return pickle_->globals_[node().a];
    }
    bool is_string() const { return is(PickleKind::bytes) || is(PickleKind::text); }
    /// A short string (at most `most` bytes), as UTF-8.
    std::string text(std::uint32_t most = 4096) const {
        if (!is_string() || node().count > most)
            pickle_->bad(concat("pickle: want a string of at most ", most, " bytes"));
        const auto bytes = content();
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    /// The bytes of a string, read from the source now.
    std::vector<std::byte> content() const;
    /// The value of a text key of a dict, or none of the sort: found.first is false.
    std::pair<bool, PickleValue> find(std::string_view key) const {
        if (is(PickleKind::dict))
            for (std::size_t i = 0; i + 1 < size(); i += 2)
                if (const PickleValue k = item(i); k.is_string() && k.size() == key.size() && k.text() == key)
                    return {true, item(i + 1)};
        return {false, *this};
    }

  private:
    friend class PickleMachine;
    const Pickle::Node& node() const { return pickle_->nodes_[node_]; }
    const Pickle* pickle_;
    std::uint32_t node_;
};

inline PickleValue Pickle::root() const { return {*this, root_}; }

inline std::vector<std::byte> PickleValue::content() const {
    const Pickle::Node& n = node();
    if (!is_string()) pickle_->bad("pickle: want a string");
    std::vector<std::byte> raw = pickle_->source_->bytes(n.a, n.count);
    if (n.coding == Pickle::Coding::plain) return raw;
    // each of the codings is at least as long as what it stands for: decoded in place
    std::size_t at = 0, out = 0;
    const auto byte = [&]() -> unsigned {
        if (at == raw.size()) pickle_->bad(concat("pickle: string at byte ", n.a, " is damaged"));
        return std::to_integer<unsigned>(raw[at++]);
    };
    const auto number = [&](int digits, unsigned base) {
        unsigned value = 0;
        for (int i = 0; i < digits; ++i) {
            const unsigned c = byte(), lower = c | 32u;
            const unsigned digit = c >= '0' && c <= '9'           ? c - '0'
                                   : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
                                                                  : 99;
            if (digit >= base) pickle_->bad(concat("pickle: string at byte ", n.a, " has a damaged escape"));
            value = value * base + digit;
        }
        return value;
    };
    while (at < raw.size()) {
        unsigned c = byte();
        if (n.coding == Pickle::Coding::latin1) {
            if (c >= 0x80) {  // a code point up to 255 takes the two bytes 110000xx 10xxxxxx
                const unsigned next = byte();
                if ((c & 0xFCu) != 0xC0u || (next & 0xC0u) != 0x80u)
                    pickle_->bad(concat("pickle: string at byte ", n.a, " is not latin1"));
                c = ((c & 3u) << 6) | (next & 0x3Fu);
            }
        } else if (c == '\\' && n.coding == Pickle::Coding::quoted) {  // the repr of Python 2
            constexpr std::string_view from = "abfnrtv\\'\"", to = "\a\b\f\n\r\t\v\\'\"";
            c = byte();
            if (const std::size_t k = from.find(static_cast<char>(c)); k != std::string_view::npos)
                c = static_cast<unsigned char>(to[k]);
            else if (c == 'x')
                c = number(2, 16);
            else
                pickle_->bad(concat("pickle: string at byte ", n.a, " has an unknown escape"));
        } else if (c == '\\' && at < raw.size() && (raw[at] == std::byte{'u'} || raw[at] == std::byte{'U'})) {
            c = number(byte() == 'u' ? 4 : 8, 16);
            if (c > (n.coding == Pickle::Coding::escaped ? 127u : 255u))
                pickle_->bad(concat("pickle: string at byte ", n.a, " is not latin1"));
        }
        raw[out++] = static_cast<std::byte>(c);
    }
    raw.resize(out);
    return raw;
}

}  // namespace bf

#include "bf/io/pickle_machine.hpp"
