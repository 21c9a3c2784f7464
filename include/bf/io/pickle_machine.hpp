#pragma once
#include "bf/io/pickle.hpp"
#include "bf/io/printable.hpp"

// The machine behind Pickle: one pass over the opcodes (Python's pickletools.py names and describes them).

namespace bf {

class PickleMachine {
  public:
    PickleMachine(const Source& source, const PickleOptions& options, Pickle& out)
        : source_(source), options_(options), out_(out), budget_(PickleLimits::memory + source.size()) {
        out_.nodes_ = {{PickleKind::none}, {PickleKind::boolean}, {PickleKind::boolean}, {PickleKind::tuple}};
        out_.nodes_[yes].a = 1;
    }
    void run() {
        for (std::uint64_t count = 1;; ++count) {
            if (count > PickleLimits::opcodes) bad(concat("more than ", PickleLimits::opcodes, " opcodes"));
            count_ = count;
            if (frame_end_ == at_) frame_end_ = 0;
            opcode_at_ = at_;
            opcode_ = static_cast<unsigned char>(number<std::uint8_t>());
            if (opcode_ == '.') break;
            step();
        }
        if (stack_.size() != 1 || !marks_.empty()) bad(concat("ends with ", stack_.size(), " values; want one"));
        if (at_ != source_.size()) bad(concat("ends here, but ", source_.size() - at_, " bytes follow"));
        out_.root_ = stack_[0];
        check_tree();
    }

  private:
    using Kind = PickleKind;
    using Coding = Pickle::Coding;
    static constexpr std::uint32_t none = 0, no = 1, yes = 2, empty_tuple = 3, unset = 0xFFFFFFFFu;

    [[noreturn]] void bad(const std::string& what) const {
        fail(ErrorCode::data, source_.name(), "pickle at byte ", opcode_at_, ": ", what);
    }
    [[noreturn]] void refuse_global(const std::string& name) const {
        bad(concat("names ", printable(name), ", which is not among what is read here, and nothing is executed; hint: ",
                   options_.remedy.empty() ? "save plain data" : options_.remedy));
    }
    [[noreturn]] void refuse_opcode(const char* name, const std::string& what) const {
        bad(concat("opcode ", name, ": ", what,
                   ", which is not read here; hint: ", options_.remedy.empty() ? "save plain data" : options_.remedy));
    }
    /// Memory of values is counted, with room for a vector that grows.
    void spend(std::uint64_t bytes) {
        used_ += bytes;
        if (used_ > budget_) bad(concat("more values than a pickle of ", source_.size(), " bytes has any use for"));
    }

    // bytes
    std::uint64_t end() const { return frame_end_ ? frame_end_ : source_.size(); }
    /// Passes over `count` bytes; gives their offset.
    std::uint64_t skip(std::uint64_t count) {
        if (count > end() - at_)
            bad(concat("wants ", count, " bytes, but ", end() - at_, " are left in the ", frame_end_ ? "frame" : "file",
                       "; hint: is the file cut?"));
        const std::uint64_t from = at_;
        at_ += count;
        return from;
    }
    /// Sees to it that the bytes [from, from + count) are in the window; they must be there.
    const std::byte* see(std::uint64_t from, std::size_t count) {
        if (from < window_at_ || from + count > window_at_ + window_.size()) {
            window_.resize(static_cast<std::size_t>(std::min<std::uint64_t>(1 << 16, source_.size() - from)));
            window_at_ = from;
            source_.read(from, window_);
        }
        return window_.data() + (from - window_at_);
    }
    template <class T>
    T number() {
        const std::uint64_t from = skip(sizeof(T));
        T value;
        std::memcpy(&value, see(from, sizeof(T)), sizeof(T));
        return value;
    }
    /// The offset and size of the text up to a newline, which is passed over.
    std::pair<std::uint64_t, std::uint64_t> rest_of_line() {
        const std::uint64_t from = at_;
        while (std::to_integer<char>(*see(skip(1), 1)) != '\n') continue;
        return {from, at_ - 1 - from};
    }
    std::string line() {
        const auto [from, size] = rest_of_line();
        if (size > PickleLimits::line) bad(concat("a line of ", size, " bytes; want at most ", PickleLimits::line));
        const auto bytes = source_.bytes(from, size);
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
    template <class T>
    T parsed(std::string_view text) const {
        T value{};
        const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        if (error != std::errc() || stop != text.data() + text.size())
            bad(concat("not a number; got ", printable(text)));
        return value;
    }

    // values
    std::uint32_t add(Kind kind, std::uint64_t a, std::uint64_t count = 0, Coding coding = Coding::plain) {
        if (count > 0xFFFFFFFFu) bad(concat("a value of ", count, " bytes; want less than 4 GiB"));
        spend(2 * sizeof(Pickle::Node));  // and as much to check it
        out_.nodes_.push_back({kind, coding, static_cast<std::uint32_t>(count), a});
        return static_cast<std::uint32_t>(out_.nodes_.size() - 1);
    }
    void push(std::uint32_t node) {
        stack_.push_back(node);
        if (stack_.size() > peak_) {
            peak_ = stack_.size();
            spend(sizeof(std::uint32_t));
        }
    }
    std::uint32_t top() const {
        if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) bad("takes a value where there is none");
        return stack_.back();
    }
    std::uint32_t pop() {
        const std::uint32_t node = top();
        stack_.pop_back();
        return node;
    }
    std::size_t pop_mark() {
        if (marks_.empty()) bad("takes a mark where there is none");
        const std::size_t from = marks_.back();
        marks_.pop_back();
        return from;
    }
    std::span<const std::uint32_t> above(std::size_t from) const { return std::span(stack_).subspan(from); }
    Pickle::Node& node(std::uint32_t i) { return out_.nodes_[i]; }
    void string(Kind kind, std::uint64_t size) { push(add(kind, skip(size), size)); }
    std::uint32_t keep(Kind kind, std::span<const std::uint32_t> items) {
        spend(items.size() * sizeof(std::uint32_t));
        out_.refs_.insert(out_.refs_.end(), items.begin(), items.end());
        return add(kind, out_.refs_.size() - items.size(), items.size());
    }
    /// A tuple of what lies above `from`, which it takes away.
    void tuple(std::size_t from) {
        const std::uint32_t made = from == stack_.size() ? empty_tuple : keep(Kind::tuple, above(from));
        stack_.resize(from);
        push(made);
    }
    void fixed_tuple(std::size_t count) {
        if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < count) bad("takes a value where there is none");
        tuple(stack_.size() - count);
    }
    std::uint32_t container(Kind kind) {
        spend(64);  // a vector and its first items
        out_.lists_.emplace_back();
        return add(kind, out_.lists_.size() - 1);
    }
    void extend(std::uint32_t to, Kind kind, std::span<const std::uint32_t> items) {
        if (node(to).kind != kind)
            bad(kind == Kind::list ? "appends to what is no list" : "sets items of what is no dict");
        if (kind == Kind::dict && items.size() % 2) bad("a key without a value");
        spend(items.size() * sizeof(std::uint32_t));
        auto& all = out_.lists_[node(to).a];
        all.insert(all.end(), items.begin(), items.end());
    }
    /// Extends the container below `from` by what lies above it.
    void extend_below(std::size_t from, Kind kind) {
        if (from == 0 || from <= (marks_.empty() ? 0 : marks_.back())) bad("takes a value where there is none");
        extend(stack_[from - 1], kind, above(from));
        stack_.resize(from);
    }
    void memoize(std::uint64_t place) {
        // picklers number their memos in turn: no place is beyond the number of opcodes so far
        if (place > count_) bad(concat("memo place ", place, " after ", count_, " opcodes"));
        if (place >= memo_.size()) {
            spend((place + 1 - memo_.size()) * sizeof(std::uint32_t));
            memo_.resize(static_cast<std::size_t>(place + 1), unset);
        }
        memo_[static_cast<std::size_t>(place)] = top();
    }
    void recall(std::uint64_t place) {
        if (place >= memo_.size() || memo_[static_cast<std::size_t>(place)] == unset)
            bad(concat("memo place ", place, " is empty"));
        push(memo_[static_cast<std::size_t>(place)]);
    }
    void global(const std::string& name) {
        const auto found = std::find(options_.globals.begin(), options_.globals.end(), name);
        if (found == options_.globals.end()) refuse_global(name);
        push(add(Kind::global, static_cast<std::uint64_t>(found - options_.globals.begin())));
    }
    void reduce() {
        const std::uint32_t arguments = pop(), callee = pop();
        if (node(callee).kind != Kind::global) bad("calls what is no global");
        if (node(arguments).kind != Kind::tuple) bad("calls with what is no tuple");
        const PickleValue f(out_, callee), args(out_, arguments);
        if (f.names("collections OrderedDict")) return ordered_dict(args);
        if (f.names("_codecs encode")) return encode(args);
        push(keep(Kind::call, std::array{callee, arguments, none}));
    }
    /// OrderedDict() of Python 3, OrderedDict([[key, value], ...]) of Python 2: a dict.
    void ordered_dict(const PickleValue& args) {
        const std::uint32_t made = container(Kind::dict);
        if (args.size() > 1) bad("OrderedDict of several arguments");
        if (args.size() == 1) {
            const PickleValue pairs = args.item(0);
            if (!pairs.is(Kind::list) && !pairs.is(Kind::tuple)) bad("OrderedDict of what is no list");
            for (const std::uint32_t pair : std::vector(pairs_of(pairs))) {
                const auto items = out_.items(pair);
                if (items.size() != 2) bad("OrderedDict of what are no pairs");
                extend(made, Kind::dict, std::array{items[0], items[1]});
            }
        }
        push(made);
    }
    std::vector<std::uint32_t> pairs_of(const PickleValue& list) const {
        const auto items = out_.items(list.node_);
        return {items.begin(), items.end()};
    }
    /// encode(text, "latin1"): how bytes are written by Python 3 for protocols 0 to 2.
    void encode(const PickleValue& args) {
        if (args.size() != 2 || !args.item(0).is(Kind::text) || !args.item(1).is_string())
            bad("_codecs encode: want a text and the name latin1");
        if (const std::string how = args.item(1).text(16); how != "latin1" && how != "latin-1")
            bad(concat("_codecs encode: got ", printable(how), ", want latin1"));
        const Pickle::Node text = args.item(0).node();
        push(add(Kind::bytes, text.a, text.count,
                 text.coding == Coding::escaped ? Coding::latin1_escaped : Coding::latin1));
    }
    void build() {
        const std::uint32_t state = pop(), target = top();
        if (node(target).kind == Kind::dict) return;  // attributes of an OrderedDict, such as _metadata
        if (node(target).kind != Kind::call) bad("sets the state of what has none");
        std::uint32_t& place = out_.refs_[node(target).a + 2];
        if (place != none) bad("sets a state twice");
        place = state;
    }
    void integer_of(std::uint64_t size) {
        if (size > 8) bad(concat("an integer of ", size, " bytes; want at most 8"));
        const std::uint64_t from = skip(size);
        std::uint64_t value = 0;
        if (size) std::memcpy(&value, see(from, static_cast<std::size_t>(size)), static_cast<std::size_t>(size));
        if (size && size < 8 && (value >> (8 * size - 1)) & 1) value |= ~std::uint64_t{0} << (8 * size);
        push(add(Kind::integer, value));
    }
    void integer(std::int64_t value) { push(add(Kind::integer, static_cast<std::uint64_t>(value))); }
    void quoted_string() {
        const auto [from, size] = rest_of_line();
        const auto quote = size < 2 ? std::byte{0} : source_.number<std::byte>(from);
        if ((quote != std::byte{'\''} && quote != std::byte{'"'}) ||
            source_.number<std::byte>(from + size - 1) != quote)
            bad("a string without quotes");
        push(add(Kind::bytes, from + 1, size - 2, Coding::quoted));
    }
    void frame() {
        const auto size = number<std::uint64_t>();
        if (frame_end_) bad("a frame inside a frame");
        if (size > source_.size() - at_)
            bad(concat("a frame of ", size, " bytes, but ", source_.size() - at_, " are left; hint: is the file cut?"));
        frame_end_ = at_ + size;
    }
    void step();
    void check_tree() const;

    const Source& source_;
    const PickleOptions& options_;
    Pickle& out_;
    std::uint64_t budget_, used_ = 0, count_ = 0, at_ = 0, frame_end_ = 0, opcode_at_ = 0, window_at_ = 0;
    unsigned char opcode_ = 0;
    std::vector<std::byte> window_;
    std::vector<std::uint32_t> stack_, memo_;
    std::vector<std::size_t> marks_;
    std::size_t peak_ = 0;
};

inline void PickleMachine::step() {
    switch (opcode_) {
        case 0x80: {  // PROTO
            const int protocol = number<std::uint8_t>();
            if (protocol > 5 || opcode_at_ != 0) bad(concat("protocol ", protocol, "; want at most 5, at the start"));
            return;
        }
        case 0x95: return frame();
        case '(':
            if (marks_.size() == PickleLimits::marks) bad(concat("more than ", PickleLimits::marks, " open marks"));
            return marks_.push_back(stack_.size());
        case '0':
            if (!marks_.empty() && marks_.back() == stack_.size())
                marks_.pop_back();
            else
                pop();
            return;
        case '1': return stack_.resize(pop_mark());
        case '2': return push(top());
        case 'N': return push(none);
        case 0x88: return push(yes);
        case 0x89: return push(no);
        // numbers
        case 'I': {
            const std::string text = line();
            if (text == "00" || text == "01") return push(text == "01" ? yes : no);
            return integer(parsed<std::int64_t>(text));
        }
        case 'L': {
            std::string text = line();
            if (!text.empty() && text.back() == 'L') text.pop_back();
            return integer(parsed<std::int64_t>(text));
        }
        case 'F': return push(add(Kind::real, std::bit_cast<std::uint64_t>(parsed<double>(line()))));
        case 'G': {  // big-endian
            auto bits = number<std::uint64_t>();
            std::uint64_t value = 0;
            for (int i = 0; i < 8; ++i, bits >>= 8) value = (value << 8) | (bits & 255);
            return push(add(Kind::real, value));
        }
        case 'J': return integer(number<std::int32_t>());
        case 'K': return integer(number<std::uint8_t>());
        case 'M': return integer(number<std::uint16_t>());
        case 0x8a: return integer_of(number<std::uint8_t>());
        case 0x8b: return integer_of(number<std::uint32_t>());
        // strings; those of Python 2 are bytes
        case 'S': return quoted_string();
        case 'V': {
            const auto [from, size] = rest_of_line();
            return push(add(Kind::text, from, size, Coding::escaped));
        }
        case 'T':
        case 'B': return string(Kind::bytes, number<std::uint32_t>());
        case 'U':
        case 'C': return string(Kind::bytes, number<std::uint8_t>());
        case 0x8e:
        case 0x96: return string(Kind::bytes, number<std::uint64_t>());
        case 'X': return string(Kind::text, number<std::uint32_t>());
        case 0x8c: return string(Kind::text, number<std::uint8_t>());
        case 0x8d: return string(Kind::text, number<std::uint64_t>());
        // containers
        case ')': return push(empty_tuple);
        case ']': return push(container(Kind::list));
        case '}': return push(container(Kind::dict));
        case 't': return tuple(pop_mark());
        case 0x85:
        case 0x86:
        case 0x87: return fixed_tuple(opcode_ - 0x84u);
        case 'l':
        case 'd': {
            const std::size_t from = pop_mark();
            const Kind kind = opcode_ == 'l' ? Kind::list : Kind::dict;
            const std::uint32_t made = container(kind);
            extend(made, kind, above(from));
            stack_.resize(from);
            return push(made);
        }
        case 'a': {
            const std::uint32_t item = pop();
            return extend(top(), Kind::list, std::array{item});
        }
        case 's': {
            const std::uint32_t value = pop(), key = pop();
            return extend(top(), Kind::dict, std::array{key, value});
        }
        case 'e': return extend_below(pop_mark(), Kind::list);
        case 'u': return extend_below(pop_mark(), Kind::dict);
        // memo
        case 'p': return memoize(parsed<std::uint64_t>(line()));
        case 'q': return memoize(number<std::uint8_t>());
        case 'r': return memoize(number<std::uint32_t>());
        case 0x94: return memoize(memo_.size());
        case 'g': return recall(parsed<std::uint64_t>(line()));
        case 'h': return recall(number<std::uint8_t>());
        case 'j': return recall(number<std::uint32_t>());
        // names and calls
        case 'c': {
            const std::string module = line();
            return global(module + " " + line());
        }
        case 0x93: {  // STACK_GLOBAL
            const PickleValue name(out_, pop()), module(out_, pop());
            if (!module.is(Kind::text) || !name.is(Kind::text)) bad("STACK_GLOBAL of what are no texts");
            return global(module.text(PickleLimits::line) + " " + name.text(PickleLimits::line));
        }
        case 'R': return reduce();
        case 'b': return build();
        case 'Q':
            if (!options_.persistent) refuse_opcode("BINPERSID", "a reference outside the pickle");
            return push(keep(Kind::persistent, std::array{pop()}));
        // what stays refused, by name
        case 'i': {
            const std::string module = line(), name = line();
            refuse_opcode("INST", concat("an instance of ", printable(module + " " + name)));
        }
        case 'o': refuse_opcode("OBJ", "an instance of a class");
        case 'P': refuse_opcode("PERSID", concat("a reference outside the pickle, ", printable(line())));
        case 0x81: refuse_opcode("NEWOBJ", "an instance of a class");
        case 0x92: refuse_opcode("NEWOBJ_EX", "an instance of a class");
        case 0x82:
        case 0x83:
        case 0x84: refuse_opcode("EXT", "a name from copyreg's registry");
        case 0x8f:
        case 0x90:
        case 0x91: refuse_opcode("EMPTY_SET, ADDITEMS, FROZENSET", "a set");
        case 0x97:
        case 0x98: refuse_opcode("NEXT_BUFFER, READONLY_BUFFER", "a buffer outside the pickle");
        default: bad(concat("no opcode has the number ", static_cast<int>(opcode_), "; hint: is it a pickle?"));
    }
}

/// No value is inside itself, nesting is bounded, and so is what shared values unfold to.
inline void PickleMachine::check_tree() const {
    struct Seen {
        std::uint32_t depth = 0;  ///< 0: not yet; unset: being looked at
        std::uint32_t values = 1;
    };
    struct Open {
        std::uint32_t node;
        std::size_t next = 0;
    };
    std::vector<Seen> seen(out_.nodes_.size());
    std::vector<Open> path{{out_.root_}};
    seen[out_.root_].depth = unset;
    std::vector<std::uint32_t> deepest{0};
    while (!path.empty()) {
        Open& open = path.back();
        const auto items = out_.items(open.node);
        if (open.next < items.size()) {
            const std::uint32_t item = items[open.next];
            const Seen& s = seen[item];
            if (s.depth == unset) bad("a value inside itself");
            if (s.depth == 0) {
                if (path.size() == PickleLimits::depth) bad(concat("nested deeper than ", PickleLimits::depth));
                seen[item].depth = unset;
                path.push_back({item});
                deepest.push_back(0);
                continue;
            }
            ++open.next;
            deepest.back() = std::max(deepest.back(), s.depth);
            Seen& mine = seen[open.node];
            if (std::uint64_t{mine.values} + s.values > PickleLimits::unfolded)
                bad(concat("shared values unfold to more than ", PickleLimits::unfolded));
            mine.values += s.values;
        } else {
            seen[open.node].depth = deepest.back() + 1;
            if (seen[open.node].depth + path.size() - 1 > PickleLimits::depth)
                bad(concat("nested deeper than ", PickleLimits::depth));
            path.pop_back();
            deepest.pop_back();
        }
    }
}

inline Pickle::Pickle(const Source& source, const PickleOptions& options)
    : source_(&source), globals_(options.globals) {
    PickleMachine(source, options, *this).run();
}

}  // namespace bf
