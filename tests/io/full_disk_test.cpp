// Checkpoints on a disk that is full, limited or not writable: the checkpoint before stays, nothing else is left, and
// the error names the file and says what to do. Limits, mounts and users are set in a child process and end with it.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>

#include "bf/io/checkpoint.hpp"
#include "errors.hpp"

namespace {

namespace fs = std::filesystem;
using bf::CheckpointFolder;
using bf::Tensor;

std::string content_of(const fs::path& p) {
    std::ifstream in(p, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}
std::vector<std::string> names_in(const fs::path& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
}

/// What f returns, from a child process. A line that begins with "skip: " says what the machine does not allow.
std::string in_child(const std::function<std::string()>& f) {
    int ends[2];
    if (::pipe(ends) != 0) return "no pipe";
    const pid_t child = ::fork();
    if (child == 0) {
        std::string answer;
        try {
            answer = f();
        } catch (const std::exception& e) {
            answer = std::string("unexpected: ") + e.what();
        }
        const ssize_t done = ::write(ends[1], answer.data(), answer.size());
        ::_exit(done == static_cast<ssize_t>(answer.size()) ? 0 : 1);
    }
    ::close(ends[1]);
    std::string answer;
    char buffer[4096];
    for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
        answer.append(buffer, static_cast<std::size_t>(n));
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? answer : answer + " (the child died)";
}
/// "saved", or the code and text of the Error.
std::string outcome(const std::function<void()>& f) {
    try {
        f();
        return "saved";
    } catch (const bf::Error& e) {
        return "code " + std::to_string(static_cast<int>(e.code())) + ": " + e.what();
    }
}

std::map<std::string, Tensor> weights(std::int64_t count) { return {{"w", bf::full({count}, 0.5)}}; }
const char* const first_name = "step-000000001.safetensors";
const char* const second_name = "step-000000002.safetensors";

class FullDisk : public ::testing::Test {
  protected:
    void SetUp() override {
        folder = fs::temp_directory_path() / ("bf_full_" + std::to_string(::getpid()) + "_" +
                                              ::testing::UnitTest::GetInstance()->current_test_info()->name());
        fs::remove_all(folder);
        checkpoints.emplace(folder, 1);  // with one kept, a failed save that deleted the old file would lose all
        checkpoints->save(1, weights(100), {});
        first = content_of(folder / first_name);
    }
    void TearDown() override {
        fs::permissions(folder, fs::perms::owner_all);
        fs::remove_all(folder);
    }
    void expect_only_the_first() const {
        EXPECT_EQ(names_in(folder), std::vector<std::string>{first_name});
        EXPECT_EQ(content_of(folder / first_name), first);
        EXPECT_EQ(checkpoints->load_latest()->step, 1u);
    }
    /// A runtime Error that names the file that could not be written and gives a hint.
    void expect_error(const std::string& answer, const std::string& reason, const std::string& hint) const {
        EXPECT_TRUE(has(answer, "code 1: ")) << answer;
        EXPECT_TRUE(has(answer, (folder / second_name).string() + ": cannot be ")) << answer;
        EXPECT_TRUE(has(answer, reason)) << answer;
        EXPECT_TRUE(has(answer, "; hint: " + hint)) << answer;
    }
    fs::path folder;
    std::optional<CheckpointFolder> checkpoints;
    std::string first;
};

TEST_F(FullDisk, FileSizeLimitAnywhereInTheFile) {
    const std::size_t whole = [&] {
        CheckpointFolder elsewhere(folder / "elsewhere");
        const std::size_t size = fs::file_size(elsewhere.save(2, weights(5000), {}));
        fs::remove_all(folder / "elsewhere");
        return size;
    }();
    // in the length, the header, the data, and one byte before the end
    for (const std::size_t limit : {std::size_t{0}, std::size_t{5}, std::size_t{60}, std::size_t{9000}, whole - 1}) {
        const std::string answer = in_child([&]() -> std::string {
            const rlimit most{limit, limit};
            std::signal(SIGXFSZ, SIG_IGN);  // as a program does that wants to hear of it from write()
            if (::setrlimit(RLIMIT_FSIZE, &most) != 0) return "setrlimit failed";
            return outcome([&] { checkpoints->save(2, weights(5000), {}); });
        });
        expect_error(answer, "after " + std::to_string(limit) + " bytes: File too large", "raise the quota");
        expect_only_the_first();
    }
    EXPECT_EQ(in_child([&]() -> std::string {
                  const rlimit most{whole, whole};
                  ::setrlimit(RLIMIT_FSIZE, &most);
                  return outcome([&] { checkpoints->save(2, weights(5000), {}); });
              }),
              "saved");
    EXPECT_EQ(names_in(folder), std::vector<std::string>{second_name});
    EXPECT_EQ(checkpoints->load_latest()->step, 2u);
}

TEST_F(FullDisk, DeviceThatIsAlwaysFull) {
    fs::create_symlink("/dev/full", folder / (second_name + std::string(".tmp-") + std::to_string(::getpid())));
    expect_error(outcome([&] { checkpoints->save(2, weights(10), {}); }), "No space left", "free some disk space");
    expect_only_the_first();
    checkpoints->save(2, weights(10), {});  // and with room again the next save goes through
    EXPECT_EQ(checkpoints->load_latest()->step, 2u);
}

/// Mounts a file system of `size` bytes on `at`, seen by this process alone; the reason if the machine forbids it.
std::string mount_small(const fs::path& at, std::size_t size) {
    const uid_t user = ::geteuid();
    const gid_t group = ::getegid();
    if (::unshare(user == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return std::string("skip: no mount namespace: ") + std::strerror(errno);
    if (user != 0) {
        std::ofstream("/proc/self/setgroups") << "deny";
        std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
        std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
    }
    const std::string options = "size=" + std::to_string(size);
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", at.c_str(), "tmpfs", 0, options.c_str()) != 0)
        return std::string("skip: no mount: ") + std::strerror(errno);
    return "";
}

TEST_F(FullDisk, ASmallFileSystemThatFillsUp) {
    const std::string answer = in_child([&]() -> std::string {
        if (const std::string reason = mount_small(folder, 256 << 10); !reason.empty()) return reason;
        CheckpointFolder small(folder, 1);
        small.save(1, weights(25000), {});  // 100 kB
        const std::string said = outcome([&] { small.save(2, weights(50000), {}); });
        std::string left;
        for (const std::string& name : names_in(folder)) left += name + " ";
        const std::string then = outcome([&] { small.save(3, weights(30000), {}); });
        return said + "\nleft " + left + "\nthen " + then + " step " + std::to_string(small.load_latest()->step);
    });
    if (answer.rfind("skip: ", 0) == 0) GTEST_SKIP() << answer.substr(6);
    expect_error(answer, "No space left", "free some disk space");
    EXPECT_FALSE(has(answer, "after 0 bytes")) << answer;  // it broke off in the data
    EXPECT_TRUE(has(answer, std::string("left ") + first_name + " \n")) << answer;
    EXPECT_TRUE(has(answer, "then saved step 3")) << answer;
}

TEST_F(FullDisk, AFolderThatIsNotWritable) {
    const fs::path below = folder / "below";
    fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec | fs::perms::group_read |
                                fs::perms::group_exec | fs::perms::others_read | fs::perms::others_exec);
    const std::string answer = in_child([&]() -> std::string {
        // root may write anywhere: become somebody else
        if (::geteuid() == 0 && (::setgid(65534) != 0 || ::setuid(65534) != 0))
            return std::string("skip: root stays root: ") + std::strerror(errno);
        return outcome([&] { checkpoints->save(2, weights(10), {}); }) + "\n" +
               outcome([&] { CheckpointFolder(below).save(2, weights(10), {}); });
    });
    if (answer.rfind("skip: ", 0) == 0) GTEST_SKIP() << answer.substr(6);
    expect_error(answer, "Permission denied", "check the folder and its permissions");
    EXPECT_TRUE(has(answer, "\ncode 1: " + below.string() + ": cannot be made: Permission denied")) << answer;
    expect_only_the_first();
}

TEST_F(FullDisk, AFolderThatIsAFile) {
    const std::string said = outcome([&] { CheckpointFolder(folder / first_name).save(2, weights(10), {}); });
    EXPECT_TRUE(has(said, "code 1: " + (folder / first_name).string() + ": cannot be made")) << said;
    expect_only_the_first();
}

}  // namespace
