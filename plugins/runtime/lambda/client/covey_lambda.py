"""Runtime interface client for AWS Lambda packages in Python, for packages that come without AWS's own.

It needs nothing but the standard library of Python 3.9 or newer. AWS's client (awslambdaric) is used
instead where the package or the machine has one that loads.

With --prepare CODE CACHE it compiles the package's modules into the cache and ends.
"""

import importlib
import importlib.machinery
import json
import logging
import marshal
import os
import socket
import sys
import threading
import time
import traceback

API = "/2018-06-01/runtime"
# Also in importlib.util, whose import takes as long as a short call.
MAGIC_NUMBER = importlib._bootstrap_external.MAGIC_NUMBER


class Fault(Exception):
    """An error of the package, in the words that AWS has for it."""

    def __init__(self, kind, message, trace=None):
        super().__init__(message)
        self.kind = kind
        self.trace = trace or []


# --- The connection to the Runtime API.


class Connection:
    """A connection that carries one request after another. The API is on this machine's loopback and trusted."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.address = (host, int(port))
        self.socket = None
        self.buffer = b""

    def request(self, method, path, body=b"", headers=()):
        """Sends a request and returns the status, the headers in lower case, and the body."""
        head = ["%s %s%s HTTP/1.1" % (method, API, path), "Host: %s:%d" % self.address]
        head.extend("%s: %s" % header for header in headers)
        if method == "POST":
            head.append("Content-Length: %d" % len(body))
        message = "\r\n".join(head).encode("latin-1", "replace") + b"\r\n\r\n"
        if self.socket is None:
            self.socket = socket.create_connection(self.address)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if len(body) < 65536:
            self.socket.sendall(message + body)
        else:
            self.socket.sendall(message)
            self.socket.sendall(body)
        return self._response()

    def _response(self):
        while b"\r\n\r\n" not in self.buffer:
            self._more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        if len(self.buffer) >= length:
            body, self.buffer = self.buffer[:length], self.buffer[length:]
            return int(lines[0].split(" ")[1]), headers, body
        body = bytearray(length)
        body[: len(self.buffer)] = self.buffer
        view = memoryview(body)[len(self.buffer) :]
        self.buffer = b""
        while view:
            n = self.socket.recv_into(view)
            if n == 0:
                raise ConnectionError("the Runtime API has gone")
            view = view[n:]
        return int(lines[0].split(" ")[1]), headers, bytes(body)

    def _more(self):
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the Runtime API has gone")
        self.buffer += piece

    def report(self, path, error):
        """Reports an error, which is a dictionary."""
        headers = [
            ("Content-Type", "application/json"),
            ("Lambda-Runtime-Function-Error-Type", one_line(error["errorType"])),
        ]
        return self.request("POST", path, to_json(error), headers)[0]


def one_line(text):
    return "".join(c if " " <= c <= "~" else "?" for c in text)


def to_json(value):
    return json.dumps(value, default=to_plain, ensure_ascii=False).encode("utf-8", "surrogatepass")


def to_plain(value):
    """Gives JSON what it does not know: decimals, which the clients of AWS's databases return."""
    import decimal

    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError("Object of type %s is not JSON serializable" % type(value).__name__)


# --- What the handler gets beside its event.


class Plain:
    """An object with the given attributes."""

    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    def __repr__(self):
        return "%s(%r)" % (type(self).__name__, self.__dict__)


class LambdaContext:
    """The context object, with AWS's names."""

    def __init__(self, headers):
        env = os.environ
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.function_name = env.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = env.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = env.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = env.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = env.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.identity = Plain(cognito_identity_id=None, cognito_identity_pool_id=None)
        self.client_context = None
        text = headers.get("lambda-runtime-client-context")
        if text:
            given = json.loads(text)
            names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
            client = given.get("client")
            if client is not None:
                client = Plain(**{name: client.get(name) for name in names})
            self.client_context = Plain(custom=given.get("custom"), env=given.get("env"), client=client)
        self._deadline_ms = int(headers["lambda-runtime-deadline-ms"])

    def get_remaining_time_in_millis(self):
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message):
        sys.stdout.write(str(message))

    def __repr__(self):
        return "LambdaContext(%r)" % self.__dict__


# --- Logs.

current = threading.local()  # request_id: of the call that the thread runs

RESERVED = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """Lambda's JSON format: one line a record, filed under its call."""

    def format(self, record):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "timestamp": "%s.%03dZ" % (stamp, record.msecs),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": getattr(current, "request_id", ""),
        }
        if record.exc_info and record.exc_info[0]:
            line["errorType"] = record.exc_info[0].__name__
            line["errorMessage"] = str(record.exc_info[1])
            line["stackTrace"] = traceback.format_tb(record.exc_info[2])
        for name, value in record.__dict__.items():
            if name not in RESERVED and name not in line:
                line[name] = value
        return json.dumps(line, default=str, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """Lambda's text format."""

    converter = time.gmtime

    def __init__(self):
        super().__init__("[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S")

    def format(self, record):
        record.request_id = getattr(current, "request_id", "")
        return super().format(record)


def set_up_logging():
    # Lambda's functions see their prints at once.
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    is_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JSONFormatter() if is_json else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    level = {"TRACE": "DEBUG", "FATAL": "CRITICAL"}.get(os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper())
    level = level or os.environ.get("AWS_LAMBDA_LOG_LEVEL", "").upper()
    if level in ("DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL"):
        root.setLevel(level)


def log_error(error):
    """Logs the error of a call or of the initialisation, as AWS's client does."""
    text = "%s: %s" % (error["errorType"], error["errorMessage"])
    if error["stackTrace"]:
        text += "\n" + "".join(error["stackTrace"]).rstrip("\n")
    logging.getLogger().error("%s", text)


# --- The package.


def load(handler):
    """Returns the function that the handler's name leads to."""
    module_name, dot, function_name = handler.rpartition(".")
    if not dot or not module_name or not function_name:
        raise Fault("Runtime.MalformedHandlerName", "Bad handler '%s': not of the form module.function" % handler)
    module_name = module_name.replace("/", ".")
    if module_name.split(".")[0] in sys.builtin_module_names:
        raise Fault("Runtime.BuiltInModuleConflict", "Cannot use built-in module %s as a handler module" % module_name)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        message = "Unable to import module '%s': %s" % (module_name, error)
        raise Fault("Runtime.ImportModuleError", message, trace_of(error))
    except SyntaxError as error:
        place = '  File "%s" Line %s\n    %s' % (error.filename, error.lineno, error.text)
        raise Fault("Runtime.UserCodeSyntaxError", "Syntax error in module '%s': %s" % (module_name, error), [place])
    try:
        return getattr(module, function_name)
    except AttributeError:
        message = "Handler '%s' missing on module '%s'" % (function_name, module_name)
        raise Fault("Runtime.HandlerNotFound", message) from None


HIDDEN = (os.path.abspath(__file__), "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")


def trace_of(error):
    """The error's stack without what is above and beside the package: this file and the import machinery."""
    frames = traceback.extract_tb(error.__traceback__)
    skip = (importlib.__file__,) + HIDDEN
    return traceback.format_list([f for f in frames if f.filename not in skip])


def describe(error, request_id=""):
    """The error in the form that the Runtime API takes."""
    kind, trace = type(error).__name__, None
    if isinstance(error, Fault):
        kind, trace = error.kind, error.trace
    return {
        "errorMessage": str(error),
        "errorType": kind,
        "requestId": request_id,
        "stackTrace": trace_of(error) if trace is None else trace,
    }


def take_event(body):
    try:
        return json.loads(body)
    except ValueError as error:
        raise Fault("Runtime.UnmarshalError", "Unable to unmarshal input: %s" % error) from None


def give_answer(answer):
    if isinstance(answer, bytes):
        return answer, "application/unknown"
    try:
        return to_json(answer), "application/json"
    except Exception as error:
        raise Fault("Runtime.MarshalError", "Unable to marshal response: %s" % error) from None


def flush():
    """Sends off a line without an end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass  # The function's own stream, or none.


def serve(function, address, alone):
    """Runs one call after another, for ever."""
    connection = Connection(address)
    while True:
        status, headers, body = connection.request("GET", "/invocation/next")
        if status != 200:
            raise ConnectionError("the Runtime API answers %d to a request for the next event" % status)
        request_id = current.request_id = headers["lambda-runtime-aws-request-id"]
        if alone:  # The variable is the process's.
            if "lambda-runtime-trace-id" in headers:
                os.environ["_X_AMZN_TRACE_ID"] = headers["lambda-runtime-trace-id"]
            else:
                os.environ.pop("_X_AMZN_TRACE_ID", None)
        try:
            try:
                answer = function(take_event(body), LambdaContext(headers))
            finally:
                flush()
            answer, content_type = give_answer(answer)
        except Exception as error:
            described = describe(error, request_id)
            log_error(described)
            connection.report("/invocation/%s/error" % request_id, described)
            del error, described
            continue
        del body
        status, _, _ = connection.request(
            "POST", "/invocation/%s/response" % request_id, answer, [("Content-Type", content_type)]
        )
        if status >= 500:
            raise ConnectionError("the Runtime API answers %d to a response" % status)
        del answer


def serve_many(function, address, count):
    """Runs that many calls at once, each in a thread. The first that cannot go on ends the process."""

    def run():
        try:
            serve(function, address, False)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    for _ in range(count - 1):
        threading.Thread(target=run, daemon=True).start()
    run()


# --- Compiled modules.


def cached_path(cache, source):
    return os.path.join(cache, source.lstrip("/") + "c")


class CachedLoader(importlib.machinery.SourceFileLoader):
    """Takes a module's code from the cache. The package does not change, so nothing is compared."""

    cache = ""

    def get_code(self, fullname):
        try:
            with open(cached_path(self.cache, self.path), "rb") as file:
                data = file.read()
            if data[:4] == MAGIC_NUMBER:
                return marshal.loads(memoryview(data)[4:])
        except (OSError, ValueError, EOFError, TypeError):
            pass
        return super().get_code(fullname)


def use_cache(cache, root):
    """Makes imports from the package's folder use the cache."""
    loader = type("Loader", (CachedLoader,), {"cache": cache})
    machinery = importlib.machinery
    extensions = (machinery.ExtensionFileLoader, machinery.EXTENSION_SUFFIXES)
    sources = (loader, machinery.SOURCE_SUFFIXES)
    compiled = (machinery.SourcelessFileLoader, machinery.BYTECODE_SUFFIXES)

    def hook(path):
        if path != root and not path.startswith(root + "/"):
            raise ImportError("not of the package", path=path)
        return machinery.FileFinder(path, extensions, sources, compiled)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()


def prepare(code, cache):
    """Compiles every module of the package, and this client, into the cache."""
    import py_compile
    import shutil

    own = os.path.join(cache, "client")
    shutil.copytree(os.path.dirname(os.path.abspath(__file__)), own, ignore=shutil.ignore_patterns("__pycache__"))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(os.path.join(own, os.path.basename(__file__)), doraise=True, invalidation_mode=unchecked)
    target = os.path.join(cache, "python")
    for folder, folders, files in os.walk(code):
        folders[:] = [f for f in folders if f not in ("__pycache__", "node_modules", ".git")]
        for name in files:
            if name.endswith(".py"):
                compile_module(os.path.join(folder, name), target)


def compile_module(path, target):
    try:
        with open(path, "rb") as file:
            compiled = compile(file.read(), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, OSError):
        return  # Reported when it is imported, if it ever is.
    to = cached_path(target, path)
    os.makedirs(os.path.dirname(to), exist_ok=True)
    with open(to, "wb") as file:
        file.write(MAGIC_NUMBER + marshal.dumps(compiled))


# --- The process.


def run_official(handler):
    """Runs AWS's client, if there is one that loads. It returns only if there is none."""
    try:
        if importlib.machinery.PathFinder.find_spec("awslambdaric") is None:
            return
        from awslambdaric import __main__ as official
        import runtime_client  # noqa: F401  Its compiled part may be for another version of Python.
    except ImportError as error:
        sys.stderr.write("awslambdaric does not load here, Covey's own client is used: %s\n" % error)
        return
    official.main(["awslambdaric", handler])
    sys.exit(0)


def main():
    if sys.argv[1:2] == ["--prepare"]:
        prepare(sys.argv[2], sys.argv[3])
        return
    root = os.environ["LAMBDA_TASK_ROOT"]
    sys.path[0] = root  # In place of the folder of this file.
    cache = os.environ.pop("_COVEY_LAMBDA_PYTHON_CACHE", "")
    if cache and os.path.isdir(cache):
        use_cache(cache, root)
    handler = os.environ["_HANDLER"]
    address = os.environ["AWS_LAMBDA_RUNTIME_API"]
    count = int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "1"))
    if count == 1:  # AWS's client takes several calls with several processes, and needs a part of AWS for it.
        run_official(handler)
    set_up_logging()
    try:
        function = load(handler)
    except Exception as error:
        described = describe(error)
        log_error(described)
        Connection(address).report("/init/error", described)
        sys.exit(1)
    if count == 1:
        serve(function, address, True)
    else:
        serve_many(function, address, count)
