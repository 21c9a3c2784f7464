#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "bf/base/error.hpp"
#include "commands.hpp"
#include "config_toml.hpp"
#include "session.hpp"
#include "stop_signal.hpp"

namespace bf::program {

int run_train(const TrainArguments& a) {
    if (a.help_config) {
        std::fputs(describe_keys().c_str(), stdout);
        return 0;
    }
    BF_CHECK(!a.config.empty() || !a.resume.empty(), "train",
             "want a configuration or --resume RUN; hint: bf train configs/synthetic_small.toml");
    BF_CHECK(a.config.empty() || a.resume.empty(), "train",
             "got both a configuration and --resume; a run is resumed with its own config.toml (and --set)");
    BF_CHECK(a.resume.empty() || a.output.empty(), "train",
             "--output does not go with --resume: a run goes on in its own folder; hint: copy the folder first");
    RunConfig config = load_config(a.resume.empty() ? a.config : a.resume + "/config.toml", a.settings);
    if (!a.resume.empty()) config.output = a.resume;
    if (!a.output.empty()) config.output = a.output;
    if (!a.device.empty()) config.device = a.device;
    const SessionResult r = run_session(config, {.resume = !a.resume.empty(),
                                                 .progress = a.quiet ? nullptr : &std::cerr,
                                                 .terminal = isatty(STDERR_FILENO) != 0,
                                                 .stop = stop_on_signal()});
    for (const Verification& v : r.last) std::printf("%s\n", v.line().c_str());
    std::printf("%llu steps in %.1f s; report %s\n", static_cast<unsigned long long>(r.steps), r.seconds,
                (r.folder / "report.html").c_str());
    return 0;
}

}  // namespace bf::program
