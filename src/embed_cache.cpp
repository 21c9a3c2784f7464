#include "embed_cache.hpp"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "bf/io/crc32c.hpp"
#include "bf/io/npy.hpp"
#include "bf/io/safetensors.hpp"
#include "bf/io/source.hpp"
#include "bf/train/embed.hpp"
#include "work_progress.hpp"

namespace bf::program {
namespace {

/// One line that tells two caches apart.
std::string facts_of(const Model& model, const Dataset& images, const CachedEmbedding& options) {
    const std::uint32_t weights = tensors_checksum(model.net->state());
    std::uint32_t names = 0;
    for (std::int64_t i = 0; i < images.size(); ++i) {
        const std::string name = images.name(i) + "\n";
        names = crc32c(name.data(), name.size(), names);
    }
    return concat(options.what, "; ", images.size(), " images, crc32c of their names ", names, "; ", model.network,
                  ", crc32c of its weights ", weights, "; ", model.embedding_size, " numbers f32 each",
                  options.flip ? ", mirror image added" : "");
}

}  // namespace

Tensor embed_cached(const Model& model, const Dataset& images, const CachedEmbedding& options) {
    namespace fs = std::filesystem;
    const std::int64_t n = images.size(), dim = model.embedding_size;
    const Tensor all = Tensor::empty({n, dim});
    std::int64_t done = 0;
    std::ofstream part;
    const fs::path cache = options.cache, notes = options.cache + ".txt", partial = options.cache + ".part";
    const std::string facts = options.cache.empty() ? "" : facts_of(model, images, options) + "\n";
    if (!options.cache.empty()) {
        const auto check = [&](const fs::path& file, const std::string& found) {
            BF_CHECK(found == facts, "--cache", file.string(), " is of something else; got `",
                     found.substr(0, found.find('\n')), "`, want `", facts.substr(0, facts.size() - 1),
                     "`; hint: another --cache, or remove it");
        };
        if (fs::exists(cache)) {
            std::ifstream in(notes);
            check(cache, {std::istreambuf_iterator<char>(in), {}});
            const Tensor kept = load_npy(cache);
            BF_CHECK_DATA(kept.shape() == all.shape() && kept.dtype() == DType::f32, cache.string(), "got ", kept.str(),
                          ", want ", all.str());
            return kept;
        }
        if (fs::exists(partial)) {
            const FileSource in(partial);
            std::string head(static_cast<std::size_t>(std::min<std::uint64_t>(facts.size(), in.size())), '\0');
            in.read(0, std::as_writable_bytes(std::span(head)));
            check(partial, head);
            const auto row = static_cast<std::uint64_t>(4 * dim);
            done = std::min(n, static_cast<std::int64_t>((in.size() - facts.size()) / row));
            if (done < n) done -= done % options.batch;  // batches as in one run: the same bits
            in.read(facts.size(),
                    std::as_writable_bytes(all.span<float>().first(static_cast<std::size_t>(done * dim))));
            fs::resize_file(partial, facts.size() + static_cast<std::uint64_t>(done) * row);
            std::fprintf(stderr, "%s: %lld of %lld images are there already\n", partial.c_str(),
                         static_cast<long long>(done), static_cast<long long>(n));
        }
        part.open(partial, std::ios::binary | std::ios::app);
        if (part.tellp() == 0) part << facts;
        if (!part.flush()) fail(ErrorCode::runtime, partial.string(), "cannot be written");
    }
    WorkProgress progress(options.what, n, done);
    std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
    std::iota(indices.begin(), indices.end(), 0);
    for (const std::int64_t chunk = 4 * options.batch; done < n;) {
        const std::int64_t end = std::min(n, done + chunk);
        const auto some =
            std::span(indices).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(end - done));
        const Tensor e = embed(*model.net, images, some, model.image_size,
                               {.batch_size = options.batch, .flip = options.flip, .input = model.input},
                               [&](std::int64_t ready) { progress.show(done + ready); });
        all.rows(done, end).copy_from(e);
        if (part.is_open()) {
            part.write(reinterpret_cast<const char*>(e.data<float>()), static_cast<std::streamsize>(e.bytes()));
            if (!part.flush()) fail(ErrorCode::runtime, partial.string(), "cannot be written; hint: is the disk full?");
        }
        done = end;
    }
    if (!options.cache.empty()) {
        write_file(notes, facts);
        save_npy(cache, all);
        part.close();
        fs::remove(partial);
    }
    return all;
}

}  // namespace bf::program
