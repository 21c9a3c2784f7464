#include "chart.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <sstream>

namespace bf::program {

std::string escape(const std::string& text) {
    std::string out;
    for (const char c : text)
        out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
    return out;
}

namespace {

std::string format(double v, int digits) {
    char text[48];
    std::snprintf(text, sizeof text, "%.*f", digits, v);
    return text;
}
/// A tick's label: as few digits as tell the ticks apart.
std::string tick_text(double v) {
    char text[48];
    std::snprintf(text, sizeof text, std::abs(v) >= 1e5 || (v != 0 && std::abs(v) < 1e-3) ? "%.0e" : "%.5g", v);
    return text;
}
/// Round tick values over [low, high].
std::vector<double> ticks(double low, double high) {
    const double raw = (high - low) / 5, power = std::pow(10, std::floor(std::log10(raw)));
    double step = power;
    for (const double m : {2.0, 5.0, 10.0})
        if (raw > step * 1.001) step = m * power;
    std::vector<double> all;
    const double first = std::ceil(low / step);
    for (int i = 0; i < 12 && (first + i) * step <= high + 1e-9 * step; ++i) all.push_back((first + i) * step);
    return all;
}

/// The body of a chart in an svg element with these attributes; empty without points.
std::string draw_with(const Chart& chart, const std::string& attributes, const std::string& style) {
    constexpr double width = 520, height = 320, left = 62, right = 14, top = 52, bottom = 46;
    double x0 = HUGE_VAL, x1 = -HUGE_VAL, y0 = HUGE_VAL, y1 = -HUGE_VAL;
    for (const Series& s : chart.series)
        for (auto [x, y] : s.points) {
            if (chart.log_x && x <= 0) continue;
            x = chart.log_x ? std::log10(x) : x;
            x0 = std::min(x0, x), x1 = std::max(x1, x), y0 = std::min(y0, y), y1 = std::max(y1, y);
        }
    if (!(x0 <= x1)) return "";
    if (x1 - x0 < 1e-9) x1 = x0 + 1;
    // nearly equal values (rounding apart) are drawn as one level
    if (y1 - y0 <= 1e-9 * std::max(std::abs(y0), std::abs(y1)) || y0 == y1)
        y0 -= 0.5 * std::max(1e-6, std::abs(y0)), y1 += 0.5 * std::max(1e-6, std::abs(y1));
    const double pad = 0.05 * (y1 - y0);
    y0 = y0 >= 0 && y0 - pad < 0 ? 0 : y0 - pad;
    y1 += pad;
    const auto px = [&](double x) { return left + (x - x0) / (x1 - x0) * (width - left - right); };
    const auto py = [&](double y) { return height - bottom - (y - y0) / (y1 - y0) * (height - top - bottom); };
    std::ostringstream svg;
    svg << "<svg viewBox=\"0 0 " << width << ' ' << height << "\" role=\"img\" aria-label=\"" << escape(chart.title)
        << '"' << attributes << '>' << style << "<text class=\"title\" x=\"8\" y=\"18\">" << escape(chart.title)
        << "</text>";
    for (const double t : ticks(y0, y1))
        svg << "<line class=\"grid-line\" x1=\"" << left << "\" x2=\"" << width - right << "\" y1=\""
            << format(py(t), 1) << "\" y2=\"" << format(py(t), 1) << "\"/><text x=\"" << left - 6 << "\" y=\""
            << format(py(t) + 4, 1) << "\" text-anchor=\"end\">" << tick_text(t) << "</text>";
    std::vector<double> across = ticks(x0, x1);
    if (chart.log_x) {
        across.clear();
        for (double e = std::ceil(x0); e <= x1 + 1e-9; ++e) across.push_back(e);
    }
    for (const double t : across)
        svg << "<line class=\"grid-line\" y1=\"" << top << "\" y2=\"" << height - bottom << "\" x1=\""
            << format(px(t), 1) << "\" x2=\"" << format(px(t), 1) << "\"/><text x=\"" << format(px(t), 1) << "\" y=\""
            << height - bottom + 16 << "\" text-anchor=\"middle\">" << tick_text(chart.log_x ? std::pow(10, t) : t)
            << "</text>";
    svg << "<line class=\"axis\" x1=\"" << left << "\" x2=\"" << width - right << "\" y1=\"" << height - bottom
        << "\" y2=\"" << height - bottom << "\"/>"
        << "<text x=\"" << (left + width - right) / 2 << "\" y=\"" << height - 8 << "\" text-anchor=\"middle\">"
        << escape(chart.x_label) << "</text>"
        << "<text transform=\"translate(13 " << (top + height - bottom) / 2 << ") rotate(-90)\" text-anchor=\"middle\">"
        << escape(chart.y_label) << "</text>";
    for (const Series& s : chart.series) {
        svg << "<polyline fill=\"none\" stroke=\"var(--c" << s.colour % 6 << ")\" stroke-width=\"" << (s.faint ? 1 : 2)
            << "\" stroke-linejoin=\"round\" opacity=\"" << (s.faint ? 0.25 : 0.95) << "\" points=\"";
        for (const auto& [x, y] : s.points)
            if (!chart.log_x || x > 0)
                svg << format(px(chart.log_x ? std::log10(x) : x), 1) << ',' << format(py(y), 1) << ' ';
        svg << "\"/>";
    }
    // the legend stands in a row of its own, so that it hides no curve
    std::set<std::string> named;
    double x = left;
    for (const Series& s : chart.series) {
        if (s.faint || s.name.empty() || !named.insert(s.name).second) continue;
        svg << "<rect x=\"" << x << "\" y=\"34\" width=\"12\" height=\"4\" fill=\"var(--c" << s.colour % 6
            << ")\"/><text x=\"" << x + 17 << "\" y=\"40\">" << escape(s.name) << "</text>";
        x += 36 + 7 * static_cast<double>(s.name.size());
    }
    svg << "</svg>";
    return svg.str();
}

constexpr const char* file_style =
    "<style>:root{color-scheme:light "
    "dark;--bg:#fff;--fg:#1d1f23;--soft:#6a6f78;--line:#d9dade;--c0:#0b6bb5;--c1:#d9541e;--c2:#1c8a5f;--c3:#a23b8f;"
    "--c4:#b58900;--c5:#4a5568}@media(prefers-color-scheme:dark){:root{--bg:#15171b;--fg:#e7e8ea;--soft:#9aa0aa;--line:"
    "#343842;--c0:#58a8e8;--c1:#ff8a5c;--c2:#4fc796;--c3:#dc86cc;--c4:#e0b93f;--c5:#9fb0c6}}svg{background:var(--bg)}"
    "text{font:12px system-ui,sans-serif;fill:var(--soft)}.title{font-size:14px;font-weight:600;fill:var(--fg)}"
    ".grid-line{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft)}</style>";

}  // namespace

std::string draw(const Chart& chart) { return draw_with(chart, "", ""); }

std::string draw_file(const Chart& chart) {
    return draw_with(chart, " xmlns=\"http://www.w3.org/2000/svg\" width=\"780\" height=\"480\"", file_style) + "\n";
}

}  // namespace bf::program
