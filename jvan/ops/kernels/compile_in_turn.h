// Jittor compiles new operators in several threads. Before the compiler runs, a thread builds the operator's source and, where a
// library has the product or convolution, makes an operator of that library and ties it to the graph's variables; their
// lists and the list of nodes to be freed have no lock. Two such threads crash the process now and then (ThreadSanitizer: Node,
// VarRelayManager::add_relay_group). Here that part is done by one thread at a time; the compiler itself still runs in all.
//
// The linker writes an operator's library under its final name, while the key of the library before it still lies beside it. Where
// it is killed then, half of a library passes for a whole one: every later process opens it and fails ("file too short"), as long as
// its compiler's command line is the one of that key, with the interpreter's path in it. Such a library is removed and made anew.
//
// The same steps as do_compile_inner in Jittor 1.3.11's op_compiler.cc, put in place by the hook that it has for this.
#pragma once
#include <cstdio>
#include <exception>
#include <mutex>

#include <fused_op.h>
#include <jit_key.h>
#include <op_compiler.h>
#include <ops/op_register.h>
#include <opt/tuner_manager.h>

namespace jittor {
extern jit_op_entry_t (*do_compile_hook)(Op*);
}

namespace jvan {

inline jittor::jit_op_entry_t compile_or_make_anew(
    jittor::OpCompiler& compiler, const std::string& key, const std::string& source) {
    try {
        return compiler.compile(key, source);
    } catch (const std::exception&) {
        // without a library it is the compiler that failed, and would fail again
        if (std::remove(jittor::Op::get_filename_from_jit_key(key, ".so").c_str())) throw;
    }
    return compiler.compile(key, source);
}

inline jittor::jit_op_entry_t compile_in_turn(jittor::Op* op) {
    static std::recursive_mutex turn;  // a search among kernels compiles while it compiles
    std::unique_lock<std::recursive_mutex> mine(turn);
    jittor::OpCompiler compiler(op);
    for (auto type : jittor::op_types) type->post_pass(&compiler);
    std::string source = compiler.op ? jittor::TunerManager(&compiler).tune() : compiler.src;
    op->compile_optimize(source);
    std::string key = op->get_jit_key(jittor::get_jk());
    mine.unlock();
    return compile_or_make_anew(compiler, key, source);
}

// Whether it is in place now: not where another hook is, as on Ascend processors.
inline bool install_compile_in_turn() {
    if (!jittor::do_compile_hook) jittor::do_compile_hook = compile_in_turn;
    return jittor::do_compile_hook == compile_in_turn;
}

}  // namespace jvan
