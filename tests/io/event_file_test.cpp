#include "bf/io/event_file.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

namespace {

namespace fs = std::filesystem;

std::string bytes_of(const fs::path& path) {
    std::stringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
}

// The bytes that TensorBoard's own messages and record writer give (event_golden.py).
TEST(EventFile, MessagesAndRecordsAreTensorBoards) {
    const std::vector<float> values{-1.5f, 0, 0.25f, 0.25f, 2.5f, 0.75f}, zeros(3), none{NAN, INFINITY};
    const std::string png = "\x89PNG\r\n\x1a\n" + std::string(200, '\0');
    std::string got = bf::tf_record(bf::version_message(1.5e9));
    const auto add = [&got](double after, std::int64_t step, const bf::Summary& s) {
        got += bf::tf_record(bf::event_message(1.5e9 + after, step, s));
    };
    add(0.25, 0, bf::Summary().scalar("train/loss", 41.0518));
    got += bf::tf_record(bf::restart_message(1.5e9 + 0.5, 301));
    add(1, 20, bf::Summary().scalar("train/lr", 0).scalar("\xc3\xa9", INFINITY));
    add(2, 300, bf::Summary().image("faces", 2, 300, 3, png));
    add(3, std::int64_t{1} << 40, bf::Summary().histogram("norms", values, 4).histogram("zeros", zeros));
    EXPECT_EQ(got, bytes_of(std::string(BF_TEST_DIR) + "/io/event_golden.bin"));
    EXPECT_NO_THROW(bf::Summary().histogram("none", none));
    EXPECT_THROW(bf::Summary().image("faces", 0, 3, 3, png), bf::Error);
}

TEST(EventFile, EachStartHasItsOwnFileBehindTheOthers) {
    const fs::path folder = fs::temp_directory_path() / ("bf_events_" + std::to_string(::getpid()));
    fs::remove_all(folder);
    fs::create_directories(folder);
    std::vector<std::string> names;
    for (const std::int64_t from : {0, 0, 20}) {
        bf::EventFile file(folder, from);
        file.add(from, bf::Summary().scalar("a", 1));
        names.push_back(file.path().filename().string());
        // a record is on its way at once, not when the file is closed
        EXPECT_GT(fs::file_size(file.path()), 60u);
        // and the first file alone says nothing of earlier ones
        EXPECT_EQ(bytes_of(file.path()).find(bf::restart_message(0, from).substr(9)) != std::string::npos,
                  names.size() > 1);
        if (names.size() == 1)
            std::ofstream(folder / "events.out.tfevents.9000000000.host.0") << "of a clock that went back";
    }
    EXPECT_LT("events.out.tfevents.9000000000.host.0", names[1]);
    EXPECT_LT(names[0], names[1]);
    EXPECT_LT(names[1], names[2]);
    fs::remove_all(folder);
    EXPECT_THROW(bf::EventFile("/proc/none"), bf::Error);
}

}  // namespace
