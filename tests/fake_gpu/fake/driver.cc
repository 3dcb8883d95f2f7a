// A driver that shows GPUs which are not there: FAKE_CUDA is the CUDA version that it takes (13000), FAKE_ARCHS their
// architectures ("90 120"; empty: no GPU).
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

const char* archs() { return getenv("FAKE_ARCHS") ? getenv("FAKE_ARCHS") : "90"; }

int arch(int index) {  // 0 behind the last
    const char* at = archs();
    char* end;
    for (;; index--, at = end) {
        const int value = strtol(at, &end, 10);
        if (end == at) return 0;
        if (index == 0) return value;
    }
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return arch(0) ? 0 : 100; }
int cuDriverGetVersion(int* version) { return *version = atoi(getenv("FAKE_CUDA") ? getenv("FAKE_CUDA") : "13000"), 0; }
int cuDeviceGetCount(int* count) {
    for (*count = 0; arch(*count);) ++*count;
    return 0;
}
int cuDeviceGet(int* device, int index) { return *device = index, arch(index) ? 0 : 101; }
int cuDeviceGetName(char* name, int length, int device) { return snprintf(name, length, "fake GPU %d", device), 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    *value = attribute == 75 ? arch(device) / 10 : attribute == 76 ? arch(device) % 10 : 0;
    return 0;
}

}  // extern "C"
