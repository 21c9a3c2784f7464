// Times of the GPU kernels of any CUDA program, at the program's own speed: a library that CUDA loads by itself.
//
//     CUDA_INJECTION64_PATH=.../libbf_kernel_trace.so BF_TRACE=kernels.csv BF_TRACE_LAST_MS=500 PROGRAM...
//
// Through CUPTI's activity records (CUPTI documentation, "Activity API" and "Injection"). At the program's end BF_TRACE
// (kernel_trace.csv) gets a row a kernel in the words of nsys, which kernel_times.py reads: name, launches, total time
// in ns. With BF_TRACE_LAST_MS only what began in the last milliseconds before the last kernel's end is counted, so
// that warming up stays out.
#include <cupti.h>
#include <cxxabi.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

struct Launch {
    std::uint64_t begin, end;
    std::size_t name;
};

std::mutex mutex;
std::map<std::string, std::size_t>* numbers;  // never freed: records may come while the program ends
std::vector<Launch>* launches;

void wanted(CUptiResult result, const char* call) {
    if (result == CUPTI_SUCCESS) return;
    const char* text = nullptr;
    cuptiGetResultString(result, &text);
    std::fprintf(stderr, "kernel_trace: %s: %s\n", call, text ? text : "unknown error");
}
#define WANTED(call) wanted(call, #call)

/// The name as written in the source, if it is one of C++.
std::string plain(const std::string& name) {
    int status = 0;
    char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    std::string out = status == 0 && text ? text : name;
    std::free(text);
    for (char& c : out)
        if (c == '"') c = '\'';
    return out;
}

void give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records) {
    *size = std::size_t{8} << 20;
    *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(8, *size));
    *most_records = 0;
}

void take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t, std::size_t valid) {
    CUpti_Activity* record = nullptr;
    const std::lock_guard lock(mutex);
    while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
        if (record->kind != CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) continue;
        const auto& kernel = *reinterpret_cast<const CUpti_ActivityKernel10*>(record);
        const auto [at, added] = numbers->try_emplace(kernel.name, numbers->size());
        launches->push_back({kernel.start, kernel.end, at->second});
    }
    std::free(buffer);
}

void report() {
    WANTED(cuptiActivityFlushAll(1));
    const char *file = std::getenv("BF_TRACE"), *last = std::getenv("BF_TRACE_LAST_MS");
    const std::lock_guard lock(mutex);
    std::uint64_t end = 0;
    for (const Launch& l : *launches) end = l.end > end ? l.end : end;
    const auto window = last ? static_cast<std::uint64_t>(std::atof(last) * 1e6) : end;
    const std::uint64_t from = window < end ? end - window : 0;
    std::vector<std::uint64_t> count(numbers->size()), total(numbers->size());
    for (const Launch& l : *launches)
        if (l.begin >= from) {
            ++count[l.name];
            total[l.name] += l.end - l.begin;
        }
    std::FILE* out = std::fopen(file ? file : "kernel_trace.csv", "w");
    if (!out) {
        std::fprintf(stderr, "kernel_trace: cannot write %s\n", file ? file : "kernel_trace.csv");
        return;
    }
    std::fprintf(out, "Name,Instances,Total Time (ns)\n");
    for (const auto& [name, number] : *numbers)
        if (count[number] > 0)
            std::fprintf(out, "\"%s\",%llu,%llu\n", plain(name).c_str(), static_cast<unsigned long long>(count[number]),
                         static_cast<unsigned long long>(total[number]));
    std::fclose(out);
}

}  // namespace

/// CUDA calls this when it starts.
extern "C" int InitializeInjection() {
    numbers = new std::map<std::string, std::size_t>;
    launches = new std::vector<Launch>;
    WANTED(cuptiActivityEnable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL));
    WANTED(cuptiActivityRegisterCallbacks(give_buffer, take_buffer));
    std::atexit(report);
    return 1;
}
