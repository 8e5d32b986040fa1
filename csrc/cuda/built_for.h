// Which devices a build's code runs on, and the words where it does not. No CUDA here, so that tests can ask
// about devices that are not there.
#pragma once

#include <sstream>
#include <string>
#include <vector>

namespace fastnn {

// An architecture is ten times the compute capability, 86 for 8.6.
struct BuiltFor {
    std::vector<int> code;  // architectures with code of their own
    int ptx;                // and the one whose PTX newer devices translate

    // "80-90": nvcc would take a comma for the end of a definition.
    BuiltFor(const std::string& architectures, int its_ptx) : ptx(its_ptx) {
        std::istringstream text(architectures);
        for (std::string one; std::getline(text, one, '-');) code.push_back(std::stoi(one));
    }

    // Code runs on its own architecture and on later ones of its generation (8.x); PTX on every later one.
    bool runs_on(int device) const {
        for (const int built : code)
            if (built / 10 == device / 10 && built <= device) return true;
        return ptx <= device;
    }

    // Empty where it runs.
    std::string why_not_on(int device, const std::string& name) const {
        if (runs_on(device)) return "";
        std::string text =
            "the device " + name + " is sm_" + std::to_string(device) + "; this build holds code for";
        for (const int built : code) text += " sm_" + std::to_string(built);
        return text + " and PTX for what comes after sm_" + std::to_string(ptx);
    }
};

}  // namespace fastnn
