#pragma once
#include "bf/base/random.hpp"
#include "bf/data/synthetic_canvas.hpp"

namespace bf::synthetic {

/// What makes an identity: drawn once from its stream. Lengths are in units of half the face height.
struct Identity {
    float width, jaw, chin, forehead;  // outline
    Colour skin, hair, iris, lip;
    float hairline, hair_volume, parting;
    int hair_style;  // 0 bald, 1 short, 2 long, 3 curly, 4 fringe
    float eye_gap, eye_size, eye_open, eye_tilt, eye_height;
    float brow_thick, brow_arch, brow_tilt, brow_gap;
    float nose_length, nose_width, nose_bridge;
    float mouth_width, lip_upper, lip_lower, mouth_height, mouth_curve;
    float ear_size, cheek, freckles;
    int beard;  // 0 none, 1 moustache, 2 full, 3 goatee
    bool wears_glasses;
    float glasses_round;
    std::array<Point, 3> moles;
    int mole_count;

    explicit Identity(Rng rng) {
        const auto about = [&rng](float mean, float spread) {
            return mean + spread * std::clamp(rng.normal(), -2.2f, 2.2f);
        };
        width = about(0.76f, 0.055f);
        jaw = about(0.72f, 0.09f);
        chin = about(0.34f, 0.08f);
        forehead = about(0.86f, 0.05f);
        const float tone = rng.uniform(), warm = about(0, 0.03f);
        skin = mix({0.93f, 0.76f, 0.66f}, {0.45f, 0.30f, 0.22f}, 0.85f * tone * tone) + Colour{warm, 0, -warm};
        const float dark = rng.uniform(), red = rng.uniform();
        hair = mix({0.10f, 0.07f, 0.06f}, mix({0.75f, 0.62f, 0.35f}, {0.55f, 0.25f, 0.12f}, red), dark * dark);
        const float light_iris = rng.chance(0.4f) ? 1.0f : 0.2f, green_iris = rng.uniform();  // arguments have no order
        iris = mix({0.25f, 0.15f, 0.08f}, mix({0.30f, 0.45f, 0.60f}, {0.35f, 0.45f, 0.25f}, green_iris), light_iris);
        lip = mix(skin, {0.70f, 0.28f, 0.30f}, rng.uniform(0.3f, 0.75f));
        hairline = about(-0.62f, 0.08f);
        hair_volume = about(0.16f, 0.06f);
        parting = rng.uniform(-0.5f, 0.5f);
        hair_style = static_cast<int>(rng.below(10));
        hair_style = hair_style == 0 ? 0 : 1 + hair_style % 4;
        eye_gap = about(0.34f, 0.035f);
        eye_size = about(0.150f, 0.018f);
        eye_open = about(0.52f, 0.09f);
        eye_tilt = about(0, 0.10f);
        eye_height = about(-0.12f, 0.04f);
        brow_thick = about(0.062f, 0.018f);
        brow_arch = about(0.07f, 0.04f);
        brow_tilt = about(0, 0.04f);
        brow_gap = about(0.19f, 0.03f);
        nose_length = about(0.40f, 0.05f);
        nose_width = about(0.15f, 0.028f);
        nose_bridge = rng.uniform(0.1f, 0.5f);
        mouth_width = about(0.27f, 0.04f);
        lip_upper = about(0.050f, 0.014f);
        lip_lower = about(0.068f, 0.018f);
        mouth_height = about(0.50f, 0.04f);
        mouth_curve = about(0.01f, 0.03f);
        ear_size = about(0.15f, 0.03f);
        cheek = rng.uniform(0, 0.25f);
        freckles = rng.chance(0.15f) ? rng.uniform(0.15f, 0.4f) : 0;
        beard = rng.chance(0.25f) ? 1 + static_cast<int>(rng.below(3)) : 0;
        wears_glasses = rng.chance(0.2f);
        glasses_round = rng.uniform(0.2f, 0.3f);
        mole_count = static_cast<int>(rng.below(4));
        for (Point& m : moles) m = {rng.uniform(-0.5f, 0.5f), rng.uniform(-0.3f, 0.75f)};
    }
};

/// What changes from image to image of one identity; `d` scales every strength.
struct Nuisance {
    float roll, yaw, pitch, scale, shift_x, shift_y;
    float light_angle, light_strength, exposure, gamma;
    Colour tint;
    float smile, mouth_open, blink, brow_raise;
    int occlusion;  // 0 none, 1 sunglasses, 2 hat, 3 scarf, 4 hand or box
    bool glasses_flip;
    float occlusion_x, occlusion_y, occlusion_size;
    Colour occlusion_colour, background, background2, glasses;
    int background_kind;
    float blur, noise, hair_shift, background_phase;

    Nuisance(Rng rng, float d) {
        roll = 0.16f * d * rng.normal();
        yaw = std::clamp(0.38f * d * rng.normal(), -0.8f, 0.8f);
        pitch = std::clamp(0.20f * d * rng.normal(), -0.45f, 0.45f);
        scale = 1 + 0.07f * d * rng.normal();
        shift_x = 0.045f * d * rng.normal();
        shift_y = 0.045f * d * rng.normal();
        light_angle = rng.uniform(0, 6.2831853f);
        light_strength = d * rng.uniform(0, 0.5f);
        exposure = std::clamp(1 + 0.22f * d * rng.normal(), 0.45f, 1.6f);
        gamma = std::clamp(1 + 0.25f * d * rng.normal(), 0.5f, 1.6f);
        tint = {1 + 0.09f * d * rng.normal(), 1 + 0.04f * d * rng.normal(), 1 + 0.09f * d * rng.normal()};
        smile = d * rng.uniform(-0.05f, 0.10f);
        mouth_open = rng.chance(0.3f * d) ? rng.uniform(0.02f, 0.13f) : 0;
        blink = rng.chance(0.12f * d) ? rng.uniform(0.4f, 1) : 0;
        brow_raise = 0.03f * d * rng.normal();
        occlusion = rng.chance(0.22f * d) ? 1 + static_cast<int>(rng.below(4)) : 0;
        glasses_flip = rng.chance(0.08f * d);
        occlusion_x = rng.uniform(-0.6f, 0.6f);
        occlusion_y = rng.uniform(-0.5f, 0.8f);
        occlusion_size = rng.uniform(0.15f, 0.38f);
        const auto any = [&rng] { return Colour{rng.uniform(), rng.uniform(), rng.uniform()}; };
        occlusion_colour = any();
        background = any();
        background2 = any();
        glasses = 0.4f * any();
        background_kind = static_cast<int>(rng.below(4));
        blur = rng.chance(0.3f * d) ? rng.uniform(0, 0.022f) : 0;
        noise = d * rng.uniform(0, 12);
        hair_shift = 0.03f * d * rng.normal();
        background_phase = rng.uniform(0, 6.28f);
    }
};

/// Draws one face.
class Renderer {
  public:
    Renderer(const Identity& who, const Nuisance& how, int size) : p_(who), n_(how), canvas_(size) {
        unit_ = 0.40f * static_cast<float>(size) * how.scale;
        centre_ = {static_cast<float>(size) * (0.5f + how.shift_x), static_cast<float>(size) * (0.53f + how.shift_y)};
        cos_roll_ = std::cos(how.roll);
        sin_roll_ = std::sin(how.roll);
        cos_yaw_ = std::cos(how.yaw);
        sin_yaw_ = std::sin(how.yaw);
        cos_pitch_ = std::cos(how.pitch);
        sin_pitch_ = std::sin(how.pitch);
    }

    /// grain_key names the sensor noise of this image.
    Image render(std::uint64_t grain_key) {
        background();
        if (p_.hair_style == 2) hair_back();
        ears();
        head();
        if (p_.beard) beard();
        marks();
        for (float side : {-1.0f, 1.0f}) eye(side);
        nose();
        mouth();
        hair();
        if (p_.wears_glasses != n_.glasses_flip) glasses();
        occlusion();
        canvas_.blur(n_.blur * static_cast<float>(canvas_.size()));
        const float noise = n_.noise;
        return canvas_.finish(n_.gamma, [&](std::size_t pixel) {
            const Random4 four = philox(grain_key, 0, pixel);
            const auto centred = [&](int i) { return (to_uniform(four.v[i]) + to_uniform(four.v[3]) - 1) * noise; };
            return std::array<float, 3>{centred(0), centred(1), centred(2)};
        });
    }

  private:
    /// Face coordinates (u right, v down, z towards the viewer) to pixels: pitch, yaw, then roll and scale.
    Point place(float u, float v, float lift = 0) const {
        const float r = std::clamp(1 - u * u / (p_.width * p_.width) - 0.7f * v * v, 0.0f, 1.0f);
        const float z = 0.62f * std::sqrt(r) + lift;
        const float v1 = v * cos_pitch_ + z * sin_pitch_, z1 = z * cos_pitch_ - v * sin_pitch_;
        const float u1 = u * cos_yaw_ + z1 * sin_yaw_;
        return {centre_.x + unit_ * (u1 * cos_roll_ - v1 * sin_roll_),
                centre_.y + unit_ * (u1 * sin_roll_ + v1 * cos_roll_)};
    }
    /// How much a feature at u is narrowed by turning away.
    float foreshorten(float u) const {
        const float slope = u / p_.width;
        return std::clamp(cos_yaw_ - slope * sin_yaw_ * 0.8f, 0.25f, 1.15f);
    }
    Colour lit(Colour c) const { return n_.exposure * (n_.tint * c); }

    void background() {
        const float size = static_cast<float>(canvas_.size());
        const float ca = std::cos(n_.background_phase), sa = std::sin(n_.background_phase);
        for (int y = 0; y < canvas_.size(); ++y)
            for (int x = 0; x < canvas_.size(); ++x) {
                const float s = (static_cast<float>(x) * ca + static_cast<float>(y) * sa) / size;
                float t = 0;
                if (n_.background_kind == 1) t = std::clamp(0.5f + s, 0.0f, 1.0f);
                if (n_.background_kind == 2) t = static_cast<float>(static_cast<int>(s * 9 + 50) % 2);
                if (n_.background_kind == 3)
                    t = static_cast<float>((x * 6 / canvas_.size() + y * 6 / canvas_.size()) % 2) * 0.7f;
                canvas_.at(x, y) = n_.exposure * mix(n_.background, n_.background2, t);
            }
        // shoulders
        canvas_.ellipse({centre_.x, centre_.y + 1.75f * unit_}, 1.15f * unit_, 0.75f * unit_, 0, lit(n_.background2),
                        1);
        canvas_.ellipse({centre_.x, centre_.y + 1.0f * unit_}, 0.36f * unit_, 0.55f * unit_, 0, lit(0.82f * p_.skin),
                        1);
    }
    void hair_back() {
        const Point c = place(0, -0.1f, -0.7f);
        canvas_.ellipse(c, (p_.width + p_.hair_volume + 0.06f) * unit_, (1.12f + n_.hair_shift) * unit_, n_.roll,
                        lit(0.8f * p_.hair));
    }
    void ears() {
        for (float side : {-1.0f, 1.0f}) {
            const Point c = place(side * (p_.width + 0.01f), 0.02f, -0.25f);
            canvas_.ellipse(c, 0.5f * p_.ear_size * unit_, p_.ear_size * unit_, n_.roll, lit(0.88f * p_.skin));
        }
    }
    /// Half width of the outline at height v.
    float half_width(float v) const {
        if (v < 0) {
            const float t = v / -1.0f;
            return p_.width * (p_.forehead + (1 - p_.forehead) * (1 - t)) *
                   std::sqrt(std::max(0.0f, 1 - t * t * t * t));
        }
        const float lower = v / 1.02f, t = std::min(1.0f, lower);
        const float jaw = p_.width * (1 - (1 - p_.jaw) * t * t);
        return jaw * std::sqrt(std::max(0.0f, 1 - std::pow(t, 3.5f - 3 * p_.chin + 1e-3f)));
    }
    void head() {
        const float reach = 1.15f * unit_, lx = std::cos(n_.light_angle), ly = std::sin(n_.light_angle);
        const Point mid = place(0, 0, -0.55f);
        std::array<float, 65> table;
        for (std::size_t i = 0; i < table.size(); ++i) table[i] = half_width(-1 + 2.04f * static_cast<float>(i) / 64);
        const Colour skin = lit(p_.skin);
        canvas_.box(mid, reach, reach, [&](float x, float y) {
            const float dx = (x - mid.x) / unit_, dy = (y - mid.y) / unit_;
            const float u = (dx * cos_roll_ + dy * sin_roll_),
                        v = (-dx * sin_roll_ + dy * cos_roll_) / (0.9f + 0.1f * cos_pitch_);
            const float at = (v + 1) * (64 / 2.04f);
            if (at < 0 || at >= 64) return Canvas::Paint{skin, 0};
            const auto i = static_cast<std::size_t>(at);
            const float f = at - static_cast<float>(i),
                        w = (table[i] * (1 - f) + table[i + 1] * f) * (0.93f + 0.07f * cos_yaw_);
            const float alpha = coverage((std::abs(u) - w) * unit_);
            if (alpha <= 0) return Canvas::Paint{skin, 0};
            const float nu = u / std::max(w, 0.05f), depth = std::max(0.0f, 1 - 0.75f * nu * nu - 0.35f * v * v);
            const float shade = 0.80f + 0.22f * depth + n_.light_strength * 0.55f * (nu * lx + v * ly);
            return Canvas::Paint{std::clamp(shade, 0.3f, 1.3f) * skin, alpha};
        });
        for (float side : {-1.0f, 1.0f}) {
            const Point c = place(side * 0.42f, 0.28f);
            canvas_.ellipse(c, 0.20f * unit_ * foreshorten(side * 0.42f), 0.15f * unit_, 0, lit({0.85f, 0.42f, 0.38f}),
                            p_.cheek, 4);
        }
    }
    void beard() {
        const Colour c = lit(mix(p_.hair, p_.skin, 0.25f));
        if (p_.beard == 1 || p_.beard == 2) {
            const Point a = place(-p_.mouth_width * 1.05f, p_.mouth_height - 0.04f, 0.04f),
                        m = place(0, p_.mouth_height - 0.16f, 0.06f),
                        b = place(p_.mouth_width * 1.05f, p_.mouth_height - 0.04f, 0.04f);
            canvas_.stroke(a, m, b, 0.10f * unit_, 0.5f, c, 0.9f);
        }
        if (p_.beard == 2) {
            const Point a = place(-0.92f * p_.width, 0.28f), m = place(0, 1.42f), b = place(0.92f * p_.width, 0.28f);
            canvas_.stroke(a, m, b, 0.30f * unit_, 0.35f, c, 0.85f);
        }
        if (p_.beard == 3)
            canvas_.ellipse(place(0, p_.mouth_height + 0.27f), 0.15f * unit_, 0.14f * unit_, 0, c, 0.9f, 2);
    }
    void marks() {
        for (int i = 0; i < p_.mole_count; ++i) {
            const Point m = p_.moles[static_cast<std::size_t>(i)];
            canvas_.ellipse(place(m.x, m.y), 0.026f * unit_, 0.026f * unit_, 0, lit({0.25f, 0.15f, 0.10f}), 0.9f);
        }
        if (p_.freckles <= 0) return;
        for (int i = 0; i < 14; ++i) {
            const float u = 0.11f * static_cast<float>(i % 7) - 0.33f + 0.04f * static_cast<float>(i % 3),
                        v = 0.14f + 0.09f * static_cast<float>(i / 7) + 0.03f * static_cast<float>(i % 2);
            canvas_.ellipse(place(u, v), 0.014f * unit_, 0.014f * unit_, 0, lit({0.55f, 0.32f, 0.20f}), p_.freckles);
        }
    }
    void eye(float side) {
        const float u = side * p_.eye_gap, v = p_.eye_height, narrow = foreshorten(u);
        const Point c = place(u, v);
        const float tilt = n_.roll + side * p_.eye_tilt;
        const float rx = p_.eye_size * unit_ * narrow, open = p_.eye_open * (1 - n_.blink),
                    ry = std::max(0.4f, p_.eye_size * open * unit_);
        canvas_.ellipse(c, 1.25f * rx, 1.35f * p_.eye_size * 0.6f * unit_, tilt, lit(0.78f * p_.skin), 0.55f, 2);
        canvas_.ellipse(c, rx, ry, tilt, lit({0.93f, 0.92f, 0.90f}));
        if (open > 0.12f) {
            const Point look = place(u + 0.02f * sin_yaw_, v);
            const float r = 0.52f * p_.eye_size * unit_;
            canvas_.ellipse(look, r * narrow, std::min(r, ry), tilt, lit(p_.iris));
            canvas_.ellipse(look, 0.45f * r * narrow, std::min(0.45f * r, ry), tilt, {0.03f, 0.03f, 0.03f});
        }
        const Point a = place(u - 1.1f * p_.eye_size, v + side * p_.eye_tilt * -p_.eye_size),
                    b = place(u + 1.1f * p_.eye_size, v + side * p_.eye_tilt * p_.eye_size),
                    lid = place(u, v - 1.9f * p_.eye_size * open);
        canvas_.stroke(a, lid, b, 0.028f * unit_, 0.6f, lit(0.35f * p_.hair), 0.9f);
        const float height = v - p_.brow_gap - n_.brow_raise;
        const Point ba = place(u - side * 0.17f, height + p_.brow_tilt + 0.02f),
                    bb = place(u + side * 0.19f, height - p_.brow_tilt + 0.03f),
                    bm = place(u + side * 0.02f, height - 2 * p_.brow_arch);
        canvas_.stroke(ba, bm, bb, p_.brow_thick * unit_, 0.35f, lit(0.7f * p_.hair), 0.92f);
    }
    void nose() {
        const float tip = p_.eye_height + p_.nose_length;
        const Point top = place(0.03f, p_.eye_height + 0.05f, 0.04f), mid = place(0.05f, tip - 0.15f, 0.16f),
                    end = place(0.06f, tip - 0.03f, 0.20f);
        canvas_.stroke(top, mid, end, 0.05f * unit_, 0.4f, lit(0.72f * p_.skin), p_.nose_bridge);
        canvas_.ellipse(place(0, tip - 0.02f, 0.20f), 0.62f * p_.nose_width * unit_, 0.55f * p_.nose_width * unit_, 0,
                        lit(1.06f * p_.skin), 0.7f, 2);
        for (float side : {-1.0f, 1.0f})
            canvas_.ellipse(place(side * 0.5f * p_.nose_width, tip + 0.025f, 0.16f), 0.25f * p_.nose_width * unit_,
                            0.15f * p_.nose_width * unit_, n_.roll, lit(0.42f * p_.skin), 0.9f);
        canvas_.stroke(place(-p_.nose_width, tip - 0.01f, 0.12f), place(0, tip + 0.10f, 0.20f),
                       place(p_.nose_width, tip - 0.01f, 0.12f), 0.025f * unit_, 0.5f, lit(0.62f * p_.skin), 0.6f);
    }
    void mouth() {
        const float v = p_.mouth_height, w = p_.mouth_width * (1 + 0.9f * std::max(0.0f, n_.smile)),
                    curve = p_.mouth_curve + n_.smile;
        const Point a = place(-w, v - curve, 0.02f), b = place(w, v - curve, 0.02f);
        if (n_.mouth_open > 0)
            canvas_.ellipse(place(0, v + 0.5f * n_.mouth_open, 0.06f), 0.75f * w * unit_ * cos_yaw_,
                            n_.mouth_open * unit_, n_.roll, {0.22f, 0.06f, 0.07f});
        const Point up = place(0, v + curve - p_.lip_upper, 0.10f),
                    low = place(0, v + curve + 2 * n_.mouth_open + p_.lip_lower, 0.10f);
        canvas_.stroke(a, up, b, 2 * p_.lip_upper * unit_, 0.25f, lit(0.9f * p_.lip));
        canvas_.stroke(a, low, b, 2 * p_.lip_lower * unit_, 0.2f, lit(p_.lip));
        if (n_.mouth_open <= 0)
            canvas_.stroke(a, place(0, v + curve + 0.01f, 0.10f), b, 0.02f * unit_, 0.6f, lit(0.45f * p_.lip), 0.9f);
    }
    void hair() {
        if (p_.hair_style == 0) return;
        const Colour c = lit(p_.hair), shine = lit(1.25f * p_.hair);
        const float line = p_.hairline + n_.hair_shift;
        // the cap: everything above the hairline inside a slightly larger outline
        const Point mid = place(0, 0, -0.55f);
        const float volume = p_.hair_volume * (p_.hair_style == 3 ? 1.4f : 1.0f), reach = (1.2f + volume) * unit_;
        canvas_.box(mid, reach, reach, [&](float x, float y) {
            const float dx = (x - mid.x) / unit_, dy = (y - mid.y) / unit_;
            const float u = dx * cos_roll_ + dy * sin_roll_, v = -dx * sin_roll_ + dy * cos_roll_;
            const float outer = std::sqrt(u * u / ((p_.width + volume) * (p_.width + volume)) +
                                          v * v / ((1.0f + volume) * (1.0f + volume)));
            const float shift = u - sin_yaw_ * 0.45f - 0.25f * p_.parting;
            float edge =
                line + 0.28f * sin_pitch_ +
                (p_.hair_style == 4 ? 0.24f + 0.03f * std::abs(static_cast<float>(static_cast<int>(u * 14 + 50) % 2))
                                    : 0.45f * shift * shift * (0.6f + 0.4f * std::abs(p_.parting)));
            if (p_.hair_style == 3) edge += 0.05f * (static_cast<float>(static_cast<int>(u * 9 + 50) % 2) - 0.5f);
            if (std::abs(u) > 0.86f * p_.width)
                edge = p_.hair_style == 1 ? -0.05f : (p_.hair_style == 2 ? 0.75f : 0.15f);
            const float alpha = coverage(std::max((outer - 1) * unit_, (v - edge) * unit_));
            return Canvas::Paint{mix(c, shine, std::clamp(0.5f - 2.2f * std::abs(u + v + 0.5f), 0.0f, 0.5f)), alpha};
        });
    }
    void glasses() {
        for (float side : {-1.0f, 1.0f}) {
            const Point c = place(side * p_.eye_gap, p_.eye_height + 0.02f, 0.14f);
            const float r = p_.glasses_round * unit_, narrow = foreshorten(side * p_.eye_gap);
            canvas_.box(c, r + 2, r + 2, [&](float x, float y) {
                const float u = (x - c.x) / narrow, v = (y - c.y) * 1.15f;
                return Canvas::Paint{n_.glasses,
                                     0.95f * coverage(std::abs(std::sqrt(u * u + v * v) - r) - 0.018f * unit_)};
            });
        }
        canvas_.stroke(place(-0.12f, p_.eye_height, 0.2f), place(0, p_.eye_height - 0.05f, 0.22f),
                       place(0.12f, p_.eye_height, 0.2f), 0.03f * unit_, 1, n_.glasses);
    }
    void occlusion() {
        const Colour c = n_.exposure * n_.occlusion_colour;
        if (n_.occlusion == 1)
            for (float side : {-1.0f, 1.0f})
                canvas_.ellipse(place(side * p_.eye_gap, p_.eye_height + 0.02f, 0.12f),
                                0.25f * unit_ * foreshorten(side * p_.eye_gap), 0.20f * unit_, n_.roll,
                                {0.05f, 0.05f, 0.06f});
        if (n_.occlusion == 2) {
            canvas_.rectangle(place(0, -0.92f, -0.3f), 0.95f * p_.width * unit_, 0.30f * unit_, n_.roll, c);
            canvas_.rectangle(place(0, -0.60f, -0.1f), 1.15f * p_.width * unit_, 0.06f * unit_, n_.roll, 0.8f * c);
        }
        if (n_.occlusion == 3) canvas_.rectangle(place(0, 0.92f, 0), 1.1f * unit_, 0.33f * unit_, n_.roll, c);
        if (n_.occlusion == 4)
            canvas_.rectangle(place(n_.occlusion_x, n_.occlusion_y), n_.occlusion_size * unit_,
                              0.8f * n_.occlusion_size * unit_, n_.background_phase, c);
    }

    const Identity& p_;
    const Nuisance& n_;
    Canvas canvas_;
    float unit_, cos_roll_, sin_roll_, cos_yaw_, sin_yaw_, cos_pitch_, sin_pitch_;
    Point centre_;
};

}  // namespace bf::synthetic
