#include "jpeg_decoder.h"

#include <algorithm>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>

// After <cstdio>, which it needs.
#include <jerror.h>
#include <jpeglib.h>

#include "image_file.h"

namespace opserve::native {
namespace {

// -- the callbacks ------------------------------------------------------------------------------------------

struct Errors {
    jpeg_error_mgr manager;  // the first member: the library has pointers to it
    std::jmp_buf escape;
};

extern "C" {

[[noreturn]] void leave(j_common_ptr info) { std::longjmp(reinterpret_cast<Errors*>(info->err)->escape, 1); }

void ignore_message(j_common_ptr) {}

void do_nothing(j_decompress_ptr) {}

// There is no more: the library stops where it is, as if more were to come.
boolean end_of_data(j_decompress_ptr) { return FALSE; }

void skip_data(j_decompress_ptr info, long count) {
    if (count <= 0) return;
    const size_t skipped = std::min(static_cast<size_t>(count), info->src->bytes_in_buffer);
    info->src->next_input_byte += skipped;
    info->src->bytes_in_buffer -= skipped;
}

}  // extern "C"

// -- from the pixels of the file to those of the canvas -----------------------------------------------------

using Convert = void (*)(const uint8_t* from, uint8_t* to, size_t pixels);

void grey_to_rgb(const uint8_t* from, uint8_t* to, size_t pixels) {
    for (size_t x = 0; x < pixels; ++x, to += 3) to[0] = to[1] = to[2] = from[x];
}

void rgbx_to_grey(const uint8_t* from, uint8_t* to, size_t pixels) {
    for (size_t x = 0; x < pixels; ++x, from += 4) to[x] = luma(from[0], from[1], from[2]);
}

// Inverted CMYK, as Adobe and everybody else writes it, to the colours that Pillow makes of it, rounded as
// there.
template <int kColours>
void cmyk_to(const uint8_t* from, uint8_t* to, size_t pixels) {
    for (size_t x = 0; x < pixels; ++x, from += 4, to += kColours) {
        const int light = from[3];
        int colour[3];
        for (int i = 0; i < 3; ++i) {
            const int product = (255 - from[i]) * light + 128;
            colour[i] = light - (((product >> 8) + product) >> 8);
        }
        if constexpr (kColours == 1) {
            *to = luma(static_cast<unsigned>(colour[0]), static_cast<unsigned>(colour[1]),
                       static_cast<unsigned>(colour[2]));
        } else {
            for (int i = 0; i < 3; ++i) to[i] = static_cast<uint8_t>(colour[i]);
        }
    }
}

// What the library is asked for, and what is made of it; without `convert` it is what the canvas has.
struct Conversion {
    J_COLOR_SPACE space;
    int samples;  // of a pixel
    Convert convert;
};

Conversion choose_conversion(int components, int colours) {
    switch (components) {
        case 1:
            return {JCS_GRAYSCALE, 1, colours == 1 ? nullptr : grey_to_rgb};
        case 3:
            if (colours == 3) return {JCS_EXT_RGB, 3, nullptr};
            return {JCS_EXT_RGBX, 4, rgbx_to_grey};
        default:
            return {JCS_CMYK, 4, colours == 1 ? cmyk_to<1> : cmyk_to<3>};
    }
}

// -- the decoder --------------------------------------------------------------------------------------------

enum class Outcome { kDone, kTooShort, kBroken, kNoMemory };

class Decoder {
  public:
    Decoder(std::span<const std::byte> content, Conversion conversion, Canvas& canvas)
        : conversion_(conversion), canvas_(canvas) {
        info_.err = jpeg_std_error(&errors_.manager);
        errors_.manager.error_exit = leave;
        errors_.manager.output_message = ignore_message;
        source_.next_input_byte = reinterpret_cast<const JOCTET*>(content.data());
        source_.bytes_in_buffer = content.size();
        source_.init_source = do_nothing;
        source_.fill_input_buffer = end_of_data;
        source_.skip_input_data = skip_data;
        source_.resync_to_restart = jpeg_resync_to_restart;
        source_.term_source = do_nothing;
        if (conversion.convert != nullptr) {
            line_ = std::make_unique_for_overwrite<uint8_t[]>(size_t{canvas.width()} *
                                                              static_cast<size_t>(conversion.samples));
        }
    }
    ~Decoder() { jpeg_destroy_decompress(&info_); }
    Decoder(const Decoder&) = delete;
    Decoder& operator=(const Decoder&) = delete;

    // An error leaves the library by a jump to here, over its own functions alone: nothing here has a
    // destructor.
    Outcome run() {
        if (setjmp(errors_.escape) != 0) {
            return errors_.manager.msg_code == JERR_OUT_OF_MEMORY ? Outcome::kNoMemory : Outcome::kBroken;
        }
        jpeg_create_decompress(&info_);
        info_.src = &source_;
        return draw();
    }

  private:
    Outcome draw() {
        int status;
        do {
            status = jpeg_read_header(&info_, FALSE);
        } while (status == JPEG_HEADER_TABLES_ONLY);
        if (status == JPEG_SUSPENDED) return Outcome::kTooShort;
        info_.out_color_space = conversion_.space;
        if (!jpeg_start_decompress(&info_)) return Outcome::kTooShort;
        if (info_.output_width != canvas_.width() || info_.output_height != canvas_.height() ||
            info_.output_components != conversion_.samples) {
            return Outcome::kBroken;
        }
        for (uint32_t y = 0; y < canvas_.height(); ++y) {
            uint8_t* const pixels = canvas_.row(y);
            JSAMPROW line = line_ ? line_.get() : pixels;
            if (jpeg_read_scanlines(&info_, &line, 1) != 1) return Outcome::kTooShort;
            if (line_) conversion_.convert(line, pixels, canvas_.width());
            canvas_.commit(y);
        }
        // What follows the pixels may be cut off, but not damaged.
        jpeg_finish_decompress(&info_);
        return Outcome::kDone;
    }

    const Conversion conversion_;
    Canvas& canvas_;
    std::unique_ptr<uint8_t[]> line_;
    jpeg_decompress_struct info_{};
    Errors errors_{};
    jpeg_source_mgr source_{};
};

}  // namespace

void decode_jpeg(std::span<const std::byte> content, int components, Canvas& canvas) {
    switch (Decoder(content, choose_conversion(components, canvas.colours()), canvas).run()) {
        case Outcome::kDone:
            return;
        case Outcome::kTooShort:
            throw DamagedImage("not enough image data");
        case Outcome::kNoMemory:
            throw std::bad_alloc();
        case Outcome::kBroken:
            throw DamagedImage("cannot decode image data");
    }
}

}  // namespace opserve::native
