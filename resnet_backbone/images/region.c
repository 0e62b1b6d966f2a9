/* A region of a JPEG's pixels, without most of the work that the others would be. Built by build_region.py. */
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#if !defined(LIBJPEG_TURBO_VERSION_NUMBER) || LIBJPEG_TURBO_VERSION_NUMBER < 2001000
#error "libjpeg-turbo 2.1 or newer is needed"
#endif

/* Chroma is interpolated: a pixel at the edge depends on its neighbours. */
#define MARGIN 2

enum { DECODED, REFUSED, SEVERAL_SCANS };

struct failure {
    struct jpeg_error_mgr manager;
    jmp_buf out;
};

static void leave(j_common_ptr info) { longjmp(((struct failure *)info->err)->out, 1); }

/* Negative levels are warnings of damaged data, which are for Pillow to judge. */
static void leave_if_damaged(j_common_ptr info, int level) {
    if (level < 0) leave(info);
}

/* Rows of RGB without gaps into `pixels`, (bottom - top) * (right - left) * 3 bytes.
   Refused are damaged data and regions that reach outside; several scans (progressive) are not decoded here. */
int decode_region(const unsigned char *data, size_t size, unsigned left, unsigned top, unsigned right,
                  unsigned bottom, unsigned char *pixels) {
    struct jpeg_decompress_struct info;
    struct failure failure;
    memset(&info, 0, sizeof info);
    info.err = jpeg_std_error(&failure.manager);
    failure.manager.error_exit = leave;
    failure.manager.emit_message = leave_if_damaged;
    if (setjmp(failure.out)) {
        jpeg_destroy_decompress(&info);
        return REFUSED;
    }
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, data, size);
    jpeg_read_header(&info, TRUE);
    if (left >= right || top >= bottom || right > info.image_width || bottom > info.image_height)
        leave((j_common_ptr)&info);
    if (jpeg_has_multiple_scans(&info)) {
        jpeg_destroy_decompress(&info);
        return SEVERAL_SCANS;
    }
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);

    JDIMENSION from = left > MARGIN ? left - MARGIN : 0;
    JDIMENSION width = (info.image_width - right > MARGIN ? right + MARGIN : info.image_width) - from;
    JDIMENSION above = top > MARGIN ? top - MARGIN : 0;
    jpeg_crop_scanline(&info, &from, &width); /* moves `from` to the left, to the start of a block */
    if (above > 0 && jpeg_skip_scanlines(&info, above) != above) leave((j_common_ptr)&info);
    JSAMPARRAY row = info.mem->alloc_sarray((j_common_ptr)&info, JPOOL_IMAGE, info.output_width * 3, 1);
    size_t length = (size_t)(right - left) * 3;
    while (info.output_scanline < bottom) {
        JDIMENSION y = info.output_scanline;
        if (jpeg_read_scanlines(&info, row, 1) != 1) leave((j_common_ptr)&info);
        if (y >= top) memcpy(pixels + (y - top) * length, row[0] + (size_t)(left - from) * 3, length);
    }
    jpeg_destroy_decompress(&info);
    return DECODED;
}
