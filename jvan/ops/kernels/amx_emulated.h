// AMX's tiles in plain C++, for tests on a processor without them: the state of a thread, and what each instruction does to
// it by Intel 64 and IA-32 Architectures Software Developer's Manual. Where the processor raises a fault, this throws.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace jvan {
namespace {
namespace emulated_tiles {

constexpr int COUNT = 8, ROWS = 16, BYTES = 64;

struct Tile {
    int rows = 0, bytes = 0;  // as configured: both 0 where the tile does not exist
    uint32_t words[ROWS][BYTES / 4] = {};
};

struct State {
    bool configured = false;
    Tile tiles[COUNT];
};

inline State& state() {
    static thread_local State mine;
    return mine;
}

inline void require(bool held, const char* rule) {
    if (!held) throw std::logic_error(rule);
}

inline Tile& tile_of(int index) {
    require(state().configured, "AMX: tiles are not configured");
    Tile& tile = state().tiles[index];
    require(tile.rows > 0, "AMX: a tile without rows");
    return tile;
}

inline bool all_zero(const uint8_t* from, int count) {
    for (int i = 0; i < count; i++)
        if (from[i]) return false;
    return true;
}

inline void release() { state() = State(); }

// Bytes: 0 the palette, 1 the row where an interrupted instruction goes on, 16 to 31 bytes a row, 48 to 55 rows of tiles 0 to 7.
inline void loadconfig(const void* from) {
    uint8_t bytes[64];
    std::memcpy(bytes, from, sizeof bytes);
    release();
    if (bytes[0] == 0) return;
    require(bytes[0] == 1, "LDTILECFG: no such palette");
    require(all_zero(bytes + 1, 15) && all_zero(bytes + 32, 16) && all_zero(bytes + 56, 8), "LDTILECFG: what must be zero is not");
    for (int t = 0; t < COUNT; t++) {
        Tile& tile = state().tiles[t];
        tile.bytes = bytes[16 + 2 * t] + 256 * bytes[17 + 2 * t];
        tile.rows = bytes[48 + t];
        require(tile.bytes <= BYTES && tile.rows <= ROWS, "LDTILECFG: a tile that is too large");
        require((tile.bytes == 0) == (tile.rows == 0), "LDTILECFG: a tile with rows or columns alone");
    }
    state().configured = true;
}

inline void zero(int to) {
    Tile& tile = tile_of(to);
    std::memset(tile.words, 0, sizeof tile.words);
}

// Rows lie `stride` bytes apart; what lies outside of the tile's shape becomes zero.
inline void loadd(int to, const void* from, long stride) {
    zero(to);
    Tile& tile = tile_of(to);
    for (int m = 0; m < tile.rows; m++) std::memcpy(tile.words[m], static_cast<const char*>(from) + m * stride, tile.bytes);
}

inline void stored(int from, void* to, long stride) {
    const Tile& tile = tile_of(from);
    for (int m = 0; m < tile.rows; m++) std::memcpy(static_cast<char*>(to) + m * stride, tile.words[m], tile.bytes);
}

// The number with these bits; subnormal ones count as zero, as inputs and as results.
inline float number(uint32_t bits) {
    if (!(bits & 0x7f800000)) bits &= 0x80000000;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits & 0x7f800000 ? bits : bits & 0x80000000;
}

// to (M, N) += a (M, K words) · b (K, N words). Products of lower and of upper halves are summed by themselves, each sum
// rounded once a product, which is exact in float32, and added to each other and then to `to` at the end.
inline void dpbf16ps(int to, int a, int b) {
    Tile &sum = tile_of(to), &left = tile_of(a), &right = tile_of(b);
    require(to != a && to != b && a != b, "TDPBF16PS: a tile named twice");
    require(sum.rows == left.rows && sum.bytes == right.bytes && left.bytes == 4 * right.rows, "TDPBF16PS: shapes that do not fit");
    require(sum.bytes % 4 == 0 && left.bytes % 4 == 0, "TDPBF16PS: rows that are no whole words");
    for (int m = 0; m < sum.rows; m++) {
        float lower[BYTES / 4] = {}, upper[BYTES / 4] = {};
        for (int k = 0; k < right.rows; k++)
            for (int n = 0; n < sum.bytes / 4; n++) {
                const uint32_t x = left.words[m][k], w = right.words[k][n];
                lower[n] = number(bits_of(lower[n] + number(x << 16) * number(w << 16)));
                upper[n] = number(bits_of(upper[n] + number(x & 0xffff0000) * number(w & 0xffff0000)));
            }
        for (int n = 0; n < BYTES / 4; n++)
            sum.words[m][n] = n < sum.bytes / 4 ? bits_of(number(sum.words[m][n]) + number(bits_of(lower[n] + upper[n]))) : 0;
    }
}

}  // namespace emulated_tiles
}  // namespace
}  // namespace jvan
