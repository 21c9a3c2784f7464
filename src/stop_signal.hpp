#pragma once
#include <csignal>

namespace bf::program {

/// Makes SIGINT and SIGTERM ask for a stop, for work that ends at a step of its own: the flag that the first one sets.
/// The second one ends the program at once.
inline const volatile std::sig_atomic_t* stop_on_signal() {
    static volatile std::sig_atomic_t asked = 0;
    for (const int number : {SIGINT, SIGTERM})
        std::signal(number, [](int received) {
            asked = 1;
            std::signal(received, SIG_DFL);
        });
    return &asked;
}

}  // namespace bf::program
