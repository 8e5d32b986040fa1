// y = a + b: the sum of a residual block and its shortcut.
#include "cpu/entries.h"
#include "cpu/stream.h"

namespace fastnn::FASTNN_NS {

int add_chunks(const AddArgs& a) { return static_cast<int>(stream_chunks(a.n)); }

FASTNN_FLAT void add(const AddArgs& args, int chunk, Scratch&) {
    const AddArgs a = args;  // a copy: through a reference each store reloads it
    stream(a.y, a.n, chunk, [&](Index i, int n) FASTNN_BODY {
        vstore(a.y + i, vload(a.a + i, n) + vload(a.b + i, n), n);
    });
}

}  // namespace fastnn::FASTNN_NS
