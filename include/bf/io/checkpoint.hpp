#pragma once
#include <cstdio>
#include <optional>

#include "bf/io/safetensors.hpp"

namespace bf {

/// A checkpoint that was found intact.
struct LoadedCheckpoint {
    std::filesystem::path path;
    std::uint64_t step = 0;
    SafeTensors content;
};

/// Checkpoints of one run: FOLDER/step-000000123.safetensors, each written whole or not at all, with a checksum over
/// its tensors in the metadata. The newest that verifies is loaded. Reading changes nothing in the folder, so that a
/// run that is being trained can be read; one process at a time may write.
class CheckpointFolder {
  public:
    /// keep: how many of the newest stay.
    explicit CheckpointFolder(std::filesystem::path folder, int keep = 2) : folder_(std::move(folder)), keep_(keep) {
        BF_CHECK(keep >= 1, "checkpoint", "keep; got ", keep, ", want 1 or more");
    }

    /// Removes what interrupted writes left. Only for the process that writes here: it would take the temporary file of
    /// another one away.
    void collect_leftovers() const {
        std::error_code ignored;
        for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored))
            if (entry.path().filename().string().find(".safetensors.tmp-") != std::string::npos)
                std::filesystem::remove(entry.path(), ignored);
    }

    /// Writes the checkpoint of a step (and makes the folder), then removes the oldest ones. Files of later steps come
    /// from a future that did not load: they are renamed to *.bad, so that they neither count nor come back.
    std::filesystem::path save(std::uint64_t step, const std::map<std::string, Tensor>& state,
                               std::map<std::string, std::string> metadata) {
        std::map<std::string, Tensor> tensors;
        for (const auto& [name, t] : state) tensors[name] = t.to(cpu_device);
        std::error_code error;
        std::filesystem::create_directories(folder_, error);
        if (error) fail(ErrorCode::runtime, folder_.string(), "cannot be made: ", error.message());
        metadata["bf.format"] = "1";
        metadata["bf.step"] = std::to_string(step);
        metadata["bf.crc32c"] = std::to_string(tensors_checksum(tensors));
        char name[48];
        std::snprintf(name, sizeof name, "step-%09llu.safetensors", static_cast<unsigned long long>(step));
        save_safetensors(folder_ / name, tensors, metadata);
        auto all = list();
        for (; !all.empty() && *step_of(all.back()) > step; all.pop_back())
            std::filesystem::rename(all.back(), all.back().string() + ".bad", error);
        for (std::size_t i = 0; i + static_cast<std::size_t>(keep_) < all.size(); ++i)
            std::filesystem::remove(all[i], error);
        return folder_ / name;
    }

    /// The newest checkpoint whose checksum verifies; one line a damaged file goes to `warnings`. Other failures than
    /// damage (memory, permissions) are thrown.
    std::optional<LoadedCheckpoint> load_latest(std::vector<std::string>* warnings = nullptr) const {
        const auto all = list();
        for (auto it = all.rbegin(); it != all.rend(); ++it) try {
                return load(*it);
            } catch (const Error& e) {
                if (e.code() != ErrorCode::data) throw;
                if (warnings) warnings->push_back(e.what());
            }
        return std::nullopt;
    }

    /// Reads and verifies one checkpoint.
    static LoadedCheckpoint load(const std::filesystem::path& path) {
        LoadedCheckpoint c{path, 0, load_safetensors(path)};
        auto& metadata = c.content.metadata;
        BF_CHECK_DATA(metadata["bf.format"] == "1", path.string(), "checkpoint format; got \"", metadata["bf.format"],
                      "\", want 1");
        BF_CHECK_DATA(metadata["bf.crc32c"] == std::to_string(tensors_checksum(c.content.tensors)), path.string(),
                      "checksum differs: the file is damaged");
        c.step = std::strtoull(metadata["bf.step"].c_str(), nullptr, 10);
        return c;
    }

    /// Checkpoint files, oldest first; none if the folder is missing.
    std::vector<std::filesystem::path> list() const {
        std::vector<std::filesystem::path> all;
        if (!std::filesystem::exists(folder_)) return all;
        for (const auto& entry : std::filesystem::directory_iterator(folder_))
            if (step_of(entry.path())) all.push_back(entry.path());
        std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return *step_of(a) < *step_of(b); });
        return all;
    }

  private:
    /// The step in a checkpoint's file name; nothing for other files.
    static std::optional<std::uint64_t> step_of(const std::filesystem::path& path) {
        const std::string name = path.filename().string();
        unsigned long long step = 0;
        int end = 0;
        if (std::sscanf(name.c_str(), "step-%llu.safetensors%n", &step, &end) != 1 ||
            static_cast<std::size_t>(end) != name.size())
            return std::nullopt;
        return step;
    }
    std::filesystem::path folder_;
    int keep_;
};

}  // namespace bf
