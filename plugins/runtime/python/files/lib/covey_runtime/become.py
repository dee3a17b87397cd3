"""From a blank process to a function: environment, search path, module, handler."""

import builtins
import importlib
import os
import sys
import time

from covey import Error

DEFAULT_HANDLER = "main.handler"
# Folders of the code that are searched for modules too, where people put what they vendor.
VENDORED = ("vendor", "python", "site-packages")
_CO_COROUTINE, _CO_ASYNC_GENERATOR = 0x80, 0x200


def prepare_process(setup):
    """Give the process what belongs to the function, before any of its code runs."""
    os.environ.update(setup.env)
    os.environ.pop("COVEY_PLUGIN", None)
    if "TZ" in os.environ:
        time.tzset()
    # The blank drew its random state when it started. It is no one else's, but may be old.
    random = sys.modules.get("random")
    if random is not None:
        random.seed()
    # Python defines these outside of isolated mode only.
    builtins.exit = builtins.quit = sys.exit
    # The code's folders are searched first, and its bytecode is found in the cache.
    folders = [setup.code] + [os.path.join(setup.code, name) for name in VENDORED]
    sys.path[:0] = [f for f in folders if os.path.isdir(f)]
    if setup.cache:
        sys.pycache_prefix = setup.cache


def load(setup):
    """Import the function's module and return its handler."""
    module_name, function = split_handler(setup.handler or DEFAULT_HANDLER)
    module = importlib.import_module(module_name)
    try:
        handler = getattr(module, function)
    except AttributeError:
        where = getattr(module, "__file__", None) or "the standard library"
        raise Error("HandlerNotFound", f"module {module_name} ({where}) has no {function}") from None
    if not callable(handler):
        raise Error("HandlerNotFound", f"{module_name}.{function} is no function")
    return handler


def split_handler(handler):
    """Return module and function of "module.function"; the module may have dots or slashes."""
    module, _, function = handler.rpartition(".")
    module = module.strip("/").replace("/", ".")
    if not module or not function or ".." in module:
        raise Error("HandlerNotFound", f'the handler "{handler}" is not of the form module.function')
    return module, function


def is_async(handler):
    """Tell whether calling the handler gives something to await or an async generator."""
    while hasattr(handler, "func"):  # functools.partial
        handler = handler.func
    code = getattr(handler, "__code__", None)
    if code is None:
        code = getattr(getattr(type(handler), "__call__", None), "__code__", None)
    return code is not None and bool(code.co_flags & (_CO_COROUTINE | _CO_ASYNC_GENERATOR))


def compile_all(code, cache):
    """Write the bytecode of all modules below code into cache, where sys.pycache_prefix finds it.

    Code never changes, so that bytecode is not held against its source again. What does not compile (templates, other
    versions of Python) is left to whoever imports it.
    """
    import importlib.util
    import py_compile

    sys.pycache_prefix = cache
    compiled = 0
    for folder, folders, files in os.walk(code):
        folders[:] = sorted(f for f in folders if f != "__pycache__")
        for name in sorted(files):
            if not name.endswith(".py"):
                continue
            source = os.path.join(folder, name)
            try:
                py_compile.compile(
                    source,
                    cfile=importlib.util.cache_from_source(source),
                    doraise=True,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )
                compiled += 1
            except (py_compile.PyCompileError, ValueError, RecursionError, MemoryError):
                pass
    return compiled
