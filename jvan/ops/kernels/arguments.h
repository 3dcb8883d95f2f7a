// The pointers that an operator hands to its kernel: members of a struct, filled by name (ops/_jit.py, `members`), since of
// a dozen pointers in a row two that are swapped would compile.
#pragma once

namespace jvan {
namespace {

// Where numbers lie; a struct that leaves one of them out does not compile. What may be null is a plain pointer.
template <class T>
struct Given {
    T* pointer;

    Given(T* pointer) : pointer(pointer) {}
    operator T*() const { return pointer; }
};
typedef Given<const float> Input;
typedef Given<float> Output;

}  // namespace
}  // namespace jvan
