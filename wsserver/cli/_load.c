/*
 * The load generator of `benchmarks/load.c` as a module of Python, for `wsserver bench`. Its function `main` is the
 * program's: it ends the process if something fails, so it is called in a process of its own.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define main load_main
#include "../../benchmarks/load.c"
#undef main

static PyObject *call_main(PyObject *module, PyObject *arguments)
{
    char *argv[256] = {"load"};
    Py_ssize_t count = PyTuple_GET_SIZE(arguments);
    (void)module;
    if (count > 254) {
        PyErr_SetString(PyExc_ValueError, "over 254 arguments");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        argv[i + 1] = (char *)PyUnicode_AsUTF8(PyTuple_GET_ITEM(arguments, i));
        if (!argv[i + 1])
            return NULL;
    }
    return PyLong_FromLong(load_main((int)count + 1, argv));
}

static PyMethodDef methods[] = {
    {"main", call_main, METH_VARARGS, "Run the load generator with the given arguments, and return its exit status."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_load", "The load generator.", -1, methods, 0, 0, 0, 0};

PyMODINIT_FUNC PyInit__load(void)
{
    return PyModule_Create(&module);
}
