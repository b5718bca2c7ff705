# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A SIMULATION of TrueNAS for tests, and no TrueNAS: its JSON-RPC over a real websocket on real TLS, answered from state.

It is strict: what the real API refuses it refuses, what it does not know is no method, and nothing is guessed. What it knows of
the real API was read and not tried on an appliance. Instances are run by an engine: in memory, or by the real local Incus.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import ssl
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.certificates import Authority
from support.truenas import frames
from support.truenas.dialects import dialect
from support.truenas.engine import Engine, MemoryEngine
from support.truenas.faults import Faults
from support.truenas.jobs import Job, Jobs
from support.truenas.methods import Call, Method, find
from support.truenas.nas import Nas
from support.truenas.state import EBUSY, NOT_LOGGED_IN, Invalid, Refused, State, User
from support.truenas.transcript import Transcript

SERVER = "simulated-truenas (for tests)"
MOST_BEFORE_LOGIN = 8192
MOST_AFTER_LOGIN = 65536
MOST_OF_FILES = 2097152
RUNNING, WAITING = 10, 10
LOGINS, LOGIN_SECONDS = 20, 60.0
IDLE_SECONDS = 60.0
API_KEY = "7-simulatedsimulatedsimulatedsimulatedsimulatedsimulated"


class Gone(Exception):
    """The connection is to end without an answer."""


def error_of(exc: Exception) -> dict[str, Any]:
    """Return how the middleware puts a failure into JSON-RPC; its trace may hold arguments, as the real one's."""
    trace = {"class": type(exc).__name__, "frames": [], "formatted": f"Traceback: {exc!r}", "repr": repr(exc)}
    if isinstance(exc, Invalid):
        data = {"error": 22, "errname": "EINVAL", "reason": str(exc), "trace": trace, "extra": exc.details}
        return {"code": -32602, "message": "Invalid params", "data": data}
    number = exc.number if isinstance(exc, Refused) else 14
    name = {
        2: "ENOENT",
        13: "EACCES",
        14: "EFAULT",
        16: "EBUSY",
        17: "EEXIST",
        22: "EINVAL",
        NOT_LOGGED_IN: "ENOTAUTHENTICATED",
    }
    named = name.get(number, f"E{number}")
    reason = f"[{named}] {exc}" if isinstance(exc, Refused) else str(exc)
    data = {"error": number, "errname": named, "reason": reason, "trace": trace, "extra": None}
    return {"code": -32001, "message": "Method call error", "data": data}


class Connection:
    """One websocket of a client."""

    def __init__(self, simulation: Simulation, stream: frames.Stream, address: str) -> None:
        self.simulation = simulation
        self.address = address
        self.user: User | None = None
        self.subscriptions: dict[str, str] = {}
        self.muted = False
        self.pings = 0
        self._stream = stream
        self._pending = 0
        self._slots = asyncio.Semaphore(RUNNING)
        self._tasks: set[asyncio.Task[None]] = set()

    def subscribe(self, event: str) -> str:
        """Have events of this kind told, from now on."""
        if event != "core.get_jobs":
            raise Refused(f"the simulation does not tell of {event}")
        ident = secrets.token_hex(8)
        self.subscriptions[ident] = event
        return ident

    def tell(self, event: str, message: Mapping[str, Any]) -> None:
        """Send an event to a client that wants it; from any thread."""
        if event in self.subscriptions.values() and not self.muted:
            self.simulation.soon(self._stream.send_text, json.dumps(message))

    def drop(self) -> None:
        """Break the connection off, without a word."""
        self._stream.abort()

    async def serve(self) -> None:
        """Answer until the connection ends."""
        watch = asyncio.create_task(self._cut_when_idle())
        try:
            while True:
                message = await self._stream.receive(MOST_OF_FILES, self._ping)
                if self.muted:
                    continue
                if len(message) > (MOST_AFTER_LOGIN if self.user else MOST_BEFORE_LOGIN):
                    self._check_size(message)
                task = asyncio.create_task(self._take(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        except frames.Closed as exc:
            await self._stream.close(exc.code, str(exc))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            watch.cancel()
            self._stream.abort()

    def _ping(self) -> bool:
        self.pings += 1
        return not self.muted

    async def _cut_when_idle(self) -> None:
        """Cut a connection on which the server has sent nothing for so long, as its proxy does."""
        idle = self.simulation.idle_seconds
        while (left := self._stream.sent + idle - time.monotonic()) > 0:
            await asyncio.sleep(left)
        self.drop()

    def _check_size(self, message: bytes) -> None:
        if self.user is None:
            raise frames.Closed(1007, "Max message length is 8 kB")
        with contextlib.suppress(ValueError):
            request = json.loads(message)
            if isinstance(request, dict) and request.get("method") == "filesystem.file_receive":
                return
        raise frames.Closed(1009, "Max message length is 64 kB")

    async def _take(self, message: bytes) -> None:
        try:
            request = json.loads(message)
        except ValueError:
            request = None
        if request is None or isinstance(request, list):
            self._answer(None, {"error": {"code": -32700, "message": "Parse error"}})
            return
        name, params = (request.get("method"), request.get("params", [])) if isinstance(request, dict) else (None, None)
        number = request.get("id") if isinstance(request, dict) else None
        known = isinstance(request, dict) and set(request) <= {"jsonrpc", "id", "method", "params"}
        if not known or request.get("jsonrpc") != "2.0" or not isinstance(name, str) or not isinstance(params, list):
            self._answer(number, {"error": {"code": -32600, "message": "Invalid request"}})
            return
        if self._pending >= RUNNING + WAITING or self.simulation.faults.take("too_many", name):
            self._answer(number, {"error": {"code": -32000, "message": "Too many concurrent calls"}})
            return
        self._pending += 1
        self.simulation.most_pending = max(self.simulation.most_pending, self._pending)
        try:
            async with self._slots:
                work = self.simulation.execute, self, name, params
                reply = await asyncio.get_running_loop().run_in_executor(self.simulation.pool, *work)
        except Gone:
            self.drop()
            return
        finally:
            self._pending -= 1
        if "id" in request:
            self._answer(number, reply, name)
        job = self.simulation.jobs.get(reply["result"]) if isinstance(reply.get("result"), int) else None
        if job:
            job.answered.set()

    def _answer(self, number: Any, reply: Mapping[str, Any], name: str = "") -> None:
        if self.muted:
            return
        fault = self.simulation.faults.take("oversize", name) if name else None
        if fault and "result" in reply:
            reply = {"result": "x" * fault.size}
        text = json.dumps({"jsonrpc": "2.0", "id": number, **reply})
        if name and self.simulation.faults.take("garbage", name):
            text = "<html>"
        if name and (fault := self.simulation.faults.take("pieces", name)):
            self._stream.send_pieces(text, fault.size)
        else:
            self._stream.send_text(text)


class Simulation:
    """A simulated TrueNAS on 127.0.0.1; as a context it runs, on a thread of its own."""

    def __init__(
        self,
        folder: Path,
        version: str = "25.10",
        engine: Engine | None = None,
        users: Sequence[User] = (User("root", API_KEY),),
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        busy_seconds: float | None = None,
        transcript: str | None = None,
    ) -> None:
        self.engine = engine or MemoryEngine()
        self.state = State(dialect(version), self.engine, {user.name: user for user in users})
        self.nas = Nas(self.state)
        self.faults = Faults()
        self.jobs = Jobs(self._tell)
        self.idle_seconds = idle_seconds
        #: How long a refused login sleeps; None is as long as the real one's.
        self.busy_seconds = busy_seconds
        self.transcript = Transcript(transcript)
        self.pool = ThreadPoolExecutor(64, thread_name_prefix="simulation")
        self.connections: list[Connection] = []
        #: How many websockets there have been, and how many logins were tried.
        self.opened = self.logins = 0
        #: The most calls that were under way at once on one connection.
        self.most_pending = 0
        #: Every request: its method and its arguments.
        self.seen: list[tuple[str, Any]] = []
        #: Methods that were asked for and that the simulation does not have.
        self.unknown: set[str] = set()
        self._clock = clock
        self._attempts: dict[str, deque[float]] = defaultdict(deque)
        self._tokens: dict[str, int] = {}
        self.authority = Authority(folder, "authority of a simulated TrueNAS")
        self.pair = self.authority.server("simulated", "127.0.0.1", "localhost")
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated-truenas", daemon=True)
        self.port = 0

    # -- what tests ask for

    @property
    def ca_file(self) -> str:
        """The certificate of the authority that signed the server's."""
        return str(self.authority.cert_file)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the server's certificate."""
        from cryptography.hazmat.primitives import hashes

        return self.pair.cert.fingerprint(hashes.SHA256()).hex()

    def options(self, user: str = "root", **more: object) -> dict[str, object]:
        """Return the connection options of the collection for this server."""
        found = self.state.users[user]
        return {
            "backend": "truenas",
            "truenas_host": "127.0.0.1",
            "truenas_port": self.port,
            "truenas_username": found.name,
            "truenas_api_key": found.api_key,
            "truenas_ca_cert": self.ca_file,
            **more,
        }

    def calls(self, method: str) -> list[Any]:
        """Return the arguments of every request for a method."""
        return [params for name, params in list(self.seen) if name == method]

    def drop_all(self) -> None:
        """Break all connections off."""
        self.soon(lambda: [connection.drop() for connection in list(self.connections)])

    def restart(self) -> None:
        """Restart the middleware: its jobs are forgotten, the next is number one again, connections break."""
        self.jobs.forget()
        self.drop_all()

    # -- running

    def __enter__(self) -> Simulation:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.engine.close()

    def soon(self, work: Callable[..., object], *arguments: Any) -> None:
        """Have the server's own thread do something."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(work, *arguments)

    def _run(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair.cert_file, self.pair.key_file)
        loop = self._loop
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            loop.run_forever()
        finally:
            server.close()
            for connection in list(self.connections):
                connection.drop()
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = frames.Stream(reader, writer)
        try:
            request = await stream.request()
            path = urlsplit(request.target).path
            if self.faults.take("bad_gateway"):
                await stream.respond(502, b"<html>Bad Gateway</html>", SERVER)
            elif path == "/api/versions" and self.state.dialect.model_versions:
                await stream.respond(200, json.dumps(self.state.dialect.model_versions).encode(), SERVER)
            elif path.startswith("/_download/"):
                await stream.respond(*await self._hand_out(request.target), SERVER)
            elif path == "/api/current" and self.state.dialect.release > (24, 10) and request.key:
                await stream.upgrade(request.key, SERVER)
                await self._serve_websocket(stream, str(writer.get_extra_info("peername")[0]))
            else:
                await stream.respond(404, b"not found", SERVER)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        except asyncio.CancelledError:
            # the simulation ends
            return
        finally:
            stream.abort()

    async def _serve_websocket(self, stream: frames.Stream, address: str) -> None:
        connection = Connection(self, stream, address)
        self.opened += 1
        self.connections.append(connection)
        try:
            await connection.serve()
        finally:
            self.connections.remove(connection)

    # -- answering

    def execute(self, connection: Connection, name: str, params: list[Any]) -> dict[str, Any]:
        """Do what was asked and return the result or the error."""
        self.seen.append((name, params))
        self.transcript.note(self.state.dialect.version, name, params)
        faults = self.faults
        if faults.take("drop_request", name):
            raise Gone
        if faults.take("mute", name):
            connection.muted = True
        if faults.take("expire", name):
            connection.user = None
        try:
            reply: dict[str, Any] = {"result": self._result(connection, name, params)}
        except LookupError:
            self.unknown.add(name)
            reply = {"error": {"code": -32601, "message": "Method does not exist"}}
        except Exception as exc:  # noqa: BLE001  # the middleware turns every failure into an answer
            reply = {"error": error_of(exc)}
        if faults.take("drop_answer", name):
            raise Gone
        return reply

    def _result(self, connection: Connection, name: str, params: list[Any]) -> Any:
        release = self.state.dialect.release
        method = find(name, release)
        if method is None:
            raise LookupError(name)
        if not method.login:
            self._limit(connection, name)
        elif connection.user is None:
            raise Refused("Not authenticated", NOT_LOGGED_IN)
        elif not connection.user.may(method.roles):
            raise Refused("Not authorized", 13)
        call = Call(self, connection, connection.user)
        if fault := self.faults.take("fail", name):
            raise Refused(fault.words, fault.number)
        if method.job:
            return self.start_job(method, params, call).number
        return method.work(call, *method.arguments(params, release))

    def _limit(self, connection: Connection, name: str) -> None:
        """Refuse too many calls without a login from one address; the good ones count too."""
        if connection.user is not None:
            return
        if name == "auth.login_ex":
            self.logins += 1
        attempts, now = self._attempts[f"{name} {connection.address}"], self._clock()
        while attempts and attempts[0] <= now - LOGIN_SECONDS:
            attempts.popleft()
        if len(attempts) >= LOGINS or (name == "auth.login_ex" and self.faults.take("busy", name)):
            time.sleep(random.uniform(1, 10) if self.busy_seconds is None else self.busy_seconds)
            raise Refused("Rate Limit Exceeded", EBUSY)
        attempts.append(now)

    def start_job(self, method: Method, params: list[Any], call: Call) -> Job:
        """Start the job of a method; what is wrong with its arguments is found inside it."""
        needed = [name for name, rule in method.params if rule.default is not None and not rule.null]
        if not params and needed:
            raise Refused("Error handling job lock")
        lock = method.lock(params) if method.lock else None
        assert call.user

        def work(job: Job) -> Any:
            arguments = method.arguments(params, self.state.dialect.release)
            faults, name = self.faults, method.name
            if faults.take("drop_job", name):
                job.answered.wait(5)
                self.drop_all()
            if fault := faults.take("slow_job", name):
                fault.release.wait(fault.seconds)
            if faults.take("vanish", name):
                job.answered.wait(5)
                self.restart()
                raise Refused("the middleware was restarted")
            if fault := faults.take("fail_job", name):
                raise Refused(fault.words, fault.number)
            result = method.work(Call(self, call.connection, call.user, job), *arguments)
            if fault := faults.take("fail_late", name):
                raise Refused(fault.words, fault.number)
            return result

        return self.jobs.start(method.name, params, call.user.name, lock, work)

    def _tell(self, what: str, job: Job) -> None:
        # a job that a restart has forgotten tells nothing
        if self.jobs.get(job.number) is not job:
            return
        message = {
            "jsonrpc": "2.0",
            "method": "collection_update",
            "params": {"msg": what, "collection": "core.get_jobs", "id": job.number, "fields": job.record()},
        }
        for connection in list(self.connections):
            user = connection.user
            if user and (user.may(("FULL_ADMIN",)) or user.name == job.owner):
                connection.tell("core.get_jobs", message)

    # -- downloads

    def download_url(self, job: Job) -> str:
        """Return where the output of a job is handed out, once."""
        token = secrets.token_urlsafe(16)
        self._tokens[token] = job.number
        return f"/_download/{job.number}?auth_token={token}"

    async def _hand_out(self, target: str) -> tuple[int, bytes]:
        parts = urlsplit(target)
        token = parse_qs(parts.query).get("auth_token", [""])[0]
        number = self._tokens.pop(token, None)
        if number is None or parts.path != f"/_download/{number}":
            return 403, b"not authorized"
        job = self.jobs.get(number)
        if job is None:
            return 404, b"no such job"
        await asyncio.get_running_loop().run_in_executor(self.pool, job.done.wait, 10)
        return (200, job.pipe) if job.pipe is not None else (500, b"the job failed")
