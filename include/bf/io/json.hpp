#pragma once
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bf/base/error.hpp"

namespace bf {

/// A JSON value: null, boolean, number, string, array or object.
struct Json {
    enum class Kind { null, boolean, number, string, array, object };
    Kind kind = Kind::null;
    bool boolean = false;
    double number = 0;
    std::string string;  ///< the text; for a number, its digits as written
    std::vector<Json> array;
    std::map<std::string, Json> object;

    bool is(Kind k) const { return kind == k; }
    /// The member of that name, or nullptr.
    const Json* find(const std::string& key) const {
        const auto it = object.find(key);
        return it == object.end() ? nullptr : &it->second;
    }
    double number_or(const std::string& key, double otherwise) const {
        const Json* v = find(key);
        return v && v->is(Kind::number) ? v->number : otherwise;
    }
    std::string string_or(const std::string& key, const std::string& otherwise) const {
        const Json* v = find(key);
        return v && v->is(Kind::string) ? v->string : otherwise;
    }
    /// A whole number >= 0 that fits 63 bits, or -1.
    std::int64_t whole() const {
        std::int64_t value = -1;
        if (!is(Kind::number)) return -1;
        const auto [end, error] = std::from_chars(string.data(), string.data() + string.size(), value);
        return error == std::errc() && end == string.data() + string.size() && value >= 0 ? value : -1;
    }
};

namespace detail {

class JsonParser {
  public:
    JsonParser(std::string_view text, std::string name) : text_(text), name_(std::move(name)) {}

    Json parse() {
        Json value = read(0);
        blank();
        if (at_ != text_.size()) bad("text after the value");
        return value;
    }

  private:
    [[noreturn]] void bad(const std::string& what) const {
        fail(ErrorCode::data, name_, "not valid JSON: ", what, " at byte ", at_);
    }
    void blank() {
        while (at_ < text_.size() &&
               (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
            ++at_;
    }
    char next() {
        if (at_ >= text_.size()) bad("text ends early");
        return text_[at_++];
    }
    void expect(std::string_view word) {
        if (text_.substr(at_, word.size()) != word) bad("unknown word");
        at_ += word.size();
    }
    Json read(int depth) {
        if (depth > 32) bad("nested deeper than 32");
        blank();
        Json v;
        const char c = next();
        if (c == '{') {
            v.kind = Json::Kind::object;
            blank();
            if (at_ < text_.size() && text_[at_] == '}') {
                ++at_;
                return v;
            }
            for (;;) {
                blank();
                if (next() != '"') bad("want a key in quotes");
                std::string key = text();
                blank();
                if (next() != ':') bad("want a colon");
                if (!v.object.try_emplace(key, read(depth + 1)).second) bad("key \"" + key + "\" stands twice");
                blank();
                const char d = next();
                if (d == '}') return v;
                if (d != ',') bad("want a comma or a brace");
            }
        }
        if (c == '[') {
            v.kind = Json::Kind::array;
            blank();
            if (at_ < text_.size() && text_[at_] == ']') {
                ++at_;
                return v;
            }
            for (;;) {
                v.array.push_back(read(depth + 1));
                blank();
                const char d = next();
                if (d == ']') return v;
                if (d != ',') bad("want a comma or a bracket");
            }
        }
        --at_;
        if (c == '"') {
            ++at_;
            v.kind = Json::Kind::string;
            v.string = text();
        } else if (c == 't' || c == 'f') {
            v.kind = Json::Kind::boolean;
            v.boolean = c == 't';
            expect(c == 't' ? "true" : "false");
        } else if (c == 'n') {
            expect("null");
        } else {
            v.kind = Json::Kind::number;
            const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v.number);
            if (error != std::errc() || c == '+' || !std::isfinite(v.number)) bad("want a value");
            const auto length = static_cast<std::size_t>(end - text_.data()) - at_;
            v.string = std::string(text_.substr(at_, length));
            at_ += length;
        }
        return v;
    }
    /// The rest of a string after its opening quote.
    std::string text() {
        std::string out;
        for (;;) {
            const char c = next();
            if (c == '"') return out;
            if (static_cast<unsigned char>(c) < 0x20) bad("control character in a string");
            if (c != '\\') {
                out += c;
                continue;
            }
            const char e = next();
            switch (e) {
                case 'n': out += '\n'; break;
                case 't': out += '\t'; break;
                case 'r': out += '\r'; break;
                case 'b': out += '\b'; break;
                case 'f': out += '\f'; break;
                case '"':
                case '\\':
                case '/': out += e; break;
                case 'u': {
                    unsigned code = 0;
                    for (int i = 0; i < 4; ++i) {
                        const char h = next();
                        const int digit = h >= '0' && h <= '9'                 ? h - '0'
                                          : (h | 32) >= 'a' && (h | 32) <= 'f' ? (h | 32) - 'a' + 10
                                                                               : -1;
                        if (digit < 0) bad("bad \\u escape");
                        code = code * 16 + static_cast<unsigned>(digit);
                    }
                    if (code < 0x80) {
                        out += static_cast<char>(code);
                    } else if (code < 0x800) {
                        out += static_cast<char>(0xC0 | (code >> 6));
                        out += static_cast<char>(0x80 | (code & 63));
                    } else {
                        out += static_cast<char>(0xE0 | (code >> 12));
                        out += static_cast<char>(0x80 | ((code >> 6) & 63));
                        out += static_cast<char>(0x80 | (code & 63));
                    }
                    break;
                }
                default: bad("unknown escape");
            }
        }
    }

    std::string_view text_;
    std::string name_;
    std::size_t at_ = 0;
};

}  // namespace detail

/// Parses JSON strictly: no duplicate keys, no depth over 32, nothing after the value. `name` is used in errors.
inline Json parse_json(std::string_view text, const std::string& name) {
    return detail::JsonParser(text, name).parse();
}

/// "text" with what JSON asks to escape.
inline std::string json_quote(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
            out += code;
        } else {
            out += c;
        }
    }
    return out + "\"";
}

/// A range of texts as a JSON array.
template <class Texts>
std::string json_list(const Texts& texts) {
    std::string list;
    for (const std::string& text : texts) list += (list.empty() ? "" : ",") + json_quote(text);
    return "[" + list + "]";
}

/// The shortest digits that read back as the same double; null when not finite.
inline std::string json_number(double value) {
    if (!std::isfinite(value)) return "null";
    char digits[40];
    const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
    return std::string(digits, end);
}

}  // namespace bf
