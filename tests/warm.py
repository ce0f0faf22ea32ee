"""A Python that has imported already, as the `python` of recipes under test.

A recipe begins tens of commands. Each imports torch and more for seconds, then works on tiny data for much less.
`warm.py serve SOCKET` is one interpreter that has imported what they need. `warm.py ask SOCKET ARGUMENTS` has it
forked, and the fork runs the module or the script as its main program, with the arguments, folder, environment and
streams of the caller. tests/egs/test_ptb_recipe.py, and all recipes in make test-all, run with the real one.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys

PRELOAD = ("speech", "vision", "language", "reporting")


def preload():
    import importlib
    import pkgutil

    for name in ("torch._dynamo", "scipy.signal", "matplotlib.pyplot"):
        importlib.import_module(name)
    for package in PRELOAD:
        for module in pkgutil.iter_modules(importlib.import_module(f"irl.{package}").__path__):
            importlib.import_module(f"irl.{package}.{module.name}")


def serve(path):
    """Fork for each caller, until the standard input is closed."""
    preload()
    gc.freeze()  # or each fork would copy all pages when it looks for garbage
    running = 0
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path}.new")
        server.listen()
        os.rename(f"{path}.new", path)
        while server in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            running += 1
            if os.fork() == 0:
                server.close()
                return attend(connection)
            connection.close()
            while running and os.waitpid(-1, os.WNOHANG)[0]:
                running -= 1


def attend(connection):
    """Fork the program, tell the caller its process id and, when it has ended, its status."""
    _, streams, *_ = socket.recv_fds(connection, 1, 3)
    asked = json.loads(connection.makefile("rb").read())
    pid = os.fork()
    if pid == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        # New ones: the old know whether their files could be rewound.
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
        sys.stderr = open(2, "w", closefd=False, errors="backslashreplace", buffering=1)
        return become(**asked)
    connection.send(pid.to_bytes(4, "big"))
    connection.send(os.waitpid(pid, 0)[1].to_bytes(4, "big"))
    os._exit(0)


def become(arguments, folder, environment):
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if arguments[0] == "-m":
        sys.path[0], sys.argv = folder, ["-m", *arguments[2:]]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = os.path.dirname(os.path.abspath(arguments[0])), arguments
        runpy.run_path(arguments[0], run_name="__main__")


def ask(path, *arguments):
    """Run in a fork, and end as it ends."""
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket.send_fds(connection, [b"."], [0, 1, 2])
        connection.sendall(json.dumps(asked).encode())
        connection.shutdown(socket.SHUT_WR)
        pid = int.from_bytes(connection.recv(4), "big")
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        status = os.waitstatus_to_exitcode(int.from_bytes(connection.recv(4), "big"))
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
