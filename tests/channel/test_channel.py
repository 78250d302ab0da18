"""The driver's door: who has no ticket gets nowhere, and nobody who knocks disturbs the others.

The server listens on a port of loopback here, which anybody on the machine can reach.
"""

import asyncio
import logging
import os
import pickle
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial

import pytest
import support
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amltk import Comm, Scheduler, Task
from amltk.channel import exchange, wire
from amltk.channel.exchange import Exchange, Listening
from amltk.channel.line import Line
from amltk.channel.peer import Peer
from amltk.channel.ticket import Ticket, name_of
from amltk.channel.wire import Kind
from amltk.exceptions import CommConnectionError, UnprotectedWarning
from amltk.scheduling.services import RunAccess

exploded = []


class Bomb:
    """Tells when it is unpickled."""

    def __reduce__(self):
        return exploded.append, ("unpickled",)


class Door:
    """A run whose one call waits, with its ticket, for tests that knock at its door."""

    def __init__(self, **options):
        self.scheduler = Scheduler.with_threads(1)
        self.heard = []
        self.may_end = threading.Event()
        self.has_begun = threading.Event()
        self.ticket = None
        options = {"host": "127.0.0.1", **options}
        task = Task(self.wait, self.scheduler, plugins=[Comm.Plugin(**options)])
        task.on_message(lambda msg: self.heard.append(msg.data))
        task.on_request(lambda msg: msg.respond(msg.data))
        self.scheduler.on_start(task)
        self.exchange = None
        task.on_submitted(self.note_exchange)
        self.plugin = task.plugins[0]
        self.thread = threading.Thread(target=self.scheduler.run, kwargs={"timeout": 600})

    def note_exchange(self):
        listening = self.plugin.listening
        self.exchange = self.scheduler.service((Exchange, listening), lambda _: None)

    def wait(self, comm=None):
        self.ticket = comm._ticket
        self.has_begun.set()
        self.may_end.wait(600)
        with comm:  # it works after all that has happened
            return comm.request("the end", timeout=20)

    def __enter__(self):
        self.thread.start()
        assert self.has_begun.wait(20)
        support.wait_until(lambda: self.exchange is not None)
        return self

    def __exit__(self, *_error):
        self.may_end.set()
        self.thread.join()

    def knock(self):
        return socket.create_connection(self.ticket.address, timeout=20)

    def stranger(self, **changes):
        facts = ("address", "channel_id", "token", "driver", "max_bytes", "tls")
        return Ticket(**{name: changes.get(name, getattr(self.ticket, name)) for name in facts})

    def works(self):
        line = Line(self.stranger())
        line.send(Kind.MESSAGE, pickle.dumps("hello"), 20)
        line.close()
        return self.heard[-1] == "hello"


@pytest.fixture(scope="module")
def door():
    exploded.clear()
    with Door() as door:
        yield door
    assert exploded == []


def hang_up_of(sock):
    """Return what comes until the other side hangs up."""
    data = b""
    try:
        while more := sock.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return data


#: A Python that is not in somebody's own folder.
PYTHON_OF_ALL = shutil.which("python3", path=os.defpath) if sys.platform == "linux" else None


async def greeting_of(user):
    """Return how many bytes a user of this machine is greeted with who connects."""
    loop, name = asyncio.get_running_loop(), f"\0amltk-test-{os.getpid()}"
    house = Exchange(RunAccess(loop, 0, None, None), Listening())
    script = (
        "import socket\n"
        "knocking = socket.socket(socket.AF_UNIX)\n"
        f"knocking.connect({name!r})\n"
        "print(len(knocking.recv(100)))\n"
    )
    async with await loop.create_unix_server(lambda: Peer(house), path=name):
        knocking = await asyncio.create_subprocess_exec(
            PYTHON_OF_ALL, "-c", script, user=user, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, errors = await asyncio.wait_for(knocking.communicate(), 20)
        house.close()
    return 0 if b"ConnectionResetError" in errors else int(output)


@pytest.mark.skipif(
    PYTHON_OF_ALL is None or os.getuid() != 0,
    reason="only root can be another user, who needs a Python that all may run",
)
@pytest.mark.parametrize(("user", "n_bytes"), [(65534, 0), (0, wire.GREETING_BYTES)])
def test_another_user_of_the_machine_is_hung_up_on_at_once(user, n_bytes):
    assert asyncio.run(greeting_of(user)) == n_bytes


class TestStrangers:
    def test_a_wrong_token_is_refused(self, door):
        with pytest.raises(CommConnectionError, match="does not know this call"):
            Line(door.stranger(token=os.urandom(32)))
        assert door.works()

    def test_an_unknown_channel_is_refused(self, door):
        with pytest.raises(CommConnectionError, match="does not know this call"):
            Line(door.stranger(channel_id=os.urandom(16)))
        assert door.works()

    def test_the_token_of_one_channel_does_not_open_another(self, door):
        other = door.exchange.open(door.plugin, Scheduler.with_threads(1).traits)
        with pytest.raises(CommConnectionError):
            Line(door.stranger(channel_id=other.ticket.channel_id))
        other.forget()

    def test_a_proof_that_was_overheard_is_of_no_use(self, door):
        with door.knock() as first:
            greeting = first.recv(wire.GREETING_BYTES)
            nonce = greeting[len(wire.MAGIC) :]
            proof = wire.proof_of(door.ticket.token, b"worker", nonce, b"n" * 32)
            overheard = wire.MAGIC + door.ticket.channel_id + b"n" * 32 + proof
            first.sendall(overheard)
            assert len(first.recv(wire.PROOF_BYTES)) == wire.PROOF_BYTES
        with door.knock() as second:
            second.recv(wire.GREETING_BYTES)
            second.sendall(overheard)
            assert hang_up_of(second) == wire.REFUSAL

    def test_a_proof_cannot_be_sent_back_to_where_it_came_from(self):
        token, one, two = os.urandom(32), os.urandom(32), os.urandom(32)
        assert wire.proof_of(token, b"worker", one, two) != wire.proof_of(
            token, b"driver", one, two
        )

    def test_nothing_is_unpickled_before_the_handshake(self, door):
        with door.knock() as sock:
            sock.sendall(wire.frame(Kind.MESSAGE, 0, pickle.dumps(Bomb())))
            hang_up_of(sock)
        reply = wire.MAGIC + door.ticket.channel_id + os.urandom(64)
        with door.knock() as sock:
            sock.sendall(reply + wire.frame(Kind.MESSAGE, 0, pickle.dumps(Bomb())))
            hang_up_of(sock)
        assert door.works()
        assert exploded == []

    def test_who_says_nothing_is_dropped_after_a_while_and_disturbs_nobody(self, monkeypatch):
        monkeypatch.setattr(wire, "HANDSHAKE_S", 1.0)
        with Door() as door, door.knock() as silent:
            began = time.monotonic()
            assert door.works()
            assert len(hang_up_of(silent)) == wire.GREETING_BYTES
            assert time.monotonic() - began < 10

    def test_a_crowd_of_strangers_does_not_keep_workers_out(self, door):
        crowd = [door.knock() for _ in range(exchange.MAX_STRANGERS + 50)]
        try:
            assert door.works()
            support.wait_until(lambda: len(door.exchange._strangers) <= exchange.MAX_STRANGERS)
        finally:
            for sock in crowd:
                sock.close()

    def test_one_channel_has_no_more_connections_than_it_may(self, monkeypatch, door):
        monkeypatch.setattr(exchange, "MAX_PEERS", 2)
        lines = [Line(door.stranger()) for _ in range(2)]
        with pytest.raises(CommConnectionError):
            Line(door.stranger())
        for line in lines:
            line.close()


class Impostor:
    """Listens, and says what a driver would say that does not have the token."""

    def __init__(self, *words):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.words = words
        self.heard = b""
        self.thread = threading.Thread(target=self.serve)

    def serve(self):
        while True:
            try:
                sock, _ = self.server.accept()
            except OSError:
                return
            with sock, suppress(ConnectionResetError):
                sock.settimeout(20)
                for word in self.words:
                    sock.sendall(word)
                    self.heard = sock.recv(1 << 16)

    def __enter__(self):
        self.thread.start()
        return self.server.getsockname()

    def __exit__(self, *_error):
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join()


class TestImpostors:
    def test_a_worker_does_not_believe_who_does_not_know_its_token(self, door):
        impostor = Impostor(wire.MAGIC + b"n" * 32, b"p" * 32)
        refused = pytest.raises(CommConnectionError, match="not the driver of this call")
        with impostor as address, refused:
            Line(door.stranger(address=address))
        assert door.ticket.token not in impostor.heard

    def test_what_listens_there_may_be_something_else(self, door):
        refused = pytest.raises(CommConnectionError, match="no driver of amltk")
        with Impostor(b"HTTP/1.1 400 Bad Request\r\n" + b" " * 100) as address, refused:
            Line(door.stranger(address=address))

    def test_nobody_listening_is_told_at_once_with_the_address(self, door):
        address = ("127.0.0.1", support.free_port())
        with pytest.raises(
            CommConnectionError, match=f"reached at 127.0.0.1:{address[1]}.*refused"
        ):
            Line(door.stranger(address=address))

    def test_a_driver_on_another_host_that_listens_on_loopback_is_told_as_such(self, door):
        with pytest.raises(
            CommConnectionError, match=r"runs on elsewhere and this worker on .*host="
        ):
            Line(door.stranger(address=("127.0.0.1", support.free_port()), driver="elsewhere"))


FRAMES = st.builds(
    lambda length, kind, number, payload: (
        struct.pack(">IBI", len(payload) if length is None else length, kind, number) + payload
    ),
    st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    st.one_of(
        st.sampled_from([kind for kind in Kind if kind is not Kind.RAW]), st.integers(0, 255)
    ),
    st.integers(0, 2**32 - 1),
    st.one_of(st.binary(max_size=200), st.builds(pickle.dumps, st.integers() | st.text())),
)
QUIET = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
class TestFuzz:
    @QUIET
    @given(data=st.one_of(st.binary(min_size=1), st.binary().map(lambda b: wire.MAGIC + b)))
    def test_whatever_a_stranger_says_the_door_holds(self, door, data):
        with door.knock() as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            hang_up_of(sock)
        assert door.works()

    @QUIET
    @given(frames=st.lists(st.one_of(FRAMES, st.binary(max_size=50)), max_size=8))
    def test_whatever_a_worker_says_the_others_are_served(self, door, frames):
        logging.disable(logging.ERROR)  # what makes no sense is logged
        try:
            line = Line(door.stranger())
            sock = line._connection._sock
            sock.setblocking(True)
            try:
                sock.sendall(b"".join(frames))
                sock.shutdown(socket.SHUT_WR)
                hang_up_of(sock)
            except OSError:  # it was cut off
                pass
            line.abandon()
            assert door.works()
        finally:
            logging.disable(logging.NOTSET)

    def test_a_frame_that_is_too_large_is_not_waited_for(self, door, caplog):
        line = Line(door.stranger())
        sock = line._connection._sock
        sock.setblocking(True)
        sock.sendall(struct.pack(">IBI", door.ticket.max_bytes + 1, Kind.MESSAGE, 0))
        assert hang_up_of(sock) == b""
        line.abandon()
        assert door.works()
        assert any("no message" in record.message for record in caplog.records)
        caplog.clear()


# -------------------------------------------------------------------------- TLS and other hosts


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1 and its key, in one file."""
    pytest.importorskip("cryptography", reason="the extra tls is not installed")
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "driver")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "driver.pem"
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(pem)
    )
    return path


def trusting(path):
    return ssl.create_default_context(cafile=path)


def server_context(path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def talk(x, comm=None):
    with comm:
        for n in range(200):
            comm.send((n, b"x" * 10_000))
        return comm.request(x, timeout=20)


class TestTLS:
    def test_messages_travel_encrypted(self, certificate):
        plugin = Comm.Plugin(
            tls=server_context(certificate), worker_tls=partial(trusting, certificate)
        )
        task = Task(talk, Scheduler.with_processes(2), plugins=[plugin])
        heard, results = [], []
        task.on_message(lambda msg: heard.append(msg.data[0]))
        task.on_request(lambda msg: msg.respond(msg.data + 1))
        task.on_returned(results.append)
        task.scheduler.on_start(lambda: task(41))
        task.scheduler.run(timeout=50)
        assert (heard, results) == (list(range(200)), [42])

    def test_a_worker_that_does_not_trust_the_certificate_does_not_talk(self, certificate):
        plugin = Comm.Plugin(tls=server_context(certificate), worker_tls=ssl.create_default_context)
        task = Task(talk, Scheduler.with_processes(1), plugins=[plugin])
        told = []
        task.on_exception(told.append)
        task.scheduler.on_start(lambda: task(1))
        task.scheduler.run(timeout=50, end_on_exception=False)
        assert isinstance(told[0], CommConnectionError)
        assert "TLS failed" in str(told[0])

    def test_who_speaks_no_tls_disturbs_nobody(self, certificate):
        options = {
            "tls": server_context(certificate),
            "worker_tls": partial(trusting, certificate),
        }
        with Door(**options) as door:
            with door.knock() as sock:
                sock.sendall(b"plain words" * 100)
                hang_up_of(sock)
            assert door.works()

    def test_without_it_an_address_that_others_reach_is_warned_of(self):
        with pytest.warns(UnprotectedWarning, match="without TLS"):
            Comm.Plugin(host="0.0.0.0", advertise="driver.example")


def has_namespaces():
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    probe = f"amltk-probe{os.getpid()}"
    made = (
        subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False)
        if os.access("/usr/sbin/ip", os.X_OK)
        else None
    )
    if made is None or made.returncode:
        return False
    subprocess.run(["ip", "netns", "del", probe], check=True)
    return True


@pytest.fixture
def other_host():
    """A host beside this one: a network namespace, joined by a cable; yields both addresses."""
    if not has_namespaces():
        pytest.skip("network namespaces need root on Linux, and the command ip")
    network = f"10.231.{os.getpid() % 256}"  # of this test process alone
    name, here, there = f"amltk{os.getpid()}", f"{network}.1", f"{network}.2"
    cable, far = f"v{os.getpid()}a", f"v{os.getpid()}b"
    commands = [
        f"ip netns add {name}",
        f"ip link add {cable} type veth peer name {far} netns {name}",
        f"ip addr add {here}/24 dev {cable}",
        f"ip link set {cable} up",
        f"ip -n {name} addr add {there}/24 dev {far}",
        f"ip -n {name} link set {far} up",
        f"ip -n {name} link set lo up",
    ]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield name, here, there
    finally:
        subprocess.run(["ip", "link", "del", cable], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def where(x, comm=None):
    """Tell which addresses this worker's host has, by the comm and as the result."""
    said = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout
    with comm:
        comm.send(said)
        answer = comm.request(x, timeout=20)
        if x == 2:
            os.kill(os.getpid(), 9)
    return answer


@pytest.mark.slow
class TestOtherHosts:
    @pytest.fixture
    def cluster(self, other_host):
        """Dask's scheduler here, one worker on the other host."""
        distributed = pytest.importorskip("distributed")
        name, here, there = other_host
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with distributed.LocalCluster(
            n_workers=0, host=here, dashboard_address=support.ANY_PORT, protocol="tcp"
        ) as cluster:
            worker = subprocess.Popen(
                [
                    *("ip", "netns", "exec", name),
                    *(sys.executable, "-m", "distributed.cli.dask_worker"),
                    *(cluster.scheduler_address, "--nthreads", "1", "--host", there),
                    *("--no-dashboard", "--death-timeout", "60"),
                ],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                with distributed.Client(cluster) as client:
                    client.wait_for_workers(1, timeout=50)
                    yield client, here, there
            finally:
                worker.terminate()
                worker.wait(20)

    def test_a_worker_of_another_host_talks_to_the_driver(self, cluster):
        client, here, there = cluster
        with pytest.warns(UnprotectedWarning):
            plugin = Comm.Plugin(host=here)
        task = Task(where, Scheduler.with_dask(client), plugins=[plugin])
        heard = []
        task.on_message(lambda msg: heard.append(msg.data))
        task.on_request(lambda msg: msg.respond(msg.data * 10))
        task.on_comm_close(lambda: heard.append("closed"))
        results = []
        task.on_returned(results.append)
        task.on_exception(lambda error: results.append(type(error).__name__))
        task.scheduler.on_start(lambda: task(1))
        task.on_returned(lambda: task(2))
        task.scheduler.run(timeout=50, end_on_exception=False)
        assert there in heard[0]
        assert here not in heard[0]
        assert results == [10, "WorkerDiedError"]
        assert heard[1::2] == ["closed", "closed"]

    def test_one_that_cannot_reach_loopback_says_what_to_do(self, cluster):
        client, _, _ = cluster
        task = Task(where, Scheduler.with_dask(client), plugins=[Comm.Plugin()])
        told = []
        task.on_exception(told.append)
        task.scheduler.on_start(lambda: task(1))
        task.scheduler.run(timeout=50, end_on_exception=False)
        assert isinstance(told[0], CommConnectionError)
        assert "could not be reached at 127.0.0.1" in str(told[0])


def test_plugins_with_equal_settings_share_a_server(sequential):
    assert Comm.Plugin(host="127.0.0.1").listening == Listening(host="127.0.0.1")
    assert name_of(("127.0.0.1", 80)) == "127.0.0.1:80"
