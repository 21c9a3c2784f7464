// Files made to do harm. Each must be refused with a data Error that says what is wrong; none may hang or take memory.
#include <gtest/gtest.h>

#include "bf/data/verification_bin.hpp"
#include "bf/io/npz.hpp"
#include "bf/io/torch_file.hpp"
#include "craft.hpp"

namespace {

using namespace craft;

/// What reads the bytes: verification sets and weights (the same pickle in both), or one of them.
enum class As { pickle, bin, torch, state, npz, npy };

struct Row {
    const char* name;
    As as;
    std::string bytes;
    const char* says;  ///< part of the message
};

std::string repeat(const std::string& part, int times) {
    std::string all;
    for (int i = 0; i < times; ++i) all += part;
    return all;
}
/// (images, issame) with one item in the place of the images.
std::string images(const std::string& items) { return "\x80\x02(]" + items + "](\x88" + "et."; }
std::string npy(const std::string& header, const std::string& elements = "12345678") {
    return "\x93NUMPY\x01"s + '\0' + little(header.size(), 2) + header + elements;
}
std::string numpy_dtype(const std::string& name) {
    return "cnumpy\ndtype\n(" + text(name) + "\x89\x88tR(K\x03" + text("|") + "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" +
           "\0"s + "tb";
}
std::string numpy_array(const std::string& dtype, const std::string& shape, const std::string& data) {
    return "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK"s + "\0"s + "\x85U\x01" + "btR(K\x01" + shape +
           dtype + "\x89" + data + "tb";
}
const ZipItem sound{.name = "a.npy", .content = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }")};
ZipItem with(void (*change)(ZipItem&)) {
    ZipItem item = sound;
    change(item);
    return item;
}

std::vector<Row> rows() {
    const std::string call = "(" + text("touch /tmp/bf_hostile") + "tR.";
    std::vector<Row> all{
        // names that must not be called
        {"os.system", As::pickle, "\x80\x02" + "cos\nsystem\n"s + call, "names os system"},
        {"posix.system", As::pickle, "cposix\nsystem\n(S'id'\ntR.", "names posix system"},
        {"nt.system", As::pickle, "cnt\nsystem\n(S'id'\ntR.", "names nt system"},
        {"subprocess.Popen", As::pickle, "\x80\x02" + "csubprocess\nPopen\n"s + call, "names subprocess Popen"},
        {"builtins.eval", As::pickle, "\x80\x03" + "cbuiltins\neval\n"s + call, "names builtins eval"},
        {"__builtin__.exec", As::pickle, "c__builtin__\nexec\n(S'1'\ntR.", "names __builtin__ exec"},
        {"builtins.getattr", As::pickle, "cbuiltins\ngetattr\n(S'1'\ntR.", "names builtins getattr"},
        {"builtins.__import__", As::pickle, "cbuiltins\n__import__\n(S'os'\ntR.", "names builtins __import__"},
        {"codecs.decode", As::pickle, "c_codecs\ndecode\n(S'1'\ntR.", "names _codecs decode"},
        {"codecs.encode to another codec", As::pickle,
         "\x80\x02" + "c_codecs\nencode\n("s + text("x") + text("zip") + "tR.", "got zip, want latin1"},
        {"copyreg._reconstructor", As::pickle, "ccopy_reg\n_reconstructor\n(tR.", "names copy_reg _reconstructor"},
        {"operator.attrgetter", As::pickle, "coperator\nattrgetter\n(S'x'\ntR.", "names operator attrgetter"},
        {"runpy._run_code", As::pickle, "crunpy\n_run_code\n(tR.", "names runpy _run_code"},
        {"numpy.load", As::pickle, "cnumpy\nload\n(tR.", "names numpy load"},
        {"torch.load", As::pickle, "ctorch\nload\n(tR.", "names torch load"},
        {"torch.hub.load", As::pickle, "ctorch.hub\nload\n(tR.", "names torch.hub load"},
        {"a name deep inside", As::pickle, "\x80\x02}(" + text("state_dict") + "](K\x01(csys\nexit\n)Rteu.",
         "names sys exit"},
        {"a nested __reduce__", As::pickle,
         "\x80\x02" + "ccollections\nOrderedDict\n(cos\nsystem\n"s + text("id") + "\x85RtR.", "names os system"},
        {"STACK_GLOBAL", As::pickle, "\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", "names os system"},
        {"STACK_GLOBAL with a dotted name", As::pickle, "\x80\x04\x8c\x05numpy\x8c\x11" + "ndarray.__class__\x93)R."s,
         "names numpy ndarray.__class__"},
        {"STACK_GLOBAL of a number", As::pickle, "\x80\x04\x8c\x05numpyK\x01\x93.", "what are no texts"},
        {"GLOBAL with blanks in its name", As::pickle, "cnumpy ndarray\n\n)R.", "names numpy ndarray"},
        // opcodes that make instances
        {"INST", As::pickle, "(S'id'\nios\nsystem\n.", "an instance of os system"},
        {"OBJ", As::pickle, "(cnumpy\ndtype\no.", "opcode OBJ"},
        {"NEWOBJ", As::pickle, "\x80\x02" + "cnumpy\nndarray\n)\x81."s, "opcode NEWOBJ"},
        {"NEWOBJ_EX", As::pickle, "\x80\x04" + "cnumpy\nndarray\n)}\x92."s, "opcode NEWOBJ_EX"},
        {"EXT1", As::pickle, "\x80\x02\x82\x01.", "opcode EXT"},
        {"EXT4", As::pickle, "\x80\x02\x84\x01" + "\0\0\0."s, "opcode EXT"},
        {"PERSID", As::pickle, "Pos.system\n.", "opcode PERSID"},
        {"NEXT_BUFFER", As::pickle, "\x80\x05\x97.", "NEXT_BUFFER"},
        {"a set", As::pickle, "\x80\x04\x8f(K\x01\x90.", "a set"},
        {"a call of what was called", As::pickle, "\x80\x02" + "cnumpy\ndtype\n)R)R."s, "calls what is no global"},
        {"BUILD on a list", As::pickle, "\x80\x02]}b.", "sets the state of what has none"},
        {"BUILD twice", As::pickle, "\x80\x02" + "cnumpy\ndtype\n)R}b}b."s, "a state twice"},
        {"BINPERSID where none is known", As::bin, "\x80\x02" + text("x") + "Q.", "opcode BINPERSID"},
        // bombs
        {"memo bomb", As::pickle,
         "\x80\x02Nq\0000"s +
             [] {
                 std::string s;
                 for (char i = 0; i < 40; ++i)
                     s += "h"s + i + "h" + i + "h" + i + "\x87q" + static_cast<char>(i + 1) + "0";
                 return s;
             }() +
             "h\x28.",
         "unfold to more than"},
        {"billion laughs by DUP", As::pickle, "\x80\x02](" + repeat("22\x87", 30) + "e.",
         "takes a value where there is none"},
        {"billion laughs of tuples", As::pickle, "\x80\x02K\x01" + repeat("22\x87", 30) + ".", "unfold to more than"},
        {"deep lists", As::pickle, "\x80\x02" + repeat("]", 5000) + repeat("a", 4999) + ".", "nested deeper than"},
        {"deep tuples", As::pickle, "\x80\x02)" + repeat("\x85\x85", 2000) + ".", "nested deeper than"},
        {"open marks", As::pickle, "\x80\x02" + repeat("(", 100000) + ".", "open marks"},
        {"a list inside itself", As::pickle, "\x80\x02]q" + "\0h\0a."s, "inside itself"},
        {"a ring of lists", As::pickle, "\x80\x02]q\0]q\1h\0aa."s, "inside itself"},
        {"a million empty lists", As::pickle, "\x80\x02(" + repeat("]", 200000) + "t.", "more values than"},
        {"a million references", As::pickle, "\x80\x02]q" + "\0("s + repeat("h\0"s, 2000000) + "t.",
         "more values than"},
        {"opcodes without end", As::pickle, "\x80\x02" + repeat("N0", 2000000) + "N.", "opcodes"},
        {"a far memo place", As::pickle, "\x80\x02]r\xff\xff\xff\x7f.", "memo place 2147483647"},
        {"an empty memo place", As::pickle, "\x80\x02h\x05.", "memo place 5 is empty"},
        // lengths and ends
        {"string of 2^63 bytes", As::pickle, "\x80\x04\x8e" + little(1ull << 63, 8) + "x.",
         "wants 9223372036854775808 bytes"},
        {"text of 4 GiB", As::pickle, "\x80\x02X\xff\xff\xff\xffx.", "wants 4294967295 bytes"},
        {"integer of 2 GiB", As::pickle, "\x80\x02\x8b\xff\xff\xff\x7f.", "an integer of 2147483647 bytes"},
        {"long line", As::pickle, "c" + std::string(100000, 'a') + "\nb\n.", "a line of 100000 bytes"},
        {"frame past the end", As::pickle, "\x80\x04\x95" + little(1000, 8) + "N.", "a frame of 1000 bytes"},
        {"frame inside a frame", As::pickle, "\x80\x04\x95" + little(11, 8) + "\x95" + little(1, 8) + "NN.",
         "a frame inside a frame"},
        {"string past its frame", As::pickle, "\x80\x04\x95" + little(3, 8) + "\x8c\x05" + "abcde.",
         "left in the frame"},
        {"unterminated", As::pickle, "\x80\x02](K\x01K\x02" + "e"s, "wants 1 bytes"},
        {"unterminated text", As::pickle, "Vabc", "wants 1 bytes"},
        {"nothing on the stack", As::pickle, "\x80\x02.", "ends with 0 values"},
        {"two values", As::pickle, "\x80\x02NN.", "ends with 2 values"},
        {"pop past a mark", As::pickle, "\x80\x02N(\x85.", "takes a value where there is none"},
        {"append past a mark", As::pickle, "\x80\x02]((e.", "takes a value where there is none"},
        {"no mark", As::pickle, "\x80\x02]e.", "takes a mark where there is none"},
        {"bytes behind the end", As::pickle, "\x80\x02N.cos\nsystem\n", "11 bytes follow"},
        {"protocol 6", As::pickle, "\x80\x06N.", "protocol 6"},
        {"unknown opcode", As::pickle, "\x80\x02\xfe.", "no opcode has the number 254"},
        {"odd dict", As::pickle, "\x80\x02}(K\x01u.", "a key without a value"},
        {"number that is none", As::pickle, "I12x\n.", "not a number"},
        // verification sets that are none
        {"no pairs", As::bin, "\x80\x02(](]t.", "want"},
        {"not two parts", As::bin, "\x80\x02]].", "ends with 2 values"},
        {"one image for a pair", As::bin, images("(U\x01xe"), "got 1 images for 1 pairs"},
        {"images that are numbers", As::bin, images("(K\x01K\x02" + "e"s), "is neither bytes nor"},
        {"numpy objects", As::bin, images("(" + numpy_array(numpy_dtype("O8"), "K\x01\x85", "](Ne") + "U\x01xe"),
         "dtype O8"},
        {"numpy array larger than its data", As::bin,
         images("(" + numpy_array(numpy_dtype("u1"), tuple({1 << 20, 1 << 10}), "U\x01x") + "U\x01xe"), "bytes; got 1"},
        {"numpy array of a negative size", As::bin,
         images("(" + numpy_array(numpy_dtype("u1"), tuple({-1}), "U\x01x") + "U\x01xe"), "damaged shape"},
        {"numpy array without a state", As::bin, images("(cnumpy.core.multiarray\n_reconstruct\n)RU\x01xe"),
         "damaged numpy array"},
        // weights whose numbers lie
        {"storage larger than its entry", As::state, state({.elements = 5}), "got 5 elements"},
        {"negative elements", As::state, state({.elements = -4}), "got -4 elements"},
        {"tensor beyond its storage", As::state, state({.size = {5}}), "leaves its storage of 4"},
        {"offset beyond its storage", As::state, state({.size = {1}, .offset = 4}), "leaves its storage of 4"},
        {"negative offset", As::state, state({.offset = -1}), "storage offset; got -1"},
        {"negative stride", As::state, state({.stride = {-1}, .offset = 3}), "stride -1"},
        {"negative size", As::state, state({.size = {-4}}), "size -4"},
        {"stride that overflows", As::state, state({.size = {3, 3}, .stride = {1ll << 62, 1ll << 62}}),
         "leaves its storage"},
        {"size that overflows", As::state, state({.size = {1ll << 32, 1ll << 32}, .stride = {0, 0}}),
         "unfold to more than"},
        {"expanded bomb", As::state, state({.size = {1ll << 30}, .stride = {0}}), "unfold to more than"},
        {"sizes without strides", As::state, state({.size = {2, 2}}), "damaged description"},
        {"seven dimensions", As::state, state({.size = {1, 1, 1, 1, 1, 1, 1}, .stride = {1, 1, 1, 1, 1, 1, 1}}),
         "got 7 dimensions"},
        {"no such storage", As::state, state({.key = "../../etc/passwd"}), "the archive has no"},
        {"storage that is none", As::state, state({.kind = "module"}), "damaged reference"},
        {"reference with too few parts", As::state, state({.reference = "(" + text("storage") + "tQ"}),
         "damaged reference"},
        {"reference that is a number", As::state, state({.reference = "K\x01Q"}), "damaged reference"},
        {"storage of a type that is none", As::state, state({.type = "device"}), "torch device is no storage"},
        {"no tensors", As::state, "\x80\x02}.", "holds no tensors"},
        {"a bare pickle", As::torch, state({}), "before version 1.6"},
        {"TorchScript", As::torch,
         zip({{.name = "m/data.pkl", .content = state({})}, {.name = "m/constants.pkl", .content = "\x80\x02)."}}),
         "TorchScript"},
        {"big-endian", As::torch,
         zip({{.name = "m/data.pkl", .content = state({})}, {.name = "m/byteorder", .content = "big"}}), "want little"},
        {"two descriptions", As::torch,
         zip({{.name = "a/data.pkl", .content = state({})}, {.name = "b/data.pkl", .content = state({})}}),
         "two descriptions"},
        {"no description", As::torch, zip({sound}), "no PyTorch file"},
        // archives
        {"stored sizes differ", As::npz, zip({with([](ZipItem& i) { i.size = 1 << 30; })}), "stored; got"},
        {"zip bomb by its size", As::npz, zip({with([](ZipItem& i) {
             i.method = 8;
             i.packed = std::string(1 << 16, '\0');
             i.size = 60 << 20;
         })}),
         "unfolds from 65536 to 62914560"},
        {"zip bomb by its ratio", As::npz, zip({with([](ZipItem& i) {
             i.method = 8;
             i.packed = "\x03"s + '\0';
             i.size = 4 << 20;
         })}),
         "unfolds from 2 to 4194304"},
        {"deflate stream that holds more", As::npz, zip({with([](ZipItem& i) {
             i.method = 8;
             i.packed = "\x4b\x4c\x4c\x4c\x04" + "\0"s;  // "aaaa"
             i.size = 3;
         })}),
         "holds more than the 3 bytes"},
        {"deflate stream that holds less", As::npz, zip({with([](ZipItem& i) {
             i.method = 8;
             i.packed = "\x4b\x4c\x4c\x4c\x04" + "\0"s;
             i.size = 5;
         })}),
         "want 5"},
        {"damaged deflate stream", As::npz, zip({with([](ZipItem& i) {
             i.method = 8;
             i.packed = "\xff\xff\xff\xff";
             i.size = 5;
         })}),
         "damaged deflate stream"},
        {"overlapping entries", As::npz, zip({sound, with([](ZipItem& i) { i.header = 0; })}), "is there twice"},
        {"two names for one entry", As::npz, zip({sound, with([](ZipItem& i) {
                                                      i.name = "b.npy";
                                                      i.header = 0;
                                                  })}),
         "another name in its header"},
        {"an entry inside another", As::npz,
         zip({with([](ZipItem& i) { i.content = zip({with([](ZipItem& j) { j.name = "b.npy"; })}); }),
              with([](ZipItem& i) {
                  i.name = "b.npy";
                  i.header = 30 + 5;
              })}),
         "overlaps a.npy"},
        {"path traversal", As::npz, zip({with([](ZipItem& i) { i.name = "../a.npy"; })}),
         "leaves the archive's folder"},
        {"absolute path", As::npz, zip({with([](ZipItem& i) { i.name = "/a.npy"; })}), "leaves the archive's folder"},
        {"backslash path", As::npz, zip({with([](ZipItem& i) { i.name = "x\\..\\a.npy"; })}),
         "leaves the archive's folder"},
        {"a NUL in a name", As::npz, zip({with([](ZipItem& i) { i.name = "a\0.npy"s; })}),
         "leaves the archive's folder"},
        {"encrypted", As::npz, zip({with([](ZipItem& i) { i.flags = 1; })}), "is encrypted"},
        {"strong encryption", As::npz, zip({with([](ZipItem& i) { i.flags = 0x41; })}), "is encrypted"},
        {"LZMA", As::npz, zip({with([](ZipItem& i) { i.method = 14; })}), "compression method 14"},
        {"wrong CRC", As::npz, zip({with([](ZipItem& i) { i.crc = 1; })}), "CRC-32; got"},
        {"another name in the header", As::npz, zip({with([](ZipItem& i) { i.local_name = "b.npy"; })}),
         "another name"},
        {"entry on another disk", As::npz, zip({with([](ZipItem& i) { i.disk = 1; })}), "lies on another disk"},
        {"several disks", As::npz, zip({sound}, {.disk = 1}), "several disks"},
        {"more entries than there are", As::npz, zip({sound}, {.count = 2}), "got 2 entries in a directory of"},
        {"fewer entries than there are", As::npz,
         zip({sound, with([](ZipItem& i) { i.name = "b.npy"; })}, {.count = 1}), "more directory than its 1 entries"},
        {"directory elsewhere", As::npz, zip({sound}, {.directory = 0}), "want it to end at"},
        {"header behind the directory", As::npz, zip({with([](ZipItem& i) { i.header = 0x7fffffff; })}),
         "is said to lie"},
        {"cut directory", As::npz, zip({sound}).substr(0, zip({sound}).size() - 30), "no end record"},
        {"cut at the front", As::npz, zip({sound}).substr(1), "want it to end at"},
        {"bytes behind the end record", As::npz, zip({sound}, {.after = "x"}), "no end record"},
        {"zip64 end record out of the file", As::npz,
         zip({sound}, {.before = "PK\x06\x07" + little(0, 4) + little(1ull << 62, 8) + little(1, 4)}), "ends early"},
        {"zip64 end record that is none", As::npz,
         zip({sound}, {.before = "PK\x06\x07" + little(0, 4) + little(0, 8) + little(1, 4)}), "no zip64 end record"},
        {"zip64 end record that differs", As::npz,
         zip({sound},
             {.before = "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) + little(0, 8) + little(7, 8) +
                        little(7, 8) + little(51, 8) + little(sound.content.size() + 35, 8) + "PK\x06\x07" +
                        little(0, 4) + little(sound.content.size() + 35 + 51, 8) + little(1, 4)}),
         "its end record and its zip64 end record differ"},
        {"zip64 size without its field", As::npz, zip({with([](ZipItem& i) {
             i.size = i.packed_size = 0xffffffff;
             i.extra = "\x01"s + '\0' + little(8, 2) + little(4, 8);
         })}),
         "zip64 field is cut"},
        {"zip64 size of 2^62", As::npz, zip({with([](ZipItem& i) {
             i.size = i.packed_size = 0xffffffff;
             i.extra = "\x01"s + '\0' + little(16, 2) + little(1ull << 62, 8) + little(1ull << 62, 8);
         })}),
         "unfolds from 4611686018427387904"},
        {"cut extra field", As::npz, zip({with([](ZipItem& i) { i.extra = "\x01"s + '\0' + little(100, 2); })}),
         "is cut"},
        {"an entry that is no array", As::npz, zip({with([](ZipItem& i) { i.name = "a.exe"; })}), "is no array"},
        {"an empty archive", As::npz, zip({}), "holds no array"},
        // arrays
        {"npy of objects", As::npy, npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
         "a pickle, which is not read"},
        {"structured npy", As::npy, npy("{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (1,), }"),
         "structured"},
        {"big-endian npy", As::npy, npy("{'descr': '>f8', 'fortran_order': False, 'shape': (1,), }"), "got >f8"},
        {"npy of 2^60 elements", As::npy,
         npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,), }"), "is larger than"},
        {"npy whose size overflows", As::npy,
         npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 2), }"), "is larger than"},
        {"npy with code in its header", As::npy,
         npy("{'descr': '<f8', 'fortran_order': False, 'shape': (__import__('os').system('id'),), }"), "want a size"},
        {"npy with a key twice", As::npy,
         npy("{'descr': '<f8', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"), "got the key descr"},
        {"npy of a negative size", As::npy, npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }"),
         "want a size"},
        {"npy with a header of 4 GiB", As::npy, "\x93NUMPY\x02"s + '\0' + little(0xffffffff, 4) + "{", "header size"},
    };
    return all;
}

/// The message of the data Error, or what came instead.
std::string refusal(As as, const std::string& bytes) {
    const auto source = std::make_shared<bf::MemorySource>(std::as_bytes(std::span(bytes)), "hostile");
    try {
        switch (as) {
            case As::bin: bf::VerificationBin{source}; break;
            case As::torch: bf::load_torch_file(*source); break;
            case As::npz: bf::load_npz(*source); break;
            case As::npy: bf::load_npy(*source); break;
            default: return "not a reader";
        }
    } catch (const bf::Error& e) {
        return e.code() == bf::ErrorCode::data ? e.what() : bf::concat("not a data Error: ", e.what());
    } catch (const std::exception& e) {
        return bf::concat("another exception: ", e.what());
    }
    return "accepted";
}

TEST(Hostile, EachIsRefusedAndSaysWhy) {
    const std::vector<Row> all = rows();
    std::size_t refused = 0;
    std::set<std::string> names;
    for (const Row& row : all) {
        EXPECT_TRUE(names.insert(row.name).second) << row.name << " is there twice";
        const auto expect = [&](As as, const std::string& bytes) {
            const std::string got = refusal(as, bytes);
            EXPECT_NE(got.find(row.says), std::string::npos) << row.name << ": " << got.substr(0, 400);
            EXPECT_EQ(got.find("hostile"), 0u) << row.name << ": " << got.substr(0, 400);
            return got.find(row.says) != std::string::npos;
        };
        const bool torch = row.as == As::pickle || row.as == As::state;
        bool fine = !torch || expect(As::torch, pth(row.bytes));
        if (row.as != As::state) fine = expect(row.as == As::pickle ? As::bin : row.as, row.bytes) && fine;
        refused += fine;
    }
    EXPECT_EQ(refused, all.size());
    EXPECT_GE(refused, 30u);
}

/// The bytes that the rows above spoil are sound before that.
TEST(Hostile, WhatIsSpoiltIsGoodBefore) {
    EXPECT_EQ(refusal(As::npz, zip({sound})), "accepted");
    EXPECT_EQ(refusal(As::torch, pth(state({}))), "accepted");
    EXPECT_EQ(refusal(As::bin, images("(U\x01xU\x01ye")), "accepted");
    EXPECT_EQ(refusal(As::bin, images("(" + numpy_array(numpy_dtype("u1"), "K\x01\x85", "U\x01x") + "U\x01xe")),
              "accepted");
    EXPECT_EQ(refusal(As::npz, zip({with([](ZipItem& i) {
                          i.size = i.packed_size = 0xffffffff;
                          i.extra = "\x01"s + '\0' + little(16, 2) + little(i.content.size(), 8) +
                                    little(i.content.size(), 8);
                      })})),
              "accepted");
    const std::uint64_t directory = sound.content.size() + 35;
    EXPECT_EQ(refusal(As::npz, zip({sound}, {.before = "PK\x06\x06" + little(44, 8) + little(45, 2) + little(45, 2) +
                                                       little(0, 8) + little(1, 8) + little(1, 8) + little(51, 8) +
                                                       little(directory, 8) + "PK\x06\x07" + little(0, 4) +
                                                       little(directory + 51, 8) + little(1, 4)})),
              "accepted");
}

/// A byte more, a byte less, a byte changed: read or refused, never anything else.
TEST(Hostile, CutsAndFlipsAreReadOrRefused) {
    const std::string archives[] = {pth(state({})), zip({sound})}, sets[] = {images("(U\x01xU\x01ye")};
    const auto check = [](As as, const std::string& bytes) {
        const std::string got = refusal(as, bytes);
        EXPECT_TRUE(got == "accepted" || got.find("hostile") == 0) << got;
        return got == "accepted";
    };
    for (const auto& [as, bytes] : {std::pair{As::torch, archives[0]}, {As::npz, archives[1]}, {As::bin, sets[0]}})
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            EXPECT_FALSE(check(as, bytes.substr(0, i))) << i;
            for (const unsigned bit : {0x01u, 0x80u}) {
                std::string flipped = bytes;
                flipped[i] = static_cast<char>(static_cast<unsigned char>(flipped[i]) ^ bit);
                check(as, flipped);
            }
        }
}

}  // namespace
