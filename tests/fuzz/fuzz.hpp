#pragma once
#include <sanitizer/allocator_interface.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <new>

#include "bf/io/source.hpp"

// What every fuzz target asks of a reader of bytes that nobody vouches for: it returns, or throws a bf::Error; it takes
// at most a second of processor time; and what it holds at any moment is at most 4x the input + 16 MiB.

namespace fuzz {

/// Bytes held by malloc and new in the whole process, and their peak; counted by the sanitizer's hooks.
struct Held {
    static inline std::atomic<std::int64_t> now{0}, peak{0};
    static void on_malloc(const volatile void*, std::size_t size) {
        const std::int64_t n = now.fetch_add(static_cast<std::int64_t>(size)) + static_cast<std::int64_t>(size);
        std::int64_t p = peak.load();
        while (n > p && !peak.compare_exchange_weak(p, n)) {
        }
    }
    static void on_free(const volatile void* p) {
        now.fetch_sub(static_cast<std::int64_t>(__sanitizer_get_allocated_size(const_cast<const void*>(p))));
    }
    static inline const bool counting = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) != 0;
};

/// Ends the process as libFuzzer expects a finding, with the reason.
[[noreturn]] inline void finding(const char* what, double got, double most) {
    std::fprintf(stderr, "fuzz: %s: got %g, want at most %g\n", what, got, most);
    std::abort();
}

/// Hands the input to `read(const bf::Source&)` under the limits above.
template <class Read>
int reader(const std::uint8_t* data, std::size_t size, Read&& read) {
    if (!Held::counting) finding("allocation hooks are missing", 0, 1);
    const bf::MemorySource source(std::as_bytes(std::span(data, size)), "input");
    const std::int64_t before = Held::now, limit = static_cast<std::int64_t>(4 * size) + (std::int64_t{16} << 20);
    Held::peak = before;
    const std::clock_t began = std::clock();
    try {
        read(source);
    } catch (const bf::Error& e) {
        if (e.code() != bf::ErrorCode::data && e.code() != bf::ErrorCode::usage) {
            std::fprintf(stderr, "fuzz: exit code %d for bad data: %s\n", static_cast<int>(e.code()), e.what());
            std::abort();
        }
    }
    const double seconds = static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC;
    if (seconds > 1) finding("processor seconds of one input", seconds, 1);
    if (Held::peak - before > limit)
        finding("bytes held at once", static_cast<double>(Held::peak - before), static_cast<double>(limit));
    return 0;
}

}  // namespace fuzz
