"""The gRPC server: its options, its address, health and reflection."""

import asyncio
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from bbopt.errors import InvalidError, UnavailableError
from bbopt_server.rpc.handlers import Traffic, generic_handlers
from bbopt_server.rpc.methods import Stream, Unary

TELL_HEALTH, SUGGEST_HEALTH = "bbopt.Tell", "bbopt.Suggest"
_MIB = 1024 * 1024

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", 4 * _MIB),
    ("grpc.max_send_message_length", 16 * _MIB),
    ("grpc.max_metadata_size", 8 * 1024),
    ("grpc.absolute_max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients ping every 20 s. The spelling min_recv_ping_... is silently ignored.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_allowed_incoming_connections", 2000),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.max_connection_age_ms", 1_800_000),
    ("grpc.max_connection_age_grace_ms", 30_000),
    # With it a second server would silently share the port.
    ("grpc.so_reuseport", 0),
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a loopback address and a port, 0 for any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Read ``host:port``.

        Raises:
            InvalidError: The text is no such thing, or the host is not a loopback one:
                anybody who reaches the port may do anything.
        """
        host, separator, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise InvalidError.of("listen", f"must look like 127.0.0.1:50151, not {text!r}")
        if not _is_loopback(host):
            raise InvalidError.of(
                "listen",
                f"must be a loopback address such as 127.0.0.1, not {host!r}: this version "
                "has no authentication. Reach it from elsewhere through an SSH tunnel",
            )
        return cls(host, int(port))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Unregistered:
    """A server to generated code, which finds its methods by name only: with every call gRPC
    would begin anew to wait for each method of its registry.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, *_: object) -> None:
        """Leave the registry empty."""


class RpcServer:
    """One gRPC server over a table of methods."""

    def __init__(self, table: Mapping[str, Mapping[str, Unary | Stream]]) -> None:
        self.traffic = Traffic()
        self._server = grpc.aio.server(options=OPTIONS)
        self._server.add_generic_rpc_handlers(tuple(generic_handlers(table, self.traffic)))
        self._health = health.aio.HealthServicer()
        unregistered = _Unregistered(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, unregistered)
        names = (*table, health.SERVICE_NAME, reflection.SERVICE_NAME)
        # Only on loopback addresses, which are the only ones there are.
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(names), unregistered
        )

    async def start(self, address: Address) -> Address:
        """Begin to listen; return the address with the port that it got.

        Raises:
            UnavailableError: The port is taken.
        """
        try:
            port = self._server.add_insecure_port(str(address))
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot listen on {address}: the port is taken, as by another server, or "
                "needs rights that this user does not have"
            ) from error
        await self._server.start()
        return Address(address.host, port)

    async def set_health(self, name: str, *, is_serving: bool) -> None:
        """Say whether a part of the service answers; ``""`` is all of it."""
        state = health_pb2.HealthCheckResponse
        await self._health.set(name, state.SERVING if is_serving else state.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no more calls and give those that run some time to end."""
        await asyncio.shield(asyncio.ensure_future(self._server.stop(grace_s)))
