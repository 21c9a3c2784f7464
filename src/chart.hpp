#pragma once
#include <string>
#include <utility>
#include <vector>

namespace bf::program {

/// Text as it stands in HTML and SVG.
std::string escape(const std::string& text);
/// A number with that many digits after the point.
std::string fixed(double value, int digits);

/// A line of a chart.
struct Series {
    std::string name;
    int colour = 0;
    std::vector<std::pair<double, double>> points;
    bool faint = false;
    std::vector<double> errors = {};  ///< half-widths of error bars, one a point; empty: none
};

/// CSS of charts, light and dark.
std::string chart_style();
/// The same colours as variables of CSS for a page: --page, --card, --text, --soft, --line, --series0 to --series5.
std::string page_colours();

/// How a chart is drawn.
struct Chart {
    std::string title, x_label, y_label;
    bool log_x = false;
    std::vector<Series> series = {};
    bool log_y = false;  ///< on a logarithmic axis points that are not above 0 are left out
};

/// An SVG element of the chart with axes, ticks, grid and legend, for a page that has chart_style().
std::string draw(const Chart& chart);

/// The same as a whole SVG file with colours of its own; empty if no series has a point.
std::string draw_file(const Chart& chart);
/// Charts beside and below each other in one SVG file; those without a point are left out.
std::string draw_file(const std::vector<Chart>& charts);

}  // namespace bf::program
