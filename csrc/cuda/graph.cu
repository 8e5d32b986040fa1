// A step as a graph: a chain of launches, and branches that run beside it.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "cuda/entries.h"
#include "cuda/product_library.h"

namespace fastnn {
namespace {

struct Branch {
    cudaStream_t stream = nullptr;
    cudaEvent_t event = nullptr;  // the last place of one stream that the other waits for
};

// What is captured. Streams and events are made before it begins and stay until it has ended; the first
// status that is not 0 stays too.
class Capture {
 public:
    explicit Capture(std::size_t branches) : branches_(branches) {
        check(cudaStreamCreateWithFlags(&chain_, cudaStreamNonBlocking));
        for (Branch& branch : branches_) {
            check(cudaStreamCreateWithFlags(&branch.stream, cudaStreamNonBlocking));
            check(cudaEventCreateWithFlags(&branch.event, cudaEventDisableTiming));
        }
        // Relaxed: a kernel that is launched for the first time is loaded then.
        if (status_ == 0) check(cudaStreamBeginCapture(chain_, cudaStreamCaptureModeRelaxed));
        began_ = status_ == 0;
    }
    ~Capture() {
        for (const Branch& branch : branches_) {
            if (branch.event != nullptr) cudaEventDestroy(branch.event);
            if (branch.stream != nullptr) cudaStreamDestroy(branch.stream);
        }
        if (chain_ != nullptr) cudaStreamDestroy(chain_);
    }
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;

    template <class Launch>
    void add(Turn turn, Launch launch) {
        if (turn == Turn::joined) join();
        if (status_ != 0) return;
        cudaStream_t stream = chain_;
        if (turn == Turn::beside) {
            const Branch& branch = branches_[forked_++];
            wait(branch.event, chain_, branch.stream);
            stream = branch.stream;
        }
        if (status_ == 0) status_ = launch(stream);
    }
    int end(cudaGraphExec_t& ready) {
        join();
        if (!began_) return status_;
        cudaGraph_t graph = nullptr;
        const cudaError_t ended = cudaStreamEndCapture(chain_, &graph);
        if (status_ == 0) check(ended);
        if (status_ == 0) check(cudaGraphInstantiate(&ready, graph, 0));
        if (graph != nullptr) cudaGraphDestroy(graph);
        return status_;
    }

 private:
    void check(cudaError_t status) {
        if (status_ == 0) status_ = static_cast<int>(status);
    }
    // What comes on `then` waits for what is on `first`.
    void wait(cudaEvent_t event, cudaStream_t first, cudaStream_t then) {
        if (status_ == 0) check(cudaEventRecord(event, first));
        if (status_ == 0) check(cudaStreamWaitEvent(then, event, 0));
    }
    void join() {
        for (; joined_ < forked_; ++joined_)
            wait(branches_[joined_].event, branches_[joined_].stream, chain_);
    }

    cudaStream_t chain_ = nullptr;
    std::vector<Branch> branches_;
    std::size_t forked_ = 0, joined_ = 0;  // of them, so far
    int status_ = 0;
    bool began_ = false;
};

}  // namespace

// The caller's stream may be the default one, which cannot be captured.
int cuda_record(const Turn* turns, Index parts, int (*launch)(void* what, Index part, void* stream),
                void* what, void** graph) {
    cudaGraphExec_t ready = nullptr;
    const auto record = [&] {
        Capture capture(static_cast<std::size_t>(std::count(turns, turns + parts, Turn::beside)));
        for (Index i = 0; i < parts; ++i)
            capture.add(turns[i], [&](cudaStream_t stream) { return launch(what, i, stream); });
        return capture.end(ready);
    };
    library_leaves_out();
    int status = record();
    bool left_out = false;
    const int asked = library_left_out(left_out);
    if (left_out) {
        if (ready != nullptr) cudaGraphExecDestroy(ready);
        ready = nullptr;
        status = asked != 0 ? asked : record();
    }
    *graph = ready;
    return status;
}

int cuda_replay(void* graph, void* stream) {
    return static_cast<int>(
        cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), static_cast<cudaStream_t>(stream)));
}

int cuda_forget(void* graph) {
    return static_cast<int>(cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)));
}

}  // namespace fastnn
