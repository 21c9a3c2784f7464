// The loader beside a bare libjpeg-turbo loop over the same JPEG bytes in memory, in the order in which the loader gave
// them: images/s per core, in turns.
// Cores are counted by the processor time that the process had, so that other work on the machine takes none from it.
#include "bf/data/loader.hpp"

#include <jpeglib.h>

#include <atomic>
#include <ctime>
#include <fstream>
#include <thread>

#include "bf/data/decode.hpp"
#include "bf/data/file_dataset.hpp"
#include "bf/data/synthetic.hpp"
#include "measure.hpp"

namespace {

using Jpegs = std::vector<std::vector<std::byte>>;

/// JPEG files in memory as a dataset.
class JpegsInMemory : public bf::Dataset {
  public:
    explicit JpegsInMemory(const Jpegs& files) : files_(files) {}
    std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
    std::int64_t identities() const override { return 1; }
    std::int64_t label(std::int64_t) const override { return 0; }
    std::string name(std::int64_t i) const override { return "image " + std::to_string(i); }
    bf::Image image(std::int64_t i) const override {
        bf::Image image;
        load(i, 0, image);
        return image;
    }
    void load(std::int64_t i, int wanted_side, bf::Image& into) const override {
        bf::decode_image(files_[static_cast<std::size_t>(i)], name(i), into, {.wanted_side = wanted_side});
        loaded_.fetch_add(1, std::memory_order_relaxed);
    }
    std::int64_t loaded() const { return loaded_; }

  private:
    const Jpegs& files_;
    mutable std::atomic<std::int64_t> loaded_{0};
};

/// Seconds by the clock, and of all cores that this process had.
struct Span {
    double wall, processor;
};
template <class F>
Span measured(F&& work) {
    const auto cores = [] { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; };
    const double before = cores();
    const double wall = bench::seconds(bf::cpu_device, work);
    return {wall, cores() - before};
}

/// Drawn faces as JPEGs, as record files hold them (quality 95, 4:2:0).
Jpegs drawn_faces(std::int64_t count, int side) {
    const bf::SyntheticFaces faces({.identities = count, .images_per_identity = 1, .size = side});
    Jpegs files;
    for (std::int64_t i = 0; i < count; ++i) {
        bf::Image image = faces.image(i);
        jpeg_compress_struct info;
        jpeg_error_mgr errors;
        info.err = jpeg_std_error(&errors);
        jpeg_create_compress(&info);
        unsigned char* bytes = nullptr;
        unsigned long size = 0;
        jpeg_mem_dest(&info, &bytes, &size);
        info.image_width = info.image_height = static_cast<JDIMENSION>(side);
        info.input_components = 3;
        info.in_color_space = JCS_RGB;
        jpeg_set_defaults(&info);
        jpeg_set_quality(&info, 95, TRUE);
        jpeg_start_compress(&info, TRUE);
        while (info.next_scanline < info.image_height) {
            JSAMPROW row = image.at(0, static_cast<int>(info.next_scanline));
            jpeg_write_scanlines(&info, &row, 1);
        }
        jpeg_finish_compress(&info);
        const auto* begin = reinterpret_cast<const std::byte*>(bytes);
        files.emplace_back(begin, begin + size);
        jpeg_destroy_compress(&info);
        std::free(bytes);
    }
    return files;
}

Jpegs files_of(const std::string& folder, std::size_t most) {
    Jpegs files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        if (entry.path().extension() != ".jpg" && entry.path().extension() != ".jpeg") continue;
        std::vector<std::byte> bytes(std::filesystem::file_size(entry.path()));
        std::ifstream in(entry.path(), std::ios::binary);
        in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        files.push_back(std::move(bytes));
        if (files.size() == most) break;
    }
    BF_CHECK(!files.empty(), "--images", "no .jpg in ", folder);
    return files;
}

/// Decodes the files of `order`, shared out to threads of one decompressor and one buffer each.
void bare_loop(const Jpegs& files, std::span<const std::int64_t> order, std::size_t threads) {
    const auto work = [&](std::size_t thread) {
        jpeg_decompress_struct info;
        jpeg_error_mgr errors;
        info.err = jpeg_std_error(&errors);
        jpeg_create_decompress(&info);
        std::vector<unsigned char> pixels;
        for (std::size_t i = order.size() * thread / threads; i < order.size() * (thread + 1) / threads; ++i) {
            const auto& bytes = files[static_cast<std::size_t>(order[i])];
            jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
            jpeg_read_header(&info, TRUE);
            jpeg_start_decompress(&info);
            const std::size_t stride = info.output_width * 3u;
            pixels.resize(stride * info.output_height);
            while (info.output_scanline < info.output_height) {
                JSAMPROW row = pixels.data() + stride * info.output_scanline;
                jpeg_read_scanlines(&info, &row, 1);
            }
            jpeg_finish_decompress(&info);
        }
        jpeg_destroy_decompress(&info);
    };
    std::vector<std::thread> crew;
    for (std::size_t i = 0; i < threads; ++i) crew.emplace_back(work, i);
    for (auto& t : crew) t.join();
}

}  // namespace

int main(int argc, char** argv) {
    return bench::guarded("bench_loader", [&] {
        const bench::Options o(argc, argv,
                               {{"images", ""},
                                {"side", "112"},
                                {"count", "512"},
                                {"batch", "128"},
                                {"batches", "6"},
                                {"rounds", "7"},
                                {"workers", "1,2"},
                                {"augment", "flip"},
                                {"json", ""}});
        const std::int64_t batch = o.number("batch"), batches = o.number("batches");
        const int side = static_cast<int>(o.number("side"));
        BF_CHECK(o.text("augment") == "flip" || o.text("augment") == "adaface", "--augment", "got ", o.text("augment"),
                 ", want flip or adaface");
        const Jpegs files = o.text("images").empty()
                                ? drawn_faces(o.number("count"), side)
                                : files_of(o.text("images"), static_cast<std::size_t>(o.number("count")));
        std::size_t bytes = 0;
        for (const auto& f : files) bytes += f.size();
        const JpegsInMemory data(files);
        bench::Results results(o.text("json"),
                               bench::Fields()
                                   .put("benchmark", "loader")
                                   .put("images", o.text("images").empty() ? "drawn" : o.text("images"))
                                   .put("files", static_cast<std::int64_t>(files.size()))
                                   .put("mean_bytes", static_cast<double>(bytes) / static_cast<double>(files.size()))
                                   .put("side", std::int64_t{side})
                                   .put("batch", batch)
                                   .put("augment", o.text("augment")));
        std::printf("%zu JPEGs of %.1f KiB, batches of %lld, %s\n", files.size(),
                    static_cast<double>(bytes) / 1024 / static_cast<double>(files.size()),
                    static_cast<long long>(batch), o.text("augment").c_str());
        for (const std::int64_t workers : o.numbers("workers")) {
            bf::Loader loader(data,
                              {.batch_size = batch,
                               .image_size = side,
                               .workers = static_cast<int>(workers),
                               .prefetch = static_cast<int>(2 * workers),
                               .augment = o.text("augment") == "adaface" ? bf::adaface_augment() : bf::Augment{}});
            std::vector<double> ours, bare, shares, wall_ours, wall_bare, decode, rest;
            std::int64_t made = data.loaded();
            const auto wait_for_batches = [&](std::int64_t n) {
                for (made += n * batch; data.loaded() < made;)
                    std::this_thread::sleep_for(std::chrono::milliseconds(5));
                std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the last image is written
            };
            wait_for_batches(2 * workers);
            for (std::int64_t round = 0; round < o.number("rounds"); ++round) {
                // from all batches ahead made to all batches ahead made: as many are made as taken
                double decoded = 0, augmented = 0;
                std::vector<std::int64_t> order;
                const Span mine = measured([&] {
                    for (std::int64_t i = 0; i < batches; ++i) {
                        const bf::Batch b = loader.next();
                        decoded += b.decode_seconds;
                        augmented += b.augment_seconds;
                        const auto places = b.indices.span<std::int64_t>();
                        order.insert(order.end(), places.begin(), places.end());
                    }
                    wait_for_batches(batches);
                });
                const Span theirs = measured([&] { bare_loop(files, order, static_cast<std::size_t>(workers)); });
                const double total = static_cast<double>(batch * batches);
                ours.push_back(total / mine.processor);
                bare.push_back(total / theirs.processor);
                shares.push_back(ours.back() / bare.back());
                wall_ours.push_back(total / mine.wall);
                wall_bare.push_back(total / theirs.wall);
                decode.push_back(1e6 * decoded / total);
                rest.push_back(1e6 * augmented / total);
            }
            const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
            std::printf(
                "%lld workers: %.0f images/s a core, bare libjpeg %.0f: share %.3f (%.3f..%.3f); by the clock on the "
                "wall %.0f and %.0f images/s; decoding %.1f us, augmenting and writing %.1f us an image\n",
                static_cast<long long>(workers), bench::median(ours), bench::median(bare), bench::median(shares),
                *least, *most, bench::median(wall_ours), bench::median(wall_bare), bench::median(decode),
                bench::median(rest));
            results.add(bench::Fields()
                            .put("workers", workers)
                            .put("images_per_s_per_core", bench::median(ours))
                            .put("bare_images_per_s_per_core", bench::median(bare))
                            .put("share", bench::median(shares))
                            .put("images_per_s", bench::median(wall_ours))
                            .put("bare_images_per_s", bench::median(wall_bare))
                            .put("decode_us", bench::median(decode))
                            .put("augment_us", bench::median(rest)));
        }
    });
}
