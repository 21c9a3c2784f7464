#include <charconv>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "bf/core/parallel.hpp"
#include "bf/data/decode.hpp"
#include "bf/data/encode.hpp"
#include "bf/data/landmarks.hpp"
#include "bf/io/atomic_file.hpp"
#include "bf/io/json.hpp"
#include "commands.hpp"
#include "protocol.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

namespace fs = std::filesystem;

/// `112` or `96x112`: width and height of a crop.
std::pair<int, int> parse_size(const std::string& text) {
    int width = 0, height = 0;
    const char* const last = text.data() + text.size();
    std::from_chars_result read = std::from_chars(text.data(), last, width);
    height = width;
    if (read.ec == std::errc() && read.ptr < last && *read.ptr == 'x')
        read = std::from_chars(read.ptr + 1, last, height);
    BF_CHECK(read.ec == std::errc() && read.ptr == last && width > 0 && width <= 4096 && height > 0 && height <= 4096,
             "--size", "got ", text,
             ", want a number such as 112, or WIDTHxHEIGHT such as 96x112, at most 4096 a side");
    face_template(width, height);
    return {width, height};
}

/// Where the crop of `file` goes below the output folder: the same path with an ending that says how it is encoded.
fs::path crop_path(const std::string& file, bool png) {
    fs::path path(file);
    const std::string ending = path.extension().string();
    if (png)
        path.replace_extension(".png");
    else if (ending != ".jpg" && ending != ".jpeg" && ending != ".JPG" && ending != ".JPEG")
        path.replace_extension(".jpg");
    return path;
}

/// Reads the list; each line has a place of its own below the output folder.
std::vector<FaceLandmarks> read_faces(const AlignArguments& a) {
    std::vector<FaceLandmarks> faces;
    std::unordered_map<std::string, std::size_t> places;
    read_landmarks(FileSource(a.list), [&](const FaceLandmarks& face) {
        const fs::path path(face.file);
        const std::string where = concat(a.list, ":", face.line);
        BF_CHECK_DATA(path.is_relative() && path.has_filename(), where, "want a path below --root; got ", face.file);
        for (const fs::path& part : path)
            BF_CHECK_DATA(part != "..", where, "leaves the folder --root; got ", face.file);
        const auto [it, added] = places.try_emplace(crop_path(face.file, a.png).lexically_normal().string(), face.line);
        BF_CHECK_DATA(added, where, "the crop of ", face.file, " would take the place of that of line ", it->second,
                      "; hint: one face a file");
        faces.push_back(face);
    });
    return faces;
}

/// What the crops of a folder were made with; a run that goes on must say the same.
void check_settings(const fs::path& out, const std::string& settings, bool overwrite) {
    const fs::path path = out / "align.json";
    if (fs::exists(path) && !overwrite) {
        const FileSource source(path);
        const auto bytes = source.bytes(0, std::min<std::uint64_t>(source.size(), 4096));
        const std::string before(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        BF_CHECK(before == settings + "\n", "--out", out.string(), " holds crops of other settings; got ", settings,
                 ", want ", before.substr(0, before.find('\n')), "; hint: another folder, or --overwrite");
    }
    write_file(path, settings + "\n");
}

}  // namespace

int run_align(const AlignArguments& a) {
    const auto [width, height] = parse_size(a.size);
    check_can_encode(a.png ? "crop.png" : "crop.jpg");
    const fs::path out(a.out), root = a.root.empty() ? fs::path(a.list).parent_path() : fs::path(a.root);
    const fs::path from = root.empty() ? fs::path(".") : root;
    const std::vector<FaceLandmarks> faces = read_faces(a);
    BF_CHECK_DATA(fs::is_directory(from), "--root", from.string(), " is not a folder");
    std::error_code ignored;
    BF_CHECK(!fs::equivalent(from, out, ignored), "--out", out.string(),
             " is the folder of the images; hint: another one, so that no image is lost");
    // a wrong --root would only show after the whole list
    const std::size_t probe = std::min<std::size_t>(faces.size(), 100);
    BF_CHECK_DATA(std::any_of(faces.begin(), faces.begin() + static_cast<std::ptrdiff_t>(probe),
                              [&](const FaceLandmarks& f) { return fs::exists(from / f.file, ignored); }),
                  from.string(), "has none of the first ", probe, " images of ", a.list, ", such as ", faces[0].file,
                  "; hint: --root FOLDER names the folder that the list's paths are relative to");
    check_output_folder(out);
    const std::string encoding = a.png ? "\"png\"" : concat("\"jpeg\",\"quality\":", a.quality);
    check_settings(out,
                   concat("{\"width\":", width, ",\"height\":", height, ",\"mode\":", json_quote(a.mode),
                          ",\"encoding\":", encoding, "}"),
                   a.overwrite);

    enum class Fate : char { made, kept, bad };
    std::vector<Fate> fates(faces.size());
    std::vector<std::pair<std::size_t, std::string>> bad;
    WorkProgress progress("images", faces.size(), {}, WorkProgress::output(a.quiet));
    std::size_t done = 0;
    std::mutex mutex;
    const WarpMode mode = a.mode == "exact" ? WarpMode::exact : WarpMode::opencv;
    const Landmarks target = face_template(width, height);
    const auto started = std::chrono::steady_clock::now();
    ThreadPool pool(a.threads > 0 ? a.threads : static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
    pool.run(static_cast<std::int64_t>(faces.size()), [&, w = width, h = height](std::int64_t task) {
        const auto i = static_cast<std::size_t>(task);
        const fs::path crop = out / crop_path(faces[i].file, a.png);
        std::string reason;
        std::error_code error;
        // an empty file is what a power failure leaves
        if (const auto size = fs::file_size(crop, error); !a.overwrite && !error && size > 0) {
            fates[i] = Fate::kept;
        } else {
            Image image;
            try {
                const Similarity similarity = estimate_similarity(faces[i].points, target);
                image = warp(read_image(from / faces[i].file), similarity.matrix(), w, h, mode);
            } catch (const Error& e) {
                if (e.code() != ErrorCode::data) throw;
                fates[i] = Fate::bad;
                reason = e.what();
            }
            if (fates[i] != Fate::bad) {
                fs::create_directories(crop.parent_path(), error);
                const auto bytes = encode_image(crop, image, a.quality);
                AtomicFile file(crop);
                file.write(bytes.data(), bytes.size());
                file.commit(false);  // waiting for the disk at each would take ten times as long as the work
            }
        }
        const std::lock_guard lock(mutex);
        if (fates[i] == Fate::bad) bad.emplace_back(i, reason);
        progress.show(++done);
    });

    std::sort(bad.begin(), bad.end());
    const fs::path bad_list = out / "bad.txt";
    std::string lines;
    for (const auto& [i, reason] : bad) lines += faces[i].file + "\t" + reason + "\n";
    if (bad.empty())
        fs::remove(bad_list, ignored);
    else
        write_file(bad_list, lines);
    const auto count = [&](Fate f) { return std::count(fates.begin(), fates.end(), f); };
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(),
                 share = static_cast<double>(bad.size()) / static_cast<double>(faces.size());
    if (a.json)
        std::printf("{\"kind\":\"align\",\"images\":%zu,\"made\":%td,\"kept\":%td,\"bad\":%zu,\"seconds\":%.3f}\n",
                    faces.size(), count(Fate::made), count(Fate::kept), bad.size(), seconds);
    else
        std::printf("%s: %td crops of %d x %d made (%s mode, %s), %td kept from before, %zu of %zu images bad%s\n",
                    out.c_str(), count(Fate::made), width, height, a.mode.c_str(),
                    a.png ? "PNG" : concat("JPEG quality ", a.quality).c_str(), count(Fate::kept), bad.size(),
                    faces.size(), bad.empty() ? "" : concat(": ", bad_list.string()).c_str());
    std::fflush(stdout);
    BF_CHECK_DATA(share <= a.max_bad_share, a.list, bad.size(), " of ", faces.size(), " images are bad (",
                  json_number(share), "), want a share of at most ", json_number(a.max_bad_share),
                  "; the first: ", bad.front().second, "; hint: ", bad_list.string(),
                  " lists them, --max-bad-share allows more");
    return 0;
}

}  // namespace bf::program
