#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bf/io/crc32c.hpp"
#include "bf/io/protobuf.hpp"

namespace bf {

/// A TFRecord (TensorFlow's record_writer.h): length u64, its checksum, the data, their checksum.
inline std::string tf_record(std::string_view data) {
    std::string out;
    const auto number = [&out](std::uint64_t value, int bytes) {
        for (int i = 0; i < bytes; ++i, value >>= 8) out += static_cast<char>(value);
    };
    // a checksum is masked, because checksums of data that hold checksums are weak
    const auto checksum = [&number](std::string_view of) {
        const std::uint32_t crc = crc32c(of.data(), of.size());
        number(((crc >> 15) | (crc << 17)) + 0xa282ead8u, 4);
    };
    number(data.size(), 8);
    checksum(std::string_view(out).substr(0, 8));
    out += data;
    checksum(data);
    return out;
}

/// Values of one step under their tags ("train/loss"), as TensorBoard's Summary message (tensorboard/compat/proto).
class Summary {
  public:
    Summary& scalar(std::string_view tag, double value) {
        ProtoWriter v = tagged(tag);
        v.fixed32(2, static_cast<float>(value));
        return add(v);
    }
    /// An encoded image (PNG), with its sizes and its channels (1 grey, 3 RGB, 4 RGBA).
    Summary& image(std::string_view tag, std::int64_t height, std::int64_t width, std::int64_t channels,
                   std::string_view encoded) {
        BF_CHECK(height > 0 && width > 0 && channels > 0 && !encoded.empty(), "Summary", "image; got ", height, " x ",
                 width, " x ", channels, ", ", encoded.size(), " bytes");
        ProtoWriter image;
        image.integer(1, height);
        image.integer(2, width);
        image.integer(3, channels);
        image.bytes(4, encoded);
        ProtoWriter v = tagged(tag);
        v.message(4, image);
        return add(v);
    }
    /// How the finite ones of some values are spread, in `buckets` of equal width between the smallest and the largest.
    Summary& histogram(std::string_view tag, std::span<const float> values, int buckets = 30) {
        BF_CHECK(buckets > 0, "Summary", "histogram; got ", buckets, " buckets");
        std::vector<double> finite;
        for (const float v : values)
            if (std::isfinite(v)) finite.push_back(v);
        double low = 0, high = 0, sum = 0, squares = 0;
        if (!finite.empty()) {
            const auto [least, most] = std::minmax_element(finite.begin(), finite.end());
            low = *least;
            high = *most;
        }
        const std::size_t n = low < high ? static_cast<std::size_t>(buckets) : 1;
        const double width = (high - low) / static_cast<double>(n);
        std::vector<double> limits(n), counts(n, 0);
        for (std::size_t i = 0; i < n; ++i) limits[i] = i + 1 < n ? low + width * static_cast<double>(i + 1) : high;
        for (const double v : finite) {
            sum += v;
            squares += v * v;
            counts[width > 0 ? std::min(n - 1, static_cast<std::size_t>((v - low) / width)) : 0] += 1;
        }
        ProtoWriter histogram;
        const double facts[] = {low, high, static_cast<double>(finite.size()), sum, squares};
        for (std::uint32_t i = 0; i < 5; ++i)
            if (facts[i] != 0) histogram.fixed64(i + 1, facts[i]);  // proto3 leaves zeros out
        histogram.packed(6, std::span<const double>(limits));
        histogram.packed(7, std::span<const double>(counts));
        ProtoWriter v = tagged(tag);
        v.message(5, histogram);
        return add(v);
    }

    bool empty() const { return values_.size() == 0; }
    const ProtoWriter& message() const { return values_; }

  private:
    static ProtoWriter tagged(std::string_view tag) {
        ProtoWriter v;
        v.bytes(1, tag);
        return v;
    }
    Summary& add(const ProtoWriter& value) {
        values_.message(1, value);
        return *this;
    }
    ProtoWriter values_;
};

/// An Event message with a summary; wall_time in seconds since 1970.
inline std::string event_message(double wall_time, std::int64_t step, const Summary& summary) {
    ProtoWriter e;
    e.fixed64(1, wall_time);
    if (step != 0) e.integer(2, step);
    e.message(5, summary.message());
    return e.take();
}
/// The message that opens each file.
inline std::string version_message(double wall_time) {
    ProtoWriter e;
    e.fixed64(1, wall_time);
    e.bytes(3, "brain.Event:2");
    return e.take();
}
/// Says that a run goes on: readers forget what they have of `step` and later steps.
inline std::string restart_message(double wall_time, std::int64_t step) {
    ProtoWriter session, e;
    session.varint(1, 1);  // SessionLog.START
    e.fixed64(1, wall_time);
    if (step != 0) e.integer(2, step);
    e.message(7, session);
    return e.take();
}

/// A file of events in a folder that TensorBoard watches. Each start of a run makes a file of its own, which readers
/// take in the order of the names, so that a file cut by a crash harms nothing behind it; each record is one write.
class EventFile {
  public:
    /// Makes the folder and a file in it. Where there are earlier files, what they have of step `from` and later ones
    /// no longer counts.
    explicit EventFile(const std::filesystem::path& folder, std::int64_t from = 0) {
        std::error_code error;
        std::filesystem::create_directories(folder, error);
        if (error) fail(ErrorCode::runtime, folder.string(), "cannot be made: ", error.message());
        path_ = folder / next_name(folder, continues_);
        descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
        if (descriptor_ < 0) fail(ErrorCode::runtime, path_.string(), "cannot be made: ", std::strerror(errno));
        write(version_message(now()));
        if (continues_) write(restart_message(now(), from));
    }
    ~EventFile() { ::close(descriptor_); }
    EventFile(const EventFile&) = delete;
    EventFile& operator=(const EventFile&) = delete;

    /// Appends the values of a step; a runtime Error if it cannot be written.
    void add(std::int64_t step, const Summary& summary) { write(event_message(now(), step, summary)); }
    const std::filesystem::path& path() const { return path_; }
    /// Whether there were earlier files.
    bool continues() const { return continues_; }

  private:
    static double now() {
        return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    }
    /// events.out.tfevents.SECONDS.bf, behind the names that are there, also if the clock went back.
    static std::string next_name(const std::filesystem::path& folder, bool& others) {
        const std::string start = "events.out.tfevents.";
        constexpr long long most = 9999999999;  // ten digits: names in order are numbers in order
        long long seconds = static_cast<long long>(now());
        for (const auto& entry : std::filesystem::directory_iterator(folder)) {
            const std::string name = entry.path().filename().string();
            if (name.rfind(start, 0) != 0) continue;
            others = true;
            const long long there = std::strtoll(name.c_str() + start.size(), nullptr, 10);
            if (there < most) seconds = std::max(seconds, there + 1);
        }
        char digits[32];
        std::snprintf(digits, sizeof digits, "%010lld", seconds);
        return start + digits + ".bf";
    }
    void write(std::string_view message) {
        const std::string record = tf_record(message);
        if (::write(descriptor_, record.data(), record.size()) != static_cast<ssize_t>(record.size()))
            fail(ErrorCode::runtime, path_.string(), "cannot be written: ", std::strerror(errno),
                 "; hint: is the disk full?");
    }
    std::filesystem::path path_;
    int descriptor_ = -1;
    bool continues_ = false;
};

}  // namespace bf
