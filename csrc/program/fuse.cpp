#include "program/fuse.h"

#include <algorithm>
#include <numeric>

#include "program/ops.h"

namespace fastnn::program {
namespace {

bool takes(LinearInput& product, const ActivateBackward& slope, const std::vector<std::unique_ptr<Op>>& ops) {
    const Ref between = product.dx;
    const auto reads = [&](const std::unique_ptr<Op>& op) {
        const std::vector<Ref> touched = op->touches();
        return std::find(touched.begin(), touched.end(), between) != touched.end();
    };
    if (slope.dy != between || slope.dx == between || std::count_if(ops.begin(), ops.end(), reads) != 2)
        return false;
    product.dx = slope.dx;
    product.behind = slope.activation;
    product.alpha = slope.alpha;
    product.from_x = slope.y == kNone;
    product.from = product.from_x ? slope.x : slope.y;
    return true;
}

bool takes(LinearWeight& product, const LinearBias& bias) {
    product.bias_dy = bias.dy;
    product.dbias = bias.dbias;
    return true;
}

// A product of rounded numbers.
template <class Product>
bool rounds(Product& product, Ref result, const Round& round) {
    if (round.x != result || product.rounded == kNone || product.narrow != kNone) return false;
    product.narrow = round.y;
    return true;
}
bool takes(Linear& product, const Round& round) { return rounds(product, product.y, round); }
bool takes(LinearInput& product, const Round& round) { return rounds(product, product.dx, round); }

// The column sums of a batch-norm are formed by the product in front of it.
void form_statistics(Op* first, Op* second, std::vector<Buffer>& buffers) {
    auto* product = dynamic_cast<Linear*>(first);
    auto* norm = dynamic_cast<BatchNorm*>(second);
    if (product != nullptr && norm != nullptr && norm->training && norm->x == product->y) {
        product->norm = norm;
        norm->formed = true;
    }
    auto* gradient = dynamic_cast<LinearInput*>(first);
    auto* backward = dynamic_cast<BatchNormBackward*>(second);
    if (gradient != nullptr && backward != nullptr && backward->dy == gradient->dx) {
        backward->sums = static_cast<Ref>(buffers.size());
        buffers.push_back({0, 2 * BatchNorm::padded(backward->cols)});
        gradient->norm = backward;
    }
}

template <class First, class Second, class... More>
bool joined(Op* first, const Op* second, const More&... more) {
    auto* product = dynamic_cast<First*>(first);
    const auto* beside = dynamic_cast<const Second*>(second);
    return product != nullptr && beside != nullptr && takes(*product, *beside, more...);
}

}  // namespace

std::vector<std::size_t> fuse(std::vector<std::unique_ptr<Op>>& ops, std::vector<Buffer>& buffers,
                              std::size_t& loss) {
    std::vector<std::size_t> places(ops.size());
    std::iota(places.begin(), places.end(), std::size_t{0});
    for (std::size_t i = 0; i + 1 < ops.size();) {
        Op *first = ops[i].get(), *second = ops[i + 1].get();
        if (joined<LinearInput, ActivateBackward>(first, second, ops) ||
            joined<LinearWeight, LinearBias>(first, second) || joined<Linear, Round>(first, second) ||
            joined<LinearInput, Round>(first, second)) {
            ops.erase(ops.begin() + static_cast<std::ptrdiff_t>(i + 1));
            places.erase(places.begin() + static_cast<std::ptrdiff_t>(i + 1));
            if (i < loss) --loss;
        } else {
            ++i;
        }
    }
    for (std::size_t i = 0; i + 1 < ops.size(); ++i) form_statistics(ops[i].get(), ops[i + 1].get(), buffers);
    return places;
}

}  // namespace fastnn::program
