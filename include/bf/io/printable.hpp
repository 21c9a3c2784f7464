#pragma once
#include <string>
#include <string_view>

namespace bf {

/// Text out of a file for a message: control characters become '?', and what is long is cut.
inline std::string printable(std::string_view text, std::size_t most = 200) {
    std::string out(text.substr(0, most));
    for (char& c : out)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    return text.size() > most ? out + "..." : out;
}

}  // namespace bf
