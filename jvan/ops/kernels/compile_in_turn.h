// Jittor compiles new operators in several threads. Before the compiler runs, a thread builds the operator's source and, where a
// library has the product or convolution, makes an operator of that library and ties it to the graph's variables; their
// lists and the list of nodes to be freed have no lock. Two such threads crash the process now and then (ThreadSanitizer: Node,
// VarRelayManager::add_relay_group). Here that part is done by one thread at a time; the compiler itself still runs in all.
//
// The linker writes an operator's library straight under its final name, and two things follow for whoever shares the cache:
// * Where it is killed, half of a library may lie beside the key of the whole one before it, and passes for that: every later process
//   with that key's command line, which holds the interpreter's path, opens it and fails ("file too short"). It is made anew here.
// * Where only the process is killed that asked for it, Jittor's lock is free and the compiler goes on, and takes away the library that
//   the next process has made meanwhile ("cannot open shared object file"). So a compiler holds a lock of its own here while it runs.
//
// The same steps as do_compile_inner in Jittor 1.3.11's op_compiler.cc, put in place by the hook that it has for this.
#pragma once
#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>

#include <fused_op.h>
#include <jit_key.h>
#include <op_compiler.h>
#include <ops/op_register.h>
#include <opt/tuner_manager.h>

namespace jittor {
extern jit_op_entry_t (*do_compile_hook)(Op*);
DECLARE_FLAG(string, cache_path);
}

namespace jvan {

// Held while this process compiles, and by the compilers that it started, which inherit the descriptor, until they have ended.
class CompilersLock {
  public:
    CompilersLock() {
        std::lock_guard<std::mutex> mine(mutex());
        if (!users()++)
            while (flock(file(), LOCK_EX) && errno == EINTR) continue;  // a disk without locks has none
    }
    ~CompilersLock() {
        std::lock_guard<std::mutex> mine(mutex());
        if (!--users()) flock(file(), LOCK_UN);
    }

  private:
    static std::mutex& mutex() {
        static std::mutex the_mutex;
        return the_mutex;
    }
    static int& users() {  // the threads that compile now
        static int the_users = 0;
        return the_users;
    }
    static int file() {
        static int the_file = open((jittor::cache_path + "/jvan-compilers.lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW, 0600);
        return the_file;
    }
};

inline jittor::jit_op_entry_t compile_or_make_anew(jittor::OpCompiler& compiler, const std::string& key, const std::string& source) {
    CompilersLock held;
    try {
        return compiler.compile(key, source);
    } catch (const std::exception&) {
        std::string library = jittor::Op::get_filename_from_jit_key(key, ".so");
        std::remove(library.c_str());
        if (std::remove((library + ".key").c_str())) throw;  // it is the compiler that failed, and would fail again
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
