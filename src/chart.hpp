#pragma once
#include <string>
#include <utility>
#include <vector>

namespace bf::program {

/// Text as it stands in HTML and SVG.
std::string escape(const std::string& text);

/// A line of a chart.
struct Series {
    std::string name;
    int colour = 0;
    std::vector<std::pair<double, double>> points;
    bool faint = false;
};

/// How a chart is drawn.
struct Chart {
    std::string title, x_label, y_label;
    bool log_x = false;
    std::vector<Series> series;
};

/// An SVG of the chart with axes, ticks, grid and legend; colours follow the page's light or dark scheme.
std::string draw(const Chart& chart);

/// The same as a whole SVG file with colours of its own; empty if no series has a point.
std::string draw_file(const Chart& chart);

}  // namespace bf::program
