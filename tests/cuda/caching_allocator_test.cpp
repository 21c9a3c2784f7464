// The allocators and the staging ring of the CUDA backend over a fake device.
#include "cuda/caching_allocator.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <random>
#include <thread>
#include <vector>

#include "cuda/staging.hpp"

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

/// A device of `limit` bytes whose addresses are numbers; nothing is ever written there.
struct FakeDevice {
    std::size_t limit = 1024 * mib, used = 0;
    std::uintptr_t next = std::uintptr_t{1} << 40;
    std::map<void*, std::size_t> live;
    std::vector<std::pair<int, int>> orders;
    int waits = 0, frees = 0, refused = 0;
    bool broken = false;
};
struct FakeRaw {
    using Stream = int;
    FakeDevice* d;
    void* allocate(std::size_t bytes) {
        if (d->broken) bf::fail(bf::ErrorCode::runtime, "fake", "the device is broken");
        if (d->used + bytes > d->limit) return ++d->refused, nullptr;
        void* p = reinterpret_cast<void*>(d->next);
        d->next += bytes;  // segments touch, as they may on a device: they must not join
        d->used += bytes;
        d->live[p] = bytes;
        return p;
    }
    void free(void* p, std::size_t bytes) {
        ASSERT_EQ(d->live.at(p), bytes);
        d->live.erase(p);
        d->used -= bytes;
        ++d->frees;
    }
    std::size_t free_bytes() { return d->limit - d->used; }
    void order(int from, int to) { d->orders.emplace_back(from, to); }
    void wait() { ++d->waits; }
};

class Allocator : public ::testing::Test {
  protected:
    FakeDevice device;
    bf::cuda::CachingAllocator<FakeRaw> a{FakeRaw{&device}};
    std::string error_of(std::size_t bytes) {
        try {
            a.allocate(bytes, 0);
        } catch (const bf::Error& e) {
            return e.what();
        }
        return "no error";
    }
};

TEST_F(Allocator, AFreedBlockIsHandedOutOnItsStreamAtOnce) {
    void* p = a.allocate(30 * mib, 1);
    a.deallocate(p, 1);
    EXPECT_EQ(a.allocate(30 * mib, 1), p);
    EXPECT_EQ(a.stats().system_calls, 1u);
    EXPECT_TRUE(device.orders.empty());
    EXPECT_EQ(device.waits, 0);
}

TEST_F(Allocator, AnotherStreamTakesNewMemoryAndOnlyInNeedAnothersWithAnOrder) {
    device.limit = 64 * mib;
    void* p = a.allocate(30 * mib, 1);
    a.deallocate(p, 1);
    void* q = a.allocate(30 * mib, 2);
    EXPECT_NE(q, p);
    EXPECT_TRUE(device.orders.empty());
    EXPECT_EQ(a.allocate(30 * mib, 2), p);  // the device is full
    EXPECT_EQ(device.orders, (std::vector<std::pair<int, int>>{{1, 2}}));
    EXPECT_EQ(device.frees, 0);
    // freed on the stream that used it last, it belongs to that one
    a.deallocate(p, 3);
    EXPECT_EQ(a.allocate(30 * mib, 3), p);
    EXPECT_EQ(device.orders.size(), 1u);
}

TEST_F(Allocator, CountersAndPeak) {
    EXPECT_NE(a.allocate(0, 0), nullptr);
    EXPECT_EQ(a.stats().in_use, 512u);
    void* p = a.allocate(21 * mib + 1, 0);
    const bf::MemoryStats one = a.stats();
    EXPECT_EQ(one.in_use, 512 + 22 * mib);  // less than 1 MiB would be left, so the segment is not split
    EXPECT_EQ(one.in_use + one.cached, device.used);
    a.deallocate(p, 0);
    EXPECT_EQ(a.stats().peak, one.in_use);
    EXPECT_EQ(a.largest_cached(), 22 * mib);
    a.reset_peak();
    EXPECT_EQ(a.stats().peak, 512u);
    a.release_cache();
    EXPECT_EQ(device.used, 2 * mib);  // the small segment holds a live block
    EXPECT_EQ(a.stats().cached, 2 * mib - 512);
    EXPECT_EQ(device.waits, 1);
}

TEST_F(Allocator, SmallAndLargeRequestsShareNoSegment) {
    void* large = a.allocate(8 * mib, 0);
    void* small = a.allocate(1000, 0);
    a.deallocate(large, 0);
    a.release_cache();
    EXPECT_EQ(device.used, 2 * mib);
    a.deallocate(small, 0);
    a.release_cache();
    EXPECT_EQ(device.used, 0u);
    EXPECT_EQ(a.stats().cached, 0u);
}

TEST_F(Allocator, ALargeBlockIsSplitAndItsPartsJoinAgain) {
    void* whole = a.allocate(60 * mib, 0);
    a.deallocate(whole, 0);
    std::vector<void*> parts;
    for (int i = 0; i < 3; ++i) parts.push_back(a.allocate(20 * mib, 0));
    EXPECT_EQ(a.stats().system_calls, 1u);
    for (const int i : {0, 2, 1}) a.deallocate(parts[static_cast<std::size_t>(i)], 0);
    EXPECT_EQ(a.largest_cached(), 60 * mib);
    EXPECT_EQ(a.allocate(60 * mib, 0), whole);
}

TEST_F(Allocator, NeighbouringSegmentsDoNotJoin) {
    void* p = a.allocate(30 * mib, 0);
    void* q = a.allocate(30 * mib, 0);
    a.deallocate(p, 0);
    a.deallocate(q, 0);
    EXPECT_EQ(a.largest_cached(), 30 * mib);
    a.release_cache();
    EXPECT_EQ(device.frees, 2);
}

TEST_F(Allocator, OutOfMemoryGivesTheCacheBackAndTriesAgain) {
    device.limit = 100 * mib;
    a.deallocate(a.allocate(60 * mib, 0), 0);
    EXPECT_NE(a.allocate(90 * mib, 0), nullptr);
    EXPECT_EQ(device.frees, 1);
    EXPECT_EQ(a.stats().cached, 0u);
    EXPECT_EQ(a.stats().in_use, 90 * mib);
}

TEST_F(Allocator, PartsOfTwoStreamsJoinWhenTheCacheIsGivenBack) {
    device.limit = 64 * mib;
    a.deallocate(a.allocate(60 * mib, 0), 0);
    void* p = a.allocate(30 * mib, 0);
    void* q = a.allocate(30 * mib, 0);
    a.deallocate(p, 0);
    a.deallocate(q, 1);
    EXPECT_EQ(a.largest_cached(), 30 * mib);
    EXPECT_NE(a.allocate(62 * mib, 0), nullptr);
    EXPECT_EQ(device.used, 62 * mib);
}

TEST_F(Allocator, ASegmentNearTheLimitHoldsTheRequestAlone) {
    device.limit = 6 * mib;
    EXPECT_NE(a.allocate(5 * mib, 0), nullptr);  // 20 MiB are not there
    EXPECT_EQ(device.used, 5 * mib);
}

TEST_F(Allocator, TheErrorOfOutOfMemoryHoldsTheNumbers) {
    device.limit = 100 * mib;
    void* p = a.allocate(40 * mib, 0);
    void* q = a.allocate(40 * mib, 0);
    a.deallocate(q, 0);
    q = a.allocate(30 * mib, 0);
    const std::string message = error_of(2048 * mib);
    EXPECT_EQ(message.find("allocate: the GPU is out of memory; wanted 2.00 GiB (2147483648 bytes), free 20.00 MiB "
                           "(20971520 bytes), in use 70.00 MiB (73400320 bytes), cached 10.00 MiB (10485760 bytes), "
                           "largest cached block 10.00 MiB (10485760 bytes); hint: "),
              0u)
        << message;
    EXPECT_NE(error_of(SIZE_MAX - 5).find("out of memory"), std::string::npos);
    // and what is there can still be had
    EXPECT_EQ(a.stats().in_use, 70 * mib);
    a.deallocate(p, 0);
    a.deallocate(q, 0);
    EXPECT_NE(a.allocate(98 * mib, 0), nullptr);
}

TEST_F(Allocator, AnErrorOfTheDeviceLeavesItIntact) {
    void* p = a.allocate(4 * mib, 0);
    const bf::MemoryStats before = a.stats();
    device.broken = true;
    EXPECT_NE(error_of(50 * mib).find("broken"), std::string::npos);
    EXPECT_EQ(a.stats().in_use, before.in_use);
    EXPECT_EQ(a.stats().cached, before.cached);
    device.broken = false;
    a.deallocate(p, 0);
    EXPECT_THROW(a.deallocate(p, 0), bf::Error);
    EXPECT_THROW(a.deallocate(&device, 0), bf::Error);
}

/// What a training step asks for: activations that live through it, temporaries of many sizes, the other way round.
TEST_F(Allocator, StepsOfOneShapeAllocateNothingAfterTheFirst) {
    device.limit = std::size_t{1} << 40;
    std::vector<std::size_t> sizes;
    std::mt19937 random(1);
    for (int i = 0; i < 300; ++i) sizes.push_back(std::size_t{1} << (random() % 27));
    const auto step = [&] {
        std::vector<void*> kept;
        for (const std::size_t s : sizes) {
            void* temporary = a.allocate(s / 3 + 1, 0);
            kept.push_back(a.allocate(s, 0));
            a.deallocate(temporary, 0);
        }
        while (!kept.empty()) {
            void* gradient = a.allocate(sizes[kept.size() - 1], 0);
            a.deallocate(kept.back(), 0);
            a.deallocate(gradient, 0);
            kept.pop_back();
        }
    };
    step();
    const bf::MemoryStats first = a.stats();
    EXPECT_EQ(first.in_use, 0u);
    EXPECT_LT(static_cast<double>(device.used), 1.15 * static_cast<double>(first.peak));
    for (int i = 0; i < 5; ++i) step();
    EXPECT_EQ(a.stats().system_calls, first.system_calls);
    // which rest is too small to split off depends on the cache
    EXPECT_LT(static_cast<double>(a.stats().peak), 1.01 * static_cast<double>(first.peak));
}

TEST_F(Allocator, LiveBlocksNeverOverlapAndFragmentationIsBounded) {
    device.limit = std::size_t{1} << 40;
    std::mt19937 random(7);
    struct Live {
        char* p;
        std::size_t bytes;
        int stream;
    };
    std::vector<Live> live;
    std::map<char*, std::size_t> ranges;
    for (int i = 0; i < 20000; ++i) {
        if (live.size() < 200 && random() % 2) {
            const std::size_t bytes = (std::size_t{1} << (random() % 26)) + random() % 1000;
            const int stream = random() % 8 == 0;
            char* p = static_cast<char*>(a.allocate(bytes, stream));
            ASSERT_EQ(reinterpret_cast<std::uintptr_t>(p) % 512, 0u);
            const auto after = ranges.lower_bound(p);
            ASSERT_TRUE(after == ranges.end() || p + bytes <= after->first);
            if (after != ranges.begin()) {
                ASSERT_LE(std::prev(after)->first + std::prev(after)->second, p);
            }
            ranges[p] = bytes;
            live.push_back({p, bytes, stream});
        } else if (!live.empty()) {
            std::swap(live[random() % live.size()], live.back());
            a.deallocate(live.back().p, live.back().stream);
            ranges.erase(live.back().p);
            live.pop_back();
        }
        const bf::MemoryStats s = a.stats();
        ASSERT_EQ(s.in_use + s.cached, device.used);
    }
    EXPECT_LT(static_cast<double>(device.used), 2.0 * static_cast<double>(a.stats().peak));
    for (const Live& l : live) a.deallocate(l.p, l.stream);
    EXPECT_EQ(a.stats().in_use, 0u);
    a.release_cache();
    EXPECT_EQ(device.used, 0u);
    EXPECT_TRUE(device.live.empty());
    EXPECT_EQ(a.stats().cached, 0u);
    EXPECT_EQ(a.largest_cached(), 0u);
}

TEST_F(Allocator, APoolReusesItsMemoryWithinTheCaptureAndKeepsItToItself) {
    const int pool = a.open_pool();
    void* p = a.allocate(30 * mib, 0);
    a.deallocate(p, 0);
    EXPECT_EQ(a.allocate(30 * mib, 0), p);
    void* temporary = a.allocate(3 * mib, 0);
    a.deallocate(temporary, 0);
    a.close_pool();
    EXPECT_EQ(a.stats().in_use, 50 * mib);  // the graph holds its segments, whatever lives in them
    EXPECT_EQ(a.stats().cached, 0u);
    EXPECT_EQ(a.largest_cached(), 0u);
    EXPECT_NE(a.allocate(3 * mib, 0), temporary);
    a.deallocate(p, 0);  // outlived the capture, dies later
    EXPECT_NE(a.allocate(30 * mib, 0), p);
    EXPECT_EQ(a.stats().in_use, 50 * mib + 33 * mib);
    a.drop_pool(pool);
    EXPECT_EQ(a.stats().in_use, 33 * mib);
    EXPECT_EQ(a.allocate(30 * mib, 0), p);
}

TEST_F(Allocator, APoolTakesFreeSegmentsOfTheCacheBeforeNewOnes) {
    void* whole = a.allocate(30 * mib, 0);
    void* part = a.allocate(12 * mib, 0);
    void* other = a.allocate(30 * mib, 1);
    a.deallocate(whole, 0);
    a.deallocate(other, 1);
    const auto calls = a.stats().system_calls;
    const int pool = a.open_pool();
    EXPECT_EQ(a.allocate(29 * mib, 0), whole);
    EXPECT_EQ(a.stats().system_calls, calls);
    // neither a segment of which something is in use nor one of another stream
    void* fresh = a.allocate(29 * mib, 0);
    EXPECT_NE(fresh, other);
    EXPECT_EQ(a.stats().system_calls, calls + 1);
    a.close_pool();
    a.drop_pool(pool);
    a.deallocate(part, 0);
}

TEST_F(Allocator, APoolOutlivesTheCacheAndTheNeedOfOtherStreams) {
    device.limit = 64 * mib;
    const int pool = a.open_pool();
    a.deallocate(a.allocate(30 * mib, 1), 1);
    a.close_pool();
    a.release_cache();
    EXPECT_EQ(device.used, 30 * mib);
    void* p = a.allocate(30 * mib, 2);
    EXPECT_NE(error_of(30 * mib).find("out of memory"), std::string::npos);  // rather than take it over
    EXPECT_EQ(device.used, 60 * mib);
    EXPECT_TRUE(device.orders.empty());
    a.deallocate(p, 2);
    a.drop_pool(pool);
    a.release_cache();
    EXPECT_EQ(device.used, 0u);
}

TEST_F(Allocator, WithAPoolOpenNothingWaitsForTheDevice) {
    device.limit = 64 * mib;
    void* left = a.allocate(10 * mib, 0);  // half a segment of 20 MiB stays in use
    a.deallocate(a.allocate(30 * mib, 1), 1);
    const int pool = a.open_pool();
    const std::string message = error_of(30 * mib);
    EXPECT_NE(message.find("hint: release_cache() before the capture"), std::string::npos) << message;
    EXPECT_EQ(device.waits, 0);
    EXPECT_EQ(device.frees, 0);
    EXPECT_TRUE(device.orders.empty());
    EXPECT_THROW(a.open_pool(), bf::Error);
    a.drop_pool(pool);  // a capture that went wrong
    EXPECT_NE(a.allocate(30 * mib, 0), nullptr);
    a.deallocate(left, 0);
}

TEST_F(Allocator, ABlockThatOutlivesItsPoolIsAnOrdinaryOne) {
    const int pool = a.open_pool();
    void* p = a.allocate(30 * mib, 0);
    void* q = a.allocate(4 * mib, 0);
    a.close_pool();
    a.deallocate(q, 0);
    a.drop_pool(pool);
    EXPECT_EQ(a.stats().in_use, 30 * mib);
    EXPECT_EQ(a.stats().cached, 20 * mib);
    a.deallocate(p, 0);
    EXPECT_EQ(a.allocate(30 * mib, 0), p);
    a.deallocate(p, 0);
    a.release_cache();
    EXPECT_EQ(device.used, 0u);
}

/// Captures, launches in thought, and what a program does beside them, against a model: while a graph lives, no address
/// that its capture was given goes to anyone else, and its segments stay.
TEST_F(Allocator, MemoryOfGraphsIsTheirsWhileTheyLive) {
    device.limit = 4096 * mib;
    std::mt19937 random(11);
    struct Live {
        char* p;
        std::size_t bytes;
        int stream;
    };
    using Ranges = std::map<char*, std::size_t>;
    const auto overlaps = [](const Ranges& ranges, char* p, std::size_t bytes) {
        const auto after = ranges.lower_bound(p);
        return (after != ranges.end() && after->first < p + bytes) ||
               (after != ranges.begin() && std::prev(after)->first + std::prev(after)->second > p);
    };
    std::vector<Live> live;
    Ranges in_use;
    struct Graph {
        int pool;
        std::vector<std::pair<char*, std::size_t>> given;
    };
    std::vector<Graph> graphs;
    bool open = false;
    int captures = 0, reused = 0, dropped_with_live = 0;
    const auto segment_of = [&](char* p) {
        const auto after = device.live.upper_bound(p);
        return after == device.live.begin() ? nullptr : std::prev(after)->first;
    };
    for (int i = 0; i < 30000; ++i) {
        const auto dice = random() % 1000;
        if (dice < 500 && live.size() < 120) {
            const std::size_t bytes = (std::size_t{1} << (random() % 25)) + random() % 1000;
            const int stream = open ? 0 : random() % 8 == 0;
            char* p = static_cast<char*>(a.allocate(bytes, stream));
            ASSERT_FALSE(overlaps(in_use, p, bytes));
            for (std::size_t g = 0; g < graphs.size(); ++g) {
                const bool own = open && g + 1 == graphs.size();
                for (const auto& [start, size] : graphs[g].given) {
                    const bool meets = start < p + bytes && p < start + size;
                    ASSERT_TRUE(own || !meets);
                    reused += own && meets;
                    // nor may the rest of such a segment be given away: it is the graph's to split anew
                    ASSERT_TRUE(own || segment_of(start) != segment_of(p));
                }
            }
            if (open) graphs.back().given.emplace_back(p, bytes);
            in_use[p] = bytes;
            live.push_back({p, bytes, stream});
        } else if (dice < 980 && !live.empty()) {
            std::swap(live[random() % live.size()], live.back());
            a.deallocate(live.back().p, live.back().stream);
            in_use.erase(live.back().p);
            live.pop_back();
        } else if (dice < 990) {
            if (open) {
                a.close_pool();
                open = false;
                ++captures;
            } else if (graphs.size() < 3) {
                graphs.push_back({a.open_pool(), {}});
                open = true;
            }
        } else if (dice < 995 && !graphs.empty()) {
            const std::size_t g = open || random() % 2 ? graphs.size() - 1 : 0;  // an open one: the capture is given up
            for (const auto& [start, size] : graphs[g].given) dropped_with_live += overlaps(in_use, start, size);
            a.drop_pool(graphs[g].pool);
            if (g + 1 == graphs.size()) open = false;
            graphs.erase(graphs.begin() + static_cast<std::ptrdiff_t>(g));
        } else if (!open) {
            a.release_cache();
        }
        const bf::MemoryStats s = a.stats();
        ASSERT_EQ(s.in_use + s.cached, device.used);
        ASSERT_LE(s.in_use, s.peak);
        for (const Graph& g : graphs)
            for (const auto& [start, size] : g.given) ASSERT_GE(device.live.at(segment_of(start)), size);
    }
    EXPECT_GT(captures, 20);
    EXPECT_GT(reused, 1000);
    EXPECT_GT(dropped_with_live, 100);
    for (const Graph& g : graphs) a.drop_pool(g.pool);
    for (const Live& l : live) a.deallocate(l.p, l.stream);
    EXPECT_EQ(a.stats().in_use, 0u);
    a.release_cache();
    EXPECT_EQ(device.used, 0u);
    EXPECT_EQ(a.stats().cached, 0u);
}

TEST_F(Allocator, ThreadsMayShareIt) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&, t] {
            for (int i = 0; i < 500; ++i) a.deallocate(a.allocate(static_cast<std::size_t>(i) * 4099, t), t);
        });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(a.stats().in_use, 0u);
    EXPECT_EQ(a.stats().cached, device.used);
}

struct Nothing {
    static constexpr const char* name = "sand";
    static void* allocate(std::size_t) { return nullptr; }
    static void free(void*) {}
};
TEST(HostAllocator, SaysWhatIsUsedUpAndCountsNothingForIt) {
    bf::HostAllocator<Nothing> none;
    try {
        none.allocate(100);
        FAIL();
    } catch (const bf::Error& e) {
        EXPECT_NE(std::string(e.what()).find("out of sand; wanted 128 bytes, in use 0 bytes"), std::string::npos);
    }
    EXPECT_EQ(none.stats().in_use, 0u);
    EXPECT_EQ(none.stats().system_calls, 0u);
}

/// Transfers that run late: each reads its buffer only when it is waited for.
struct LateLink {
    struct Transfer {
        int slot;
        char* to;
        std::size_t bytes;
    };
    std::vector<std::vector<char>> buffers{3, std::vector<char>(8)};
    std::deque<Transfer> queued;
    int most = 0;
    void run_one() {
        const Transfer t = queued.front();
        queued.pop_front();
        std::memcpy(t.to, buffers[static_cast<std::size_t>(t.slot)].data(), t.bytes);
    }
};
struct LateLinkHandle {
    LateLink* l;
    int slots() const { return 3; }
    std::size_t slot_bytes() const { return 8; }
    char* buffer(int slot) { return l->buffers[static_cast<std::size_t>(slot)].data(); }
    void wait(int slot) {
        const auto of_slot = [slot](const LateLink::Transfer& t) { return t.slot == slot; };
        while (std::any_of(l->queued.begin(), l->queued.end(), of_slot)) l->run_one();
    }
    void start(int slot, void* to, std::size_t bytes) {
        l->queued.push_back({slot, static_cast<char*>(to), bytes});
        l->most = std::max(l->most, static_cast<int>(l->queued.size()));
    }
};

TEST(StagingRing, TheSourceMayBeOverwrittenAndTransfersStayQueued) {
    LateLink link;
    bf::cuda::StagingRing<LateLinkHandle> ring{LateLinkHandle{&link}};
    std::string got, want;
    got.resize(400);
    std::size_t at = 0;
    for (const std::size_t bytes : {0, 1, 7, 8, 9, 24, 25, 100, 3}) {
        std::string source(bytes, ' ');
        for (char& c : source) c = static_cast<char>('a' + want.size() % 26), want.push_back(c);
        ring.send(got.data() + at, source.data(), bytes);
        source.assign(bytes, '#');
        at += bytes;
    }
    EXPECT_EQ(link.most, 3);
    EXPECT_FALSE(link.queued.empty());
    while (!link.queued.empty()) link.run_one();
    EXPECT_EQ(got.substr(0, at), want);
}

}  // namespace
