// AMX: eight registers, tiles, of up to 16 rows × 64 bytes, and TDPBF16PS, which adds the product of two of them, made of
// pairs of bfloat16, to a third in float32. Instructions are written JVAN_TILE(loadd)(tile, from, stride), as the intrinsics
// _tile_loadd and so on of Intel's guide; a tile is a literal.
//
// JVAN_AMX says who runs them: 0 nobody, 1 the processor, 2 amx_emulated.h, which only a test asks for by -DJVAN_AMX=2.
#pragma once

# include "bfloat16.h"

#ifndef JVAN_AMX
#if defined(__AMX_BF16__) && defined(__AMX_TILE__) && defined(__linux__) && JVAN_VECTOR_BYTES == 64
#define JVAN_AMX 1
#else
#define JVAN_AMX 0
#endif
#endif

#if JVAN_AMX == 2
# include "amx_emulated.h"
#define JVAN_TILE(instruction) ::jvan::emulated_tiles::instruction
#elif JVAN_AMX == 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define JVAN_TILE(instruction) _tile_##instruction
#endif

namespace jvan {
namespace {

constexpr int TILE_ROWS = 16, TILE_WORDS = 16, TILE_BYTES = 64;  // of a whole tile; words and bytes in a row

// What LDTILECFG reads. A tile that is never set does not exist.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {};
    uint8_t rows[16] = {};

    void set(int tile, int height) { row_bytes[tile] = TILE_BYTES, rows[tile] = uint8_t(height); }
};
static_assert(sizeof(TileShapes) == 64, "the processor reads 64 bytes");

#if JVAN_AMX
// Whether tiles may be used. From 5.16 on Linux wants to be asked once a process, whose threads all share the answer, since
// tiles make what it saves of a thread 8 KB larger (Documentation/arch/x86/xstate.rst); it can refuse, and a sandbox too.
inline bool tiles_granted() {
#if JVAN_AMX == 1
    constexpr long REQUEST = 0x1023, TILE_DATA = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    static const bool granted = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
    return granted;
#else
    return true;
#endif
}

// Before tiles or their shapes are loaded from what was just written. GCC's intrinsics do not tell the compiler which
// memory LDTILECFG (but for its first 8 bytes) and TILELOADD read (amxtileintrin.h of GCC 12), so that it could write later.
JVAN_INLINE void written(const void* memory) { __asm__ volatile("" : : "r"(memory) : "memory"); }

inline void configure(const TileShapes& shapes) {
    written(&shapes);
    JVAN_TILE(loadconfig)(&shapes);
}
#endif

}  // namespace
}  // namespace jvan
