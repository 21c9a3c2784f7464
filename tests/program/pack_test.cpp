// bf pack and bf index as a user meets them, and a run on what they made.
#include <gtest/gtest.h>

#include "bf/data/encode.hpp"
#include "bf/data/record_dataset.hpp"
#include "bf/data/transform.hpp"
#include "program.hpp"

namespace {

/// Three identities with 2, 1 and 3 images of one grey each, in root/faces.
class Pack : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        const std::pair<const char*, int> all[] = {{"ann/0", 0},  {"ann/1", 10}, {"bob/x", 40},
                                                   {"zoe/a", 80}, {"zoe/b", 90}, {"zoe/c", 100}};
        for (const auto& [name, grey] : all)
            write("faces/" + std::string(name) + ".pgm", "P5\n4 4\n255\n" + std::string(16, static_cast<char>(grey)));
    }
    void write(const std::string& name, const std::string& content) const {
        fs::create_directories((root / name).parent_path());
        std::ofstream(root / name, std::ios::binary) << content;
    }
    std::string path(const std::string& name) const { return (root / name).string(); }
    void expect(const Outcome& o, int code, const std::string& part) const {
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, part)) << o.output;
    }
    std::string golden(const char* ending) const {
        return read(fs::path(BF_TEST_DIR) / "program/pack_golden" += ending);
    }
    void flip(const std::string& name, std::size_t at) const {
        std::string content = read(root / name);
        content[at] = static_cast<char>(content[at] ^ 1);
        write(name, content);
    }
};

TEST_F(Pack, AFolderBecomesWhatAnIndependentWriterMakes) {
    write("faces/ann/notes.txt", "no image");
    expect(run("pack --images " + path("faces") + " --out " + path("train")), 0, "6 images of 3 identities");
    EXPECT_EQ(read(root / "train.rec"), golden(".rec"));
    EXPECT_EQ(read(root / "train.idx"), golden(".idx"));
    EXPECT_EQ(read(root / "property"), "3,4,4\n");
    EXPECT_TRUE(has(read(root / "train.lst"), "3\t1\tbob/x.pgm\n")) << read(root / "train.lst");
    expect(run("pack --images " + path("faces") + " --out " + path("train")), 2, "is there already");
    fs::create_directories(root / "two");
    expect(run("pack --list " + path("train.lst") + " --images " + path("faces") + " --out " + path("two/train")), 0,
           "6 im");
    EXPECT_EQ(read(root / "two/train.rec"), golden(".rec"));
    write("list.tsv", "zoe/b.pgm\t7\nann/0.pgm\t5\nzoe/a.pgm\t7\n");
    expect(
        run("pack --force --list " + path("list.tsv") + " --images " + path("faces") + " --out " + path("two/train")),
        0, "3 images of 2");
    EXPECT_EQ(read(root / "two/train.lst"), "1\t0\tann/0.pgm\n2\t1\tzoe/b.pgm\n3\t1\tzoe/a.pgm\n");
}

TEST_F(Pack, ASizeMakesJpegsOfWhatHasAnother) {
    const auto write_grey = [&](const std::string& name, int width, int height) {
        bf::Image image(width, height);
        std::fill(image.pixels.begin(), image.pixels.end(), std::uint8_t{90});
        bf::write_image(root / name, image);
    };
    write_grey("faces/bob/y.jpg", 60, 40);
    write_grey("faces/bob/z.png", 16, 16);
    const std::string pack = "pack --images " + path("faces") + " --out " + path("train") + " --size 16";
    expect(run(pack + " --quality 0"), 2, "--quality");
    expect(run(pack + "0000"), 2, "--size");
    expect(run("pack --images " + path("faces") + " --out " + path("train") + " --quality 90"), 2, "--size");
    expect(run(pack + " --quality 90"), 0, "; 7 resized to 16 x 16");
    EXPECT_EQ(read(root / "property"), "3,16,16\n");
    const bf::RecordDataset records(root / "train.rec");
    ASSERT_EQ(records.size(), 8);
    for (int i = 0; i < 8; ++i) {
        const bf::Image image = records.image(i);
        EXPECT_EQ(image.width, 16);
        EXPECT_EQ(image.height, 16);
    }
    EXPECT_EQ(records.encoded(3), bf::encode_jpeg(bf::to_square(bf::read_image(root / "faces/bob/y.jpg"), 16), 90));
    const std::string png = read(root / "faces/bob/z.png");
    const auto kept = records.encoded(4);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(kept.data()), kept.size()), png);
}

TEST_F(Pack, ShuffledOrderComesFromTheSeedAlone) {
    const auto pack = [&](const std::string& name, const std::string& rest, const std::string& before = "") {
        fs::create_directories(root / name);
        expect(
            run("pack --layout shuffled --images " + path("faces") + " --out " + path(name + "/train") + rest, before),
            0, "6 images");
        return read(root / name / "train.rec");
    };
    const std::string one = pack("one", " --seed 2", "BF_THREADS=1 "),
                      three = pack("three", " --seed 2", "BF_THREADS=3 ");
    EXPECT_EQ(one, three);
    EXPECT_NE(one, pack("other", " --seed 3"));
    const bf::RecordDataset faces(root / "one");
    EXPECT_EQ(faces.size(), 6);
    EXPECT_EQ(faces.labels_from(), "image headers");
    for (std::int64_t i = 0; i < 6; ++i) EXPECT_EQ(faces.image(i).at(0, 0)[0] / 40, faces.label(i));
}

TEST_F(Pack, DamagedImagesAreFoundBefore) {
    write("faces/bob/x.pgm", "broken");
    const std::string pack = "pack --images " + path("faces") + " --out " + path("train");
    Outcome o = run(pack);
    expect(o, 3, "1 of 6 images are damaged; nothing is written");
    EXPECT_TRUE(has(o.output, "damaged: " + path("faces/bob/x.pgm"))) << o.output;
    EXPECT_FALSE(fs::exists(root / "train.rec"));
    expect(run(pack + " --exclude-bad"), 3, "more than the share 0.01 allows");
    expect(run(pack + " --exclude-bad --max-bad-share 0.2"), 0, "5 images of 2 identities");
    EXPECT_EQ(bf::RecordDataset(root / "train.rec").identities(), 2);
    for (const auto& entry : fs::directory_iterator(root)) EXPECT_FALSE(has(entry.path().string(), ".tmp-"));
    fs::create_directories(root / "b");
    write("bad.lst", "0\t1\tann/0.pgm\n1\tone\tann/1.pgm\n");
    expect(run("pack --list " + path("bad.lst") + " --images " + path("faces") + " --out " + path("b/train")), 3,
           "bad.lst:2");
    expect(run("pack --images " + path("nobody") + " --out " + path("b/train")), 3, "is not a folder");
    expect(run("pack --out " + path("b/train")), 2, "--images FOLDER");
    expect(run("pack --images " + path("faces") + " --out " + path("no/b")), 2, "no folder");
    expect(run("pack --images x --out y --layout odd"), 2, "--layout");
}

TEST_F(Pack, PairsBecomeAPickledTuple) {
    write("pairs.txt", "ann/0.pgm ann/1.pgm 1\nbob/x.pgm ann/0.pgm 0\n");
    const std::string pack = "pack --kind list --pairs " + path("pairs.txt") + " --images " + path("faces") + " --out ";
    expect(run(pack + path("a.bin")), 0, "2 pairs (1 of one identity) of 3 images");
    expect(run(pack + path("b.bin") + " --protocol 4"), 0, "2 pairs");
    const auto image = [&](char op, const char* name) {
        const std::string content = read(root / "faces" / name);
        return std::string{op, static_cast<char>(content.size())} + content;
    };
    const auto images = [&](char op) {
        return image(op, "ann/0.pgm") + image(op, "ann/1.pgm") + image(op, "bob/x.pgm") + image(op, "ann/0.pgm");
    };
    using namespace std::string_literals;
    EXPECT_EQ(read(root / "a.bin"), "\x80\x02]q\0("s + images('U') + "e]q\1(\x88\x89"s + "e\x86q\2."s);
    EXPECT_EQ(read(root / "b.bin"), "\x80\x04]\x94("s + images('C') + "e]\x94(\x88\x89"s + "e\x86\x94."s);
    write("faces/ann/1.pgm", "P5\n400 1\n255\n" + std::string(400, 'x'));
    expect(run(pack + path("c.bin")), 0, "2 pairs");
    EXPECT_TRUE(has(read(root / "c.bin"), "T\x9d\1\0\0P5\n400"s));
    write("faces/ann/1.pgm", "broken");
    expect(run(pack + path("d.bin")), 3, "1 of 3 images are damaged");
}

TEST_F(Pack, IndexFindsWhatChanged) {
    write("train.rec", golden(".rec"));
    write("train.idx", golden(".idx"));
    const std::string index = "index " + path("train.rec");
    expect(run(index + " --check"), 3, "train.rec.sum: does not exist");
    expect(run(index + " --decode --write"), 0, "10 records, 6 images of 3 identities, each decoded, 0 damaged");
    expect(run(index + " --check"), 0, "checksums compared");
    EXPECT_EQ(bf::RecordDataset(root / "train.rec").labels_from(), "checksum file");
    fs::remove(root / "train.idx");  // rebuilt from the ids in the headers, by key
    expect(run("index " + root.string() + " --write"), 0, "0 damaged");
    const std::string text = golden(".idx");
    const auto want = bf::read_record_index(bf::MemorySource(std::as_bytes(std::span(text)), "golden"));
    const auto got = bf::read_record_index(bf::FileSource(root / "train.idx"));
    ASSERT_EQ(got.size(), want.size());
    for (std::size_t i = 0; i < got.size(); ++i)
        EXPECT_TRUE(got[i].key == want[i].key && got[i].offset == want[i].offset);

    const std::size_t third = want[3].offset, fourth = want[4].offset;
    flip("train.rec", third + 50);  // a pixel: only a checksum shows it
    expect(run(index), 3, "damaged: key 3, byte " + std::to_string(third) + ": changed since");
    expect(run(index + " --check --max-bad-share 0.1"), 0, "1 damaged");
    fs::rename(root / "train.rec.sum", root / "kept.sum");
    expect(run(index + " --decode"), 0, " 0 damaged");
    flip("train.rec", third + 50);
    flip("train.rec", third + 32);  // "P5" of the image
    expect(run(index), 0, " 0 damaged");
    expect(run(index + " --decode"), 3, "damaged: key 3, byte " + std::to_string(third) + ": image: not a JPEG");
    flip("train.rec", fourth + 4);  // a length
    const bf::Json json = bf::parse_json(run(index + " --decode --max-bad-share 1 --json").output, "json");
    EXPECT_EQ(json.find("damaged")->whole(), 2);
    EXPECT_EQ(json.find("faults")->array.at(1).find("key")->whole(), 4);
    EXPECT_EQ(json.find("faults")->array.at(1).find("byte")->whole(), static_cast<std::int64_t>(fourth));
    fs::rename(root / "kept.sum", root / "train.rec.sum");
    write("train.rec", golden(".rec").substr(0, 100));
    expect(run(index), 3, "9 damaged of 10 records");
    expect(run(index), 3, "checksums are not compared: ");
    expect(run(index + " --check"), 3, "made for a record file of");
    expect(run("index " + path("none.rec")), 3, "cannot be read");
    write("empty.rec", "");
    expect(run("index " + path("empty.rec")), 3, "holds no record");
    expect(run("index " + path("tiny.toml")), 3, "is it a .rec file?");
    write("train.idx", "1\t0\n1\t60\n");
    expect(run(index), 3, "key 1 stands twice");
}

TEST_F(Pack, TrainsOnRecordsAndReplacesDamagedOnes) {
    expect(run("pack --images " + path("faces") + " --out " + path("train")), 0, "6 images");
    const std::string start =
        train("--set data.kind=record --set data.root=" + root.string() +
              " --set batch_size=3 --set num_step=3 --set 'val=[]' --set broadface.queue=0 --output ");
    expect(run(start + path("r")), 0, "3 identities, 6 images");
    flip("train.rec", 0);
    expect(run(start + path("s")), 3, "train.rec#key 1 (byte 0)");
    expect(run(start + path("t") + " --set data.max_bad_share=0.2"), 0, "3 identities, 6 images");
    EXPECT_TRUE(has(read(root / "t/bad_images.txt"), "no magic number")) << read(root / "t/bad_images.txt");
    fs::remove(root / "train.rec");
    expect(run("train --resume " + path("r") + " --set num_step=4"), 3, "has no train.rec");
}

}  // namespace
