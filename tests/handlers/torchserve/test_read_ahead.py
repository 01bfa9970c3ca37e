"""A socket that reads ahead returns the same bytes, and the socket of an unknown worker is left alone."""

import socket
import threading

import pytest
from ts.context import Context
from ts.protocol.otf_message_handler import _retrieve_buffer

from handlers.errors import ModelError
from handlers.opserve_handler import OpserveHandler
from handlers.torchserve.configuration import READ_AHEAD_SWITCH, is_enabled
from handlers.torchserve.read_ahead import BUFFER_BYTES, end_at_next_read, read_ahead
from handlers.torchserve.version import is_known


@pytest.mark.parametrize("sizes", [[4, 36, 4, 1, 0, 4], [4, BUFFER_BYTES, 4], [1, 5 * BUFFER_BYTES + 3, 4], [800_000]])
def test_bytes_come_in_order_whatever_their_sizes(pair, sizes):
    writer, reader = pair
    sent = bytes(index * 7 % 251 for index in range(sum(sizes)))
    read_ahead(reader)
    thread = threading.Thread(target=writer.sendall, args=(sent,))
    thread.start()
    got = b"".join(bytes(_retrieve_buffer(reader, size)) for size in sizes)
    thread.join()
    assert got == sent


def test_it_waits_for_the_requested_bytes_and_not_for_more(pair):
    writer, reader = pair
    read_ahead(reader)
    writer.sendall(b"ab")
    assert reader.recv(2) == b"ab"
    threading.Timer(0.05, writer.sendall, (b"d",)).start()
    writer.sendall(b"c")
    assert reader.recv(2) == b"cd"


def test_the_end_of_the_stream_is_still_an_empty_result(pair):
    writer, reader = pair
    read_ahead(reader)
    writer.sendall(b"abc")
    writer.close()
    assert [reader.recv(2), reader.recv(2), reader.recv(2)] == [b"ab", b"c", b""]


def test_it_is_the_same_object_and_still_writes(pair):
    writer, reader = pair
    read_ahead(reader)
    assert isinstance(reader, socket.socket)
    reader.sendall(b"answer")
    assert writer.recv(6) == b"answer"


class Answers:
    """A model without responses."""

    broken = None

    def prepare(self, requests):
        return []

    run = encode = prepare


def handler_of(version: str) -> OpserveHandler:
    handler = OpserveHandler()
    handler.model = Answers()
    handler._replaces_reader = is_enabled(READ_AHEAD_SWITCH) and is_known(version)
    return handler


def context_with(connection) -> Context:
    context = Context("m", "", {}, 1, None, "0.12.0")
    context.cl_socket = connection
    context.request_processor = [type("Headers", (), {"get_request_property": lambda self, name: None})()]
    return context


def reads_ahead(connection) -> bool:
    return type(connection) is not socket.socket


def test_the_first_batch_has_the_workers_socket_read_ahead(pair):
    handler_of("0.12.0").handle([], context_with(pair[1]))
    assert reads_ahead(pair[1]) and not reads_ahead(pair[0])


@pytest.mark.parametrize("version", ["0.12.1", "0.11.0", None])
def test_other_versions_are_left_alone(pair, version):
    handler_of(version).handle([], context_with(pair[1]))
    assert not reads_ahead(pair[1])


def test_a_socket_with_a_timeout_is_left_alone(pair):
    pair[1].settimeout(5)
    handler_of("0.12.0").handle([], context_with(pair[1]))
    assert not reads_ahead(pair[1])


def test_a_worker_that_answers_in_another_thread_is_left_alone(pair):
    thread = threading.Thread(target=handler_of("0.12.0").handle, args=([], context_with(pair[1])))
    thread.start()
    thread.join()
    assert not reads_ahead(pair[1])


@pytest.mark.parametrize("connection", [None, object()])
def test_anything_but_a_socket_is_left_alone(connection):
    assert handler_of("0.12.0").handle([], context_with(connection)) == []


def test_one_variable_switches_it_off(pair, monkeypatch):
    monkeypatch.setenv("OPSERVE_READ_AHEAD", "off")
    handler_of("0.12.0").handle([], context_with(pair[1]))
    assert not reads_ahead(pair[1])
    monkeypatch.setenv("OPSERVE_READ_AHEAD", "no")
    with pytest.raises(ModelError, match="OPSERVE_READ_AHEAD: expected on or off, got 'no'"):
        handler_of("0.12.0")


@pytest.mark.parametrize("ahead", [False, True])
def test_the_last_response_is_sent_before_the_process_ends(pair, ahead):
    server, worker = pair
    server.sendall(b"next")
    if ahead:
        read_ahead(worker)
        assert worker.recv(1) == b"n"
    end_at_next_read(worker)
    worker.sendall(b"answer")
    with pytest.raises(SystemExit) as end:
        worker.recv(1)
    assert (end.value.code, server.recv(9)) == (1, b"answer")


def test_without_a_connection_it_ends_at_once():
    with pytest.raises(SystemExit):
        end_at_next_read(None)
