// Several arrays in one argument, and several results.
#include "bind/arrays.h"
#include "bind/scalars.h"

namespace fastnn::bind {
PyObject* fixed_items(Call& call, const Value& value) {
    return call.keep(owned(PySequence_Tuple(value.object)));  // the same object for a tuple
}

OutItems::OutItems(Call& call, const Value& value, int count) {
    if (!value.given()) return;
    const auto wanted = [&] {
        return "must be a tuple of " + std::to_string(count) + " arrays or Nones, got ";
    };
    if (!PyTuple_Check(value.object) && !PyList_Check(value.object)) {
        call.type_error(value, wanted() + type_name(value.object));
    }
    items_ = fixed_items(call, value);
    const Py_ssize_t given = PyTuple_GET_SIZE(items_);
    if (given != count) call.value_error(value, wanted() + std::to_string(given) + " items");
}

py::object results(std::initializer_list<const Output*> outputs) {
    const py::object tuple = owned(PyTuple_New(static_cast<Py_ssize_t>(outputs.size())));
    Py_ssize_t i = 0;
    for (const Output* output : outputs) {
        const py::object item = output->object ? output->object : py::none();
        PyTuple_SET_ITEM(tuple.ptr(), i++, item.inc_ref().ptr());
    }
    return tuple;
}

py::object results(double value, const Output& output) {
    const py::object number = owned(PyFloat_FromDouble(value));
    return owned(PyTuple_Pack(2, number.ptr(), output.object.ptr()));
}

}  // namespace fastnn::bind
