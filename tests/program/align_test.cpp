#include "bf/data/align.hpp"

#include "bf/data/decode.hpp"
#include "bf/data/encode.hpp"
#include "program.hpp"

namespace {

using bf::Image;

Image drawn(int seed, int width = 90, int height = 80) {
    Image image(width, height);
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
        image.pixels[i] = static_cast<std::uint8_t>((static_cast<std::size_t>(seed) * 40 + i * i / 97) % 256);
    return image;
}

class AlignProgram : public Program {
  protected:
    void SetUp() override {
        Program::SetUp();
        fs::create_directories(root / "in/ann");
        bf::write_image(root / "in/ann/1.png", drawn(1));
        bf::write_image(root / "in/ann/2.jpg", drawn(2));
        bf::write_image(root / "in/bob.ppm", drawn(3));
        write("list.txt",
              "file\tlandmarks\n"
              "ann/1.png\t30.5 30\t60 28\t45 45\t33 60\t58 59\n"
              "ann/2.jpg,30,31,60,33,46,47,33,60,58,61\n"
              "# a comment\n"
              "bob.ppm 28 30 61 32 44 46 32 61 57 60 0.998\r\n");
    }
    void write(const std::string& name, const std::string& text) const { std::ofstream(root / name) << text; }
    Outcome align(const std::string& rest, const std::string& list = "list.txt") const {
        return run("align " + (root / list).string() + " --root " + (root / "in").string() + " --out " + rest);
    }
    std::string path(const std::string& name) const { return (root / name).string(); }
};

TEST_F(AlignProgram, CropsLieWhereTheirImagesLay) {
    const Outcome o = align(path("out") + " --png --mode exact");
    ASSERT_EQ(o.code, 0) << o.output;
    EXPECT_TRUE(has(o.output, "3 crops of 112 x 112 made")) << o.output;
    const bf::Landmarks points{{{30.5, 30}, {60, 28}, {45, 45}, {33, 60}, {58, 59}}};
    const Image source = bf::read_image(root / "in/ann/1.png");
    EXPECT_EQ(bf::read_image(root / "out/ann/1.png").pixels, bf::align_face(source, points).pixels);
    EXPECT_TRUE(fs::exists(root / "out/ann/2.png") && fs::exists(root / "out/bob.png"));
    EXPECT_FALSE(fs::exists(root / "out/bad.txt"));
    // OpenCV's rounding, another size, JPEG
    ASSERT_EQ(align(path("narrow") + " --size 96x112 --quality 100").code, 0);
    const Image narrow = bf::read_image(root / "narrow/ann/1.jpg"),
                want = bf::decode_image(
                    bf::encode_jpeg(bf::align_face(source, points, 96, 112, bf::WarpMode::opencv), 100), "");
    EXPECT_EQ(narrow.width, 96);
    EXPECT_EQ(narrow.pixels, want.pixels);
    EXPECT_TRUE(fs::exists(root / "narrow/bob.jpg"));
}

TEST_F(AlignProgram, AStoppedRunGoesOnAndThreadsChangeNothing) {
    ASSERT_EQ(align(path("one") + " --threads 1").code, 0);
    ASSERT_EQ(align(path("four") + " --threads 4").code, 0);
    for (const char* name : {"ann/1.jpg", "ann/2.jpg", "bob.jpg"})
        EXPECT_EQ(read(root / "one" / name), read(root / "four" / name)) << name;
    fs::remove(root / "one/bob.jpg");
    std::ofstream(root / "one/ann/1.jpg", std::ios::trunc);  // emptied: made again
    std::ofstream(root / "one/ann/2.jpg") << "kept as it is";
    Outcome o = align(path("one") + " --json");
    EXPECT_TRUE(has(o.output, "\"made\":2,\"kept\":1,\"bad\":0")) << o.output;
    EXPECT_EQ(read(root / "one/bob.jpg"), read(root / "four/bob.jpg"));
    EXPECT_EQ(read(root / "one/ann/2.jpg"), "kept as it is");
    o = align(path("one") + " --mode exact");
    EXPECT_EQ(o.code, 2);
    EXPECT_TRUE(has(o.output, "crops of other settings")) << o.output;
    o = align(path("one") + " --overwrite");
    EXPECT_EQ(o.code, 0);
    EXPECT_EQ(read(root / "one/ann/2.jpg"), read(root / "four/ann/2.jpg"));
}

TEST_F(AlignProgram, BadImagesAreCountedAndListed) {
    write("in/damaged.jpg", "\xff\xd8\xff nothing");
    write("more.txt", read(root / "list.txt") +
                          "damaged.jpg 30 31 60 33 46 47 33 60 58 61\n"
                          "missing.jpg 30 31 60 33 46 47 33 60 58 61\n"
                          "ann/../ann/1.jpeg nan nan 60 33 46 47 33 60 58 61\n");
    EXPECT_EQ(align(path("out"), "more.txt").code, 3);  // leaves the folder
    write("more.txt", read(root / "list.txt") +
                          "damaged.jpg 30 31 60 33 46 47 33 60 58 61\n"
                          "missing.jpg 30 31 60 33 46 47 33 60 58 61\n"
                          "ann/2.ppm nan nan 60 33 46 47 33 60 58 61\n");
    EXPECT_TRUE(has(align(path("out"), "more.txt").output, "would take the place of that of line 3"));
    write("more.txt", read(root / "list.txt") +
                          "damaged.jpg 30 31 60 33 46 47 33 60 58 61\n"
                          "missing.jpg 30 31 60 33 46 47 33 60 58 61\n"
                          "ann/3.jpg nan nan 60 33 46 47 33 60 58 61\n");
    Outcome o = align(path("out"), "more.txt");
    EXPECT_EQ(o.code, 3);
    EXPECT_TRUE(has(o.output, "3 of 6 images are bad")) << o.output;
    EXPECT_TRUE(fs::exists(root / "out/bob.jpg"));  // the good ones are made all the same
    const std::string list = read(root / "out/bad.txt");
    EXPECT_TRUE(has(list, "damaged.jpg\t") && has(list, "damaged JPEG")) << list;
    EXPECT_TRUE(has(list, "missing.jpg\t") && has(list, "ann/3.jpg\tlandmarks: are not finite numbers")) << list;
    o = align(path("out") + " --max-bad-share 0.5", "more.txt");
    EXPECT_EQ(o.code, 0);
    EXPECT_TRUE(has(o.output, "3 kept from before, 3 of 6 images bad")) << o.output;
}

TEST_F(AlignProgram, WrongArgumentsAreFoundBeforeTheWork) {
    const auto expect = [&](const Outcome& o, int code, const std::string& text) {
        EXPECT_EQ(o.code, code) << o.output;
        EXPECT_TRUE(has(o.output, text)) << o.output;
    };
    expect(align(path("out") + " --size 113"), 2, "want a square of a multiple of 112 or 128");
    expect(align(path("out") + " --size 112y"), 2, "--size: got 112y");
    expect(align(path("out"), "none.txt"), 3, "none.txt: cannot be read");
    expect(align(path("in")), 2, "is the folder of the images");
    expect(run("align " + path("list.txt") + " --root " + path("nowhere") + " --out " + path("out")), 3,
           "is not a folder");
    expect(run("align " + path("list.txt") + " --root " + root.string() + " --out " + path("out")), 3,
           "has none of the first 3 images");
    write("bad.txt", "a.jpg 1 2 3\n\nb.jpg 1 2 3 4\n");
    expect(align(path("out"), "bad.txt"), 3, "bad.txt:3: is no line of landmarks");
    write("bad.txt", "a b\n");
    expect(align(path("out"), "bad.txt"), 3, "names no image with landmarks");
    write("bad.txt", "/etc/passwd 1 2 3 4 5 6 7 8 9 10\n");
    expect(align(path("out"), "bad.txt"), 3, "want a path below --root");
    EXPECT_FALSE(fs::exists(root / "out"));
}

TEST_F(AlignProgram, SixtyEightPoints) {
    std::string line = "ann/1.png";
    for (int i = 0; i < 68; ++i) {
        const double x = i == 36 ? 27.5 : i == 39 ? 33.5 : i == 42 || i == 45 ? 60 : i == 30 ? 45 : i == 48 ? 33 : 58;
        const double y = i == 36 || i == 39 ? 30 : i == 42 ? 27 : i == 45 ? 29 : i == 30 ? 45 : i == 48 ? 60 : 59;
        line += " " + std::to_string(x) + " " + std::to_string(y);
    }
    write("68.txt", line + "\n");
    ASSERT_EQ(align(path("five") + " --png").code, 0);
    ASSERT_EQ(align(path("all") + " --png", "68.txt").code, 0);
    EXPECT_EQ(read(root / "five/ann/1.png"), read(root / "all/ann/1.png"));
}

}  // namespace
