// What operations are prepared for where a program runs on a device: the launches of a graph, part by part,
// and the record of what is set before each step, which kernels there read in place of the operation's own
// members.
#pragma once

#include <cstring>
#include <functional>
#include <optional>
#include <stdexcept>
#include <vector>

#include "core/cuda_kernels.h"

namespace fastnn::program {

class Recording {
 public:
    // `current`: where the record of the step that runs stands on the device; null: only its size is wanted.
    Recording(const CudaKernels& cuda, CudaRun* run, unsigned char* current)
        : cuda_(cuda), run_(run), current_(reinterpret_cast<std::uintptr_t>(current)) {}

    // What is added from now on is a part of its own, if it is anything.
    void next(Turn turn) { turn_ = turn; }
    template <class Args>
    void add(const Args& args) {
        // Lowering refuses what the device lacks by name; this is for a lowering that forgot to.
        if constexpr (CudaKernels::has<Args>())
            part().push_back(
                [args, entry = cuda_.entry<Args>()](void* stream) { return entry(args, stream); });
        else
            throw std::invalid_argument("program: an operation has no kernel on the device");
    }
    void add_first(const StepBeginArgs& args) {
        turns_.insert(turns_.begin(), Turn::next);
        parts_.insert(parts_.begin(), Part{[args, entry = cuda_.entry<StepBeginArgs>()](void* stream) {
                          return entry(args, stream);
                      }});
    }
    // `count` members that are set before each step, as the kernels see them.
    template <class T>
    const T* live(const T* own, std::size_t count) {
        static_assert(alignof(T) <= 8);
        const auto* there = reinterpret_cast<const T*>(current_ + static_cast<std::uintptr_t>(bytes_));
        members_.push_back({own, count * sizeof(T)});
        bytes_ += static_cast<Index>((count * sizeof(T) + 7) / 8 * 8);
        return there;
    }

    // Whether the run has halted: the record is that of the step that did it, not of this one.
    const bool* halted() const { return run_ != nullptr ? &run_->halted : nullptr; }
    // Whether running statistics must stay: the run has halted.
    const bool* frozen() const { return run_ != nullptr ? &run_->frozen : nullptr; }
    Index record_bytes() const { return bytes_; }
    // The members as they are now.
    void append_record(std::vector<unsigned char>& to) const {
        std::size_t at = to.size();
        to.resize(at + static_cast<std::size_t>(bytes_));
        for (const Member& member : members_) {
            if (member.bytes > 0) std::memcpy(to.data() + at, member.own, member.bytes);
            at += (member.bytes + 7) / 8 * 8;
        }
    }
    const std::vector<Turn>& turns() const { return turns_; }
    int launch(Index part, void* stream) const {
        int status = 0;
        for (const auto& one : parts_[static_cast<std::size_t>(part)])
            if (status == 0) status = one(stream);
        return status;
    }

 private:
    using Part = std::vector<std::function<int(void* stream)>>;
    Part& part() {
        if (turn_) {
            turns_.push_back(*turn_);
            parts_.emplace_back();
            turn_.reset();
        }
        return parts_.back();
    }
    struct Member {
        const void* own;
        std::size_t bytes;
    };
    const CudaKernels& cuda_;
    CudaRun* run_;
    std::uintptr_t current_;
    Index bytes_ = 0;
    std::vector<Member> members_;
    std::optional<Turn> turn_;  // of the next part, which has no launch yet
    std::vector<Turn> turns_;
    std::vector<Part> parts_;
};

}  // namespace fastnn::program
