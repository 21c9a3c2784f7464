#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "bf/io/lines.hpp"

namespace bf {

/// A person of LFW's people files.
struct LfwPerson {
    std::string name;
    std::int64_t images = 0;
    int fold = 1;  ///< from 1
};

/// LFW's people files: people.txt has the number of folds, then each fold's number of people and its lines
/// `name<TAB>images`; peopleDevTrain.txt and peopleDevTest.txt have one number and its lines. Nobody stands twice.
inline std::vector<LfwPerson> read_lfw_people(const Source& list) {
    LineReader in(list);
    std::string_view line;
    const auto count = [&](std::int64_t most) {
        std::int64_t n = 0;
        BF_CHECK_DATA(
            in.next(line) && fields_of(line).size() == 1 && parse_number(fields_of(line)[0], n) && n >= 1 && n <= most,
            in.where(), "want a number alone, 1..", most, "; got ", excerpt(line));
        return n;
    };
    // one number and people, or the number of folds and then another number
    const std::int64_t head = count(1000000);
    std::vector<LfwPerson> people;
    std::map<std::string, int> folds;
    const auto person = [&](int fold) {
        const auto f = fields_of(line);
        std::int64_t images = 0;
        BF_CHECK_DATA(f.size() == 2 && parse_number(f[1], images) && images > 0, in.where(),
                      "not `name<TAB>images`; got ", excerpt(line));
        const auto [it, added] = folds.emplace(std::string(f[0]), fold);
        BF_CHECK_DATA(added, in.where(), it->first, " stands twice, in fold ", it->second, " and in fold ", fold);
        people.push_back({it->first, images, fold});
    };
    BF_CHECK_DATA(in.next(line), concat(in.name(), ":2"), "file ends early");
    std::int64_t first_of_fold = 0;
    const bool has_folds = fields_of(line).size() == 1;
    if (has_folds)
        BF_CHECK_DATA(parse_number(fields_of(line)[0], first_of_fold) && first_of_fold >= 1 && head <= 1000, in.where(),
                      "want the number of people of fold 1; got ", excerpt(line));
    for (std::int64_t fold = 1; fold <= (has_folds ? head : 1); ++fold) {
        const std::int64_t n = !has_folds ? head : fold == 1 ? first_of_fold : count(1000000);
        for (std::int64_t i = 0; i < n; ++i) {
            if (has_folds || i > 0)
                BF_CHECK_DATA(in.next(line), concat(in.name(), ":", in.number() + 1), "file ends early; want ", n,
                              " people in fold ", fold);
            person(static_cast<int>(fold));
        }
    }
    while (in.next_filled(line))
        fail(ErrorCode::data, in.where(), "more people than the header says; got ", excerpt(line));
    return people;
}
inline std::vector<LfwPerson> read_lfw_people(const std::filesystem::path& list) {
    return read_lfw_people(FileSource(list));
}

}  // namespace bf
